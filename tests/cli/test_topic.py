"""Topics on the command line."""

import json
from pathlib import Path

import pytest

import logstore
from cli import run
from logstore.groups.requests import OffsetAndMetadata


def test_a_topic_is_created_listed_described_altered_and_deleted(tmp_path: Path) -> None:
    run("topic", "create", "orders", "--partitions", 3, "--set", "retention.ms=1000", "--data", tmp_path)
    run("produce", "orders", "--data", tmp_path, stdin=b"a\nb\n")
    assert json.loads(run("topic", "list", "--json", "--data", tmp_path).stdout)["partitions"] == 3
    listed = run("topic", "list", "--data", tmp_path).stdout
    assert "orders" in listed
    assert "retention.ms=1000" in listed

    run(
        "topic",
        "alter",
        "orders",
        "--partitions",
        4,
        "--set",
        "retention.bytes=5",
        "--unset",
        "retention.ms",
        "--data",
        tmp_path,
    )
    described = json.loads(run("topic", "describe", "orders", "--json", "--data", tmp_path).stdout)
    assert described["settings"] == {"retention.bytes": "5"}
    assert [row["log_end_offset"] for row in described["partition_list"]] == [2, 0, 0, 0]
    text = run("topic", "describe", "orders", "--all", "--data", tmp_path).stdout
    assert "retention.ms=604800000" in text
    assert "4 partitions" in text

    run("topic", "delete", "orders", "--yes", "--data", tmp_path)
    assert run("topic", "list", "--data", tmp_path).stdout == "there are no topics\n"
    assert "no topic 'orders'" in run("topic", "describe", "orders", "--data", tmp_path, status=2).stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["create", "bad name"], "is not a topic name"),
        (["create", "t"], "already exists"),
        (["create", "u", "--partitions", "0"], "a topic has 1 to"),
        (["create", "u", "--set", "retention.ms"], "NAME=VALUE"),
        (["create", "u", "--set", "retention.ms=soon"], "retention.ms"),
        (["create", "u", "--set", "retentoin.ms=1"], "did you mean retention.ms"),
        (["alter", "t"], "nothing to alter"),
        (["alter", "t", "--partitions", "1"], "only become more"),
        (["alter", "u", "--partitions", "2"], "no topic 'u'"),
        (["delete", "u"], "no topic 'u'"),
        (["describe"], "Missing argument"),
        (["bogus"], "No such command"),
    ],
)
def test_wrong_use_is_an_error_in_words(tmp_path: Path, args: list[str], said: str) -> None:
    run("topic", "create", "t", "--partitions", 2, "--data", tmp_path)
    extra = [] if args == ["bogus"] else ["--data", tmp_path]
    assert said in run("topic", *args, *extra, status=2).stderr


def test_deleting_or_altering_makes_no_directory(tmp_path: Path) -> None:
    run("topic", "delete", "t", "--data", tmp_path / "none", status=2)
    run("topic", "list", "--data", tmp_path / "none", status=2)
    assert not (tmp_path / "none").exists()


def test_retention_says_for_each_segment_why_it_stays_and_when_it_goes(tmp_path: Path) -> None:
    run("topic", "create", "t", "--set", "retention.ms=3600000", "--set", "segment.bytes=300", "--data", tmp_path)
    for number in range(6):
        run("produce", "t", "--data", tmp_path, stdin=b"record %d\n" % number * 5)
    rows = [json.loads(line) for line in run("retention", "explain", "--json", "--data", tmp_path).stdout.splitlines()]
    assert len(rows) > 1
    assert [row["base_offset"] for row in rows] == sorted(row["base_offset"] for row in rows)
    assert [row["is_active"] for row in rows] == [False] * (len(rows) - 1) + [True]
    assert all(row["due_ms"] is not None and "retention.ms=3600000" in row["why"] for row in rows[:1])
    assert "within retention.ms=3600000" in run("retention", "explain", "t", "--data", tmp_path).stdout
    run("retention", "explain", "u", "--data", tmp_path, status=2)


def test_retention_says_which_groups_have_not_consumed_a_segment(tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store:
        store.create_topic("work", cleanup_policy="consumed", consumed_groups="a,b")
        store.log("work").append([b"value"] * 10)
        store.log("work").roll()
        store.groups.commit("a", {("work", 0): OffsetAndMetadata(10)})
        store.groups.commit("b", {("work", 0): OffsetAndMetadata(3)})
    explained = run("retention", "explain", "work", "--data", tmp_path).stdout
    assert "group b is at offset 3" in explained and "group a" not in explained


def test_a_topic_is_not_deleted_unasked_where_there_is_nobody_to_ask(tmp_path: Path) -> None:
    run("produce", "t", "--data", tmp_path, stdin=b"a\n")
    assert "--yes" in run("topic", "delete", "t", "--data", tmp_path, stdin=b"y\n", status=2).stderr
    assert run("consume", "t", "--data", tmp_path).stdout == "a\n"
    run("topic", "delete", "t", "--yes", "--data", tmp_path)
