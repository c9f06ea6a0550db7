"""Commands on a cluster, which a broker of logstore is: the same as on a directory, by --bootstrap."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import logstore.testing
from cli import run
from logstore.client.partitioner import partition_for_key
from logstore.errors import InvalidRecord
from logstore.testing import Broker
from waits import wait_until

pytest.importorskip("confluent_kafka", reason="needs the extra kafka")


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with logstore.testing.broker(auto_create_topics_enable=False) as running:
        yield running


@pytest.fixture
def on(broker: Broker, request: pytest.FixtureRequest) -> tuple[str, str]:
    return "--bootstrap", broker.bootstrap


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A topic's, or a group's, of this test alone."""
    return str(request.node.name)


def test_topics_are_created_listed_described_altered_and_deleted(on: tuple[str, str], name: str):
    created = json.loads(
        run("topic", "create", name, "--partitions", 2, "--set", "retention.ms=5000", "--json", *on).output
    )
    assert (created["topic"], created["partitions"], created["settings"]) == (name, 2, {"retention.ms": "5000"})
    listed = [json.loads(line) for line in run("topic", "list", "--json", *on).output.splitlines()]
    assert created in listed
    altered = run("topic", "alter", name, "--partitions", 3, "--unset", "retention.ms", "--json", *on)
    assert json.loads(altered.output) == {**created, "partitions": 3, "settings": {}}
    run("produce", name, "--key-separator", ":", *on, stdin=b"a:1\na:2\n")
    found = json.loads(run("topic", "describe", name, "--json", *on).output)["partition_list"]
    assert sorted(row["offsets"] for row in found) == [0, 0, 2]
    assert {row["size"] for row in found} == {None}
    assert "partition" in run("topic", "describe", name, *on).output
    run("topic", "delete", name, "--yes", *on)
    assert "there is no topic" in run("topic", "describe", name, *on, status=2).output


def test_lines_become_records_and_are_printed(broker: Broker, on: tuple[str, str], name: str):
    broker.create_topic(name, 3)
    summary = json.loads(run("produce", name, "--key-separator", ":", "--json", *on, stdin=b"a:1\nb:2\na:3\n").output)
    assert (summary["topic"], summary["records"], summary["size"]) == (name, 3, 9)
    assert sum(row["next_offset"] - row["first_offset"] for row in summary["partitions"]) == 3
    printed = run("consume", name, "--format", r"{key}={value}\n", *on).output
    assert sorted(printed.splitlines()) == ["a=1", "a=3", "b=2"]
    assert [(record.key, record.value) for record in broker.records(name) if record.key == b"a"] == [
        (b"a", b"1"),
        (b"a", b"3"),
    ]


def test_where_printing_begins_and_ends(broker: Broker, on: tuple[str, str], name: str):
    broker.create_topic(name)
    run("produce", name, "--compression", "zstd", *on, stdin=b"".join(b"%d\n" % number for number in range(10)))
    assert run("consume", name, "--from", 7, *on).output == "7\n8\n9\n"
    assert run("consume", name, "--from", "latest", *on).output == ""
    assert run("consume", name, "--from", "1970-01-02", "--max-records", 2, *on).output == "0\n1\n"
    assert run("consume", name, "--follow", "--max-records", 10, *on).output.count("\n") == 10
    assert "11" in run("consume", name, "--from", 11, *on, status=2).output
    first = json.loads(run("consume", name, "--max-records", 1, "--json", *on).output)
    assert (first["offset"], first["value"], first["partition"]) == (0, "0", 0)


def test_a_topic_that_is_missing_is_created_by_producing(broker: Broker, on: tuple[str, str], name: str):
    assert (
        f"created topic {name} with 2 partitions" in run("produce", name, "--partitions", 2, *on, stdin=b"x\n").output
    )
    assert [record.value for record in broker.records(name)] == [b"x"]


def test_a_line_that_cannot_be_sent_is_named(broker: Broker, on: tuple[str, str], name: str):
    broker.create_topic(name)
    told = run("produce", name, "--key-separator", ":", *on, stdin=b"a:1\nnothing\nb:2\n", status=2).output
    assert "error: line 2 has no key" in told and "1 records are stored" in told
    assert [record.value for record in broker.records(name)] == [b"1"]


def test_where_the_cluster_fails_it_is_told_how_many_records_are_stored(
    broker: Broker, on: tuple[str, str], name: str, monkeypatch: pytest.MonkeyPatch
):
    broker.create_topic(name, 2)

    def fail(records: object) -> None:
        raise InvalidRecord("no room in here")

    good, bad = b"a", b"d"
    assert partition_for_key(good, 2) != partition_for_key(bad, 2)
    store = broker._runner._running.store  # type: ignore[attr-defined]
    monkeypatch.setattr(store.log(name, partition_for_key(bad, 2)), "append_batch", fail)
    told = run("produce", name, "--key-separator", ":", *on, stdin=b"a:1\na:2\nd:3\na:4\n", status=2).output
    assert "error: " in told and "3 records are stored" in told
    assert [record.value for record in broker.records(name)] == [b"1", b"2", b"4"]


def test_groups_are_shown_and_moved(broker: Broker, on: tuple[str, str], name: str):
    broker.create_topic(name, 2)
    run("produce", name, "--key-separator", ":", *on, stdin=b"a:1\na:2\na:3\n")
    moved = run("group", "reset-offsets", name, "--topic", name, "--to-earliest", "--execute", "--json", *on).output
    assert [json.loads(line)["offset"] for line in moved.splitlines()] == [0, 0]
    assert json.loads(run("group", "lag", name, "--json", *on).output)["lag"] == 3
    run("group", "reset-offsets", name, "--all-topics", "--to-time", "1970-01-02", "--execute", *on)
    run("group", "reset-offsets", name, "--all-topics", "--to-latest", "--execute", *on)
    assert f"group {name} is 0 offsets behind" in run("group", "lag", name, *on).output
    listed = [json.loads(line) for line in run("group", "list", "--json", *on).output.splitlines()]
    assert [(row["state"], row["topics"]) for row in listed if row["group"] == name] == [("Empty", [name])]
    offsets = json.loads(run("group", "describe", name, "--offsets", "--json", *on).output)["offsets"]
    assert {row["committed"] for row in offsets} == {0, 3}
    assert f"deleted group {name}" in run("group", "delete", name, "--yes", *on).output
    run("group", "describe", name, *on, status=2)


def test_a_group_with_members_shows_them(broker: Broker, on: tuple[str, str], name: str):
    broker.create_topic(name)
    with logstore.connect(broker.bootstrap) as cluster, cluster.consumer(name, group=name) as consumer:
        wait_until(lambda: consumer.poll(0.1) or consumer.assignment())
        members = json.loads(run("group", "describe", name, "--json", *on).output)["members"]
        assert [member["partitions"] for member in members] == [[{"topic": name, "partition": 0}]]
        moved = run("group", "reset-offsets", name, "--topic", name, "--to-latest", "--execute", *on, status=2)
        assert "1 member" in moved.output


# ------------------------------------------------------------------------------------------------------------- refused


def test_queues_are_in_directories(on: tuple[str, str]):
    for action in (["put", "jobs", "x"], ["get", "jobs"], ["list"], ["stats"], ["delete", "jobs", "--yes"]):
        assert "queues are in directories: use --data" in run("queue", *action, *on, status=2).output


def test_a_directory_and_a_cluster_are_not_given_both(tmp_path: Path, on: tuple[str, str]):
    assert "not both" in run("topic", "list", "--data", tmp_path, *on, status=2).output


def test_the_directory_of_the_environment_gives_way(
    tmp_path: Path, on: tuple[str, str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LOGSTORE_DATA", str(tmp_path / "nothing"))
    run("topic", "list", *on)


def test_a_durability_is_of_a_directory(on: tuple[str, str], name: str):
    assert "--durability" in run("produce", name, "--durability", "os", *on, stdin=b"", status=2).output


def test_without_the_extra_it_is_told_how_to_get_it(on: tuple[str, str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    for module in list(sys.modules):
        if module.startswith("logstore.client.kafka.") and module != "logstore.client.kafka.connecting":
            monkeypatch.delitem(sys.modules, module)
    assert "logstore[kafka]" in run("topic", "list", *on, status=2).output
