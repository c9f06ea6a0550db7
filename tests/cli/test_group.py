"""Consumer groups on the command line: beside their owner, at rest, and in Apache Kafka's directories."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import logstore
from cli import run
from kafka_golden import GOLDEN, golden_groups
from logstore.client.embedded.store import Store
from logstore.format.filename import TopicPartition
from logstore.groups.assignors import ASSIGNORS
from logstore.groups.requests import JoinReply, JoinRequest, LeavingMember, OffsetAndMetadata, SyncRequest

RANGE = ASSIGNORS["range"]
START_MS = 1_700_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Its topic orders has 2 partitions; 0 holds offsets 4 to 10, a minute apart, and 1 nothing. The group billing has
    committed 6 of 0."""
    with logstore.open(tmp_path, group_initial_rebalance_delay_ms=0) as opened:
        opened.create_topic("orders", 2)
        opened.log("orders").append(
            [b"%d" % n for n in range(10)], timestamps_ms=[START_MS + n * 60_000 for n in range(10)]
        )
        opened.advance_log_start("orders", 0, 4)
        opened.groups.commit("billing", {TopicPartition("orders", 0): OffsetAndMetadata(6, "half way")})
        yield opened


def join(store: Store, group: str, client_id: str) -> str:
    """Its only member, with all of orders; gives the member's id."""
    replies: list[Any] = []
    subscription = RANGE.subscription(["orders"])
    request = JoinRequest(group, "", "consumer", (("range", subscription),), 45_000, 60_000, None, client_id, "/here")
    store.groups.join(request, replies.append)
    [joined] = replies
    assert isinstance(joined, JoinReply)
    assignments = RANGE.assign({"orders": 2}, joined.members)
    sync = SyncRequest(group, joined.member_id, joined.generation, tuple(assignments.items()))
    store.groups.sync(sync, replies.append)
    return joined.member_id


def rows(*args: object) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run("group", *args, "--json").stdout.splitlines()]


# ---------------------------------------------------------------------------------------------------------------- look


def test_groups_are_listed_and_described_beside_their_owner(store: Store) -> None:
    member_id = join(store, "shipping", "worker")
    billing, shipping = rows("list", "--data", store.path)
    assert (billing["group"], billing["state"], billing["members"], billing["topics"]) == (
        "billing",
        "Empty",
        0,
        ["orders"],
    )
    assert (shipping["group"], shipping["state"], shipping["members"], shipping["topics"]) == (
        "shipping",
        "Stable",
        1,
        ["orders"],
    )
    text = run("group", "list", "--data", store.path).stdout
    assert "billing" in text and "Stable" in text and "range" in text

    [described] = rows("describe", "shipping", "--data", store.path)
    assert (described["state"], described["generation"], described["protocol"]) == ("Stable", 1, "range")
    assert described["members"] == [
        {
            "member_id": member_id,
            "instance_id": None,
            "client_id": "worker",
            "client_host": "/here",
            "partitions": [{"topic": "orders", "partition": 0}, {"topic": "orders", "partition": 1}],
        }
    ]
    text = run("group", "describe", "shipping", "--data", store.path).stdout
    assert "group shipping: Stable, generation 1, range, 1 member\n" in text
    assert "orders 0-1" in text and member_id in text


def test_the_offsets_of_a_group_are_described_with_who_has_the_partition(store: Store) -> None:
    [described] = rows("describe", "billing", "--offsets", "--data", store.path)
    assert described["offsets"] == [
        {
            "topic": "orders",
            "partition": 0,
            "committed": 6,
            "metadata": "half way",
            "leader_epoch": -1,
            "log_end_offset": 10,
            "lag": 4,
            "member_id": None,
        }
    ]
    assert "half way" in run("group", "describe", "billing", "--offsets", "--data", store.path).stdout
    member_id = join(store, "shipping", "worker")
    [described] = rows("describe", "shipping", "--offsets", "--data", store.path)
    assert [(row["partition"], row["committed"], row["lag"], row["member_id"]) for row in described["offsets"]] == [
        (0, None, None, member_id),
        (1, None, None, member_id),
    ]


def test_the_lag_is_what_the_end_is_ahead_and_has_a_total(store: Store) -> None:
    store.log("orders", 1).append([b"x"] * 1500)
    store.groups.commit("billing", {TopicPartition("orders", 1): OffsetAndMetadata(100)})
    [lag] = rows("lag", "billing", "--data", store.path)
    assert (lag["group"], lag["lag"]) == ("billing", 1404)
    assert [(row["partition"], row["committed"], row["log_end_offset"], row["lag"]) for row in lag["partitions"]] == [
        (0, 6, 10, 4),
        (1, 100, 1500, 1400),
    ]
    assert run("group", "lag", "billing", "--data", store.path).stdout.endswith(
        "group billing is 1,404 offsets behind\n"
    )


def test_a_member_that_does_not_speak_kafkas_consumer_protocol_is_shown_all_the_same(store: Store) -> None:
    replies: list[Any] = []
    request = JoinRequest("connect", "", "connect", (("default", b"\1\2"),), 45_000, 60_000)
    store.groups.join(request, replies.append)
    sync = SyncRequest("connect", replies[0].member_id, 1, ((replies[0].member_id, b"\3"),))
    store.groups.sync(sync, replies.append)
    [described] = rows("describe", "connect", "--data", store.path)
    assert described["members"][0]["partitions"] is None
    assert "?" in run("group", "describe", "connect", "--data", store.path).stdout


def test_apache_kafkas_groups_are_read_in_its_own_directory() -> None:
    data = GOLDEN / "data"
    found = {row["group"]: row for row in rows("list", "--data", data)}
    assert found.keys() == golden_groups().keys()
    for group, offsets in golden_groups().items():
        [described] = rows("describe", group, "--offsets", "--data", data)
        shown = {(r["topic"], r["partition"]): (r["committed"], r["metadata"]) for r in described["offsets"]}
        assert shown == offsets
        assert found[group]["topics"] == sorted({topic for topic, _ in offsets})
        assert rows("lag", group, "--data", data)[0]["lag"] == sum(row["lag"] for row in described["offsets"])


def test_a_directory_without_groups_says_so(tmp_path: Path) -> None:
    run("topic", "create", "orders", "--data", tmp_path)
    assert run("group", "list", "--data", tmp_path).stdout == "there are no groups\n"
    assert rows("list", "--data", tmp_path) == []


# --------------------------------------------------------------------------------------------------------------- reset


def committed(path: Path, group: str = "billing") -> dict[int, int]:
    [described] = rows("describe", group, "--offsets", "--data", path)
    return {row["partition"]: row["committed"] for row in described["offsets"]}


@pytest.mark.parametrize(
    ("args", "new", "said"),
    [
        (["--to-earliest"], 4, ""),
        (["--to-latest"], 10, ""),
        (["--to-offset", 8], 8, ""),
        (["--to-offset", 10], 10, ""),
        (["--to-offset", 3], 4, "orders-0 does not hold offset 3; the nearest is 4"),
        (["--to-offset", 11], 10, "orders-0 does not hold offset 11; the nearest is 10"),
        (["--shift-by", 2], 8, ""),
        (["--shift-by", -1], 5, ""),
        (["--shift-by", -100], 4, "orders-0 does not hold offset -94; the nearest is 4"),
        (["--to-time", START_MS + 300_001], 6, ""),
        (["--to-time", f"@{START_MS + 300_000}"], 5, ""),
        (["--to-time", "2023-11-14T22:20:20"], 7, ""),  # START_MS and seven minutes
        (["--to-time", "2023-11-14T23:20:20+01:00"], 7, ""),
        (["--to-time", "2030-01-01"], 10, ""),
    ],
)
def test_offsets_are_reset_dry_and_then_in_earnest(store: Store, args: list[object], new: int, said: str) -> None:
    call = ["group", "reset-offsets", "billing", "--all-topics", *args, "--data", store.path]
    dry = run(*call)  # beside the owner
    assert "nothing was changed" in dry.stdout and str(new) in dry.stdout
    assert said in dry.stderr and bool(said) == bool(dry.stderr)
    assert committed(store.path) == {0: 6}
    store.close()
    done = run(*call, "--execute", "--json")
    assert said in done.stderr
    assert [
        (row["committed"], row["offset"], row["executed"]) for row in map(json.loads, done.stdout.splitlines())
    ] == [(6, new, True)]
    assert committed(store.path) == {0: new}


def test_topics_and_partitions_may_be_named_and_a_new_group_made(store: Store) -> None:
    store.close()
    run("group", "reset-offsets", "new", "--topic", "orders:1", "--to-earliest", "--execute", "--data", store.path)
    assert committed(store.path, "new") == {1: 0}
    run("group", "reset-offsets", "new", "--topic", "orders", "--to-latest", "--execute", "--data", store.path)
    assert committed(store.path, "new") == {0: 10, 1: 0}
    run("group", "reset-offsets", "new", "--topic", "orders:0,1", "--to-offset", 5, "--execute", "--data", store.path)
    assert committed(store.path, "new") == {0: 5, 1: 0}


def test_a_group_with_members_is_not_reset(store: Store) -> None:
    member_id = join(store, "billing", "worker")
    call = ["group", "reset-offsets", "billing", "--all-topics", "--to-latest", "--data", store.path]
    assert "has 1 members: close them" in run(*call).stderr
    assert "is open in another process" in run(*call, "--execute", status=2).stderr
    assert committed(store.path)[0] == 6
    store.groups.leave("billing", [LeavingMember(member_id)])
    assert run(*call).stderr == ""


def test_partitions_that_are_gone_are_left_out(store: Store) -> None:
    store.create_topic("gone", 1)
    store.groups.commit("billing", {TopicPartition("gone", 0): OffsetAndMetadata(0)})
    directory = store.path / "topics" / "gone"
    store.close()
    for path in (*directory.iterdir(), *(store.path / "gone_0").iterdir()):
        path.unlink()
    directory.rmdir()
    (store.path / "gone_0").rmdir()
    call = ["group", "reset-offsets", "billing", "--all-topics", "--to-latest", "--data", store.path]
    assert "gone-0 is left as it is: there is no topic 'gone'" in run(*call).stderr
    [lag] = rows("lag", "billing", "--data", store.path)
    assert [(row["topic"], row["log_end_offset"], row["lag"]) for row in lag["partitions"]] == [
        ("gone", None, None),
        ("orders", 10, 4),
    ]
    assert "-" in run("group", "lag", "billing", "--data", store.path).stdout


# -------------------------------------------------------------------------------------------------------------- delete


def test_groups_are_deleted_when_that_is_confirmed(store: Store) -> None:
    store.groups.commit("other", {TopicPartition("orders", 0): OffsetAndMetadata(5)})
    store.close()
    assert "--yes" in run("group", "delete", "billing", "--data", store.path, stdin=b"y\n", status=2).stderr
    assert (
        "no group 'none'" in run("group", "delete", "billing", "none", "--yes", "--data", store.path, status=2).stderr
    )
    assert [row["group"] for row in rows("list", "--data", store.path)] == ["billing", "other"]
    assert run("group", "delete", "billing", "--yes", "--data", store.path).stdout == "deleted group billing\n"
    assert rows("delete", "other", "--yes", "--data", store.path) == [{"group": "other"}]
    assert rows("list", "--data", store.path) == []


def test_deleting_needs_the_directory_for_itself(store: Store) -> None:
    join(store, "billing", "worker")
    assert (
        "is open in another process"
        in run("group", "delete", "billing", "--yes", "--data", store.path, status=2).stderr
    )


# --------------------------------------------------------------------------------------------------------- wrong use


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["describe", "none"], "no group 'none'"),
        (["lag", "none"], "no group 'none'"),
        (["lag", ""], "is not a group id"),
        (["delete"], "Missing argument"),
        (["reset-offsets", "billing", "--to-latest"], "either --topic"),
        (["reset-offsets", "billing", "--topic", "orders", "--all-topics", "--to-latest"], "either --topic"),
        (["reset-offsets", "billing", "--all-topics"], "give one of --to-earliest"),
        (["reset-offsets", "billing", "--all-topics", "--to-latest", "--to-offset", "0"], "give one of --to-earliest"),
        (["reset-offsets", "none", "--all-topics", "--to-latest"], "no group 'none'"),
        (["reset-offsets", "billing", "--topic", "none", "--to-latest"], "no topic 'none'"),
        (["reset-offsets", "billing", "--topic", "orders:2", "--to-latest"], "partitions 0 to 1, not 2"),
        (["reset-offsets", "billing", "--topic", "orders:", "--to-latest"], "orders:0,2"),
        (["reset-offsets", "billing", "--topic", "orders:-1", "--to-latest"], "orders:0,2"),
        (["reset-offsets", "billing", "--topic", "orders", "--to-time", "soon"], "give a time such as"),
        (["reset-offsets", "billing", "--topic", "orders", "--to-offset", "-1"], "--to-offset"),
        (["reset-offsets", "billing", "--topic", "orders", "--shift-by", "1"], "committed no offset of orders"),
    ],
)
def test_wrong_use_is_an_error_in_words(store: Store, args: list[str], said: str) -> None:
    assert said in run("group", *args, "--data", store.path, status=2).stderr


def test_looking_makes_no_directory(tmp_path: Path) -> None:
    for call in (["list"], ["lag", "g"], ["delete", "g", "--yes"]):
        run("group", *call, "--data", tmp_path / "none", status=2)
    assert not (tmp_path / "none").exists()
