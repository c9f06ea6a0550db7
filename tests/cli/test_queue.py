"""Queues on the command line."""

import json
from pathlib import Path

import pytest

import logstore
from cli import run


def rows(output: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


def test_what_is_put_is_got_once(tmp_path: Path) -> None:
    assert run("queue", "put", "jobs", "one", "--key", "k", "--data", tmp_path).stdout == "put 1 message into jobs\n"
    run("queue", "put", "jobs", "--data", tmp_path, stdin=b"two\nthree\n")
    [row] = rows(run("queue", "get", "jobs", "--json", "--data", tmp_path).stdout)
    assert (row["value"], row["key"], row["deliveries"], row["offset"]) == ("one", "k", 1, 0)
    assert run("queue", "get", "jobs", "--max", 5, "--data", tmp_path).stdout == "two\nthree\n"
    assert "no message ready" in run("queue", "get", "jobs", "--data", tmp_path, status=2).stderr


def test_a_message_that_is_not_acked_comes_again_and_its_delivery_counts(tmp_path: Path) -> None:
    run("queue", "put", "jobs", "again", "--data", tmp_path)
    run("queue", "get", "jobs", "--no-ack", "--data", tmp_path)
    [row] = rows(run("queue", "get", "jobs", "--json", "--data", tmp_path).stdout)
    assert row["deliveries"] == 2


def test_a_delayed_message_is_waited_for(tmp_path: Path) -> None:
    run("queue", "put", "jobs", "later", "--delay", 0.3, "--data", tmp_path)
    run("queue", "get", "jobs", "--data", tmp_path, status=2)
    assert run("queue", "get", "jobs", "--timeout", 20, "--data", tmp_path).stdout == "later\n"


def test_dead_letters_are_listed_and_replayed(tmp_path: Path) -> None:
    run("queue", "put", "jobs", "poison", "--set", "max.deliveries=1", "--data", tmp_path)
    run("queue", "put", "jobs", "late", "--ttl", 0, "--data", tmp_path)
    assert "no dead letters" in run("queue", "dead", "jobs", "--data", tmp_path).stdout
    run("queue", "get", "jobs", "--no-ack", "--data", tmp_path)
    run("queue", "get", "jobs", "--data", tmp_path, status=2)
    listed = run("queue", "dead", "jobs", "--data", tmp_path).stdout
    assert "max.deliveries" in listed
    assert "expired" in listed
    letters = rows(run("queue", "dead", "jobs", "--json", "--data", tmp_path).stdout)
    assert [(letter["value"], letter["offset"]) for letter in letters] == [("poison", 0), ("late", 1)]
    run("queue", "replay", "jobs", 0, "--data", tmp_path)
    assert run("queue", "get", "jobs", "--data", tmp_path).stdout == "poison\n"
    [summary] = rows(run("queue", "replay", "jobs", "--all", "--json", "--data", tmp_path).stdout)
    assert summary["count"] == 1


def test_counts_can_be_seen_beside_a_live_owner(tmp_path: Path) -> None:
    assert run("topic", "create", "t", "--data", tmp_path)
    assert run("queue", "stats", "--data", tmp_path).stdout == "there are no queues\n"
    with logstore.open(tmp_path) as store:
        jobs = store.queue("jobs")
        jobs.put_many([b"a", b"b", b"c", b"d"])
        jobs.put(b"e", delay=1000)
        jobs.get().ack()
        jobs.get()
        jobs.get().nack(delay=1000)
        [row] = rows(run("queue", "stats", "jobs", "--json", "--data", tmp_path).stdout)
        counts = {name: row[name] for name in ("ready", "delayed", "in_flight", "dead", "low_water_offset")}
        # What nobody has looked at is not known to be delayed.
        assert counts == {"ready": 2, "delayed": 1, "in_flight": 1, "dead": 0, "low_water_offset": 1}
        assert "jobs" in run("queue", "stats", "--data", tmp_path).stdout


def test_messages_are_looked_at_and_purged_and_queues_are_listed_and_deleted(tmp_path: Path) -> None:
    data = ("--data", tmp_path)
    run("queue", "put", "jobs", "a", "--set", "max.deliveries=1", *data)
    run("queue", "put", "jobs", *data, stdin=b"b\nc\n")
    run("queue", "get", "jobs", "--no-ack", *data)
    run("queue", "put", "mails", "x", *data)
    assert run("queue", "list", *data).stdout == "jobs\nmails\n"
    assert rows(run("queue", "list", "--json", *data).stdout) == [{"queue": "jobs"}, {"queue": "mails"}]
    assert run("queue", "peek", "jobs", "--max", 5, *data).stdout == "b\nc\n"
    assert [row["offset"] for row in rows(run("queue", "peek", "jobs", "--json", *data).stdout)] == [1]
    assert "--yes" in run("queue", "purge", "jobs", *data, status=2).stderr
    run("queue", "get", "jobs", *data)
    assert run("queue", "purge", "jobs", "--dead", "--yes", *data).stdout == "purged 1 message\n"
    assert rows(run("queue", "purge", "jobs", "--yes", "--json", *data).stdout) == [{"queue": "jobs", "count": 1}]
    assert "no message ready" in run("queue", "peek", "jobs", *data, status=2).stderr
    assert "--yes" in run("queue", "delete", "jobs", *data, status=2).stderr
    assert run("queue", "delete", "jobs", "--yes", *data).stdout == "deleted jobs\n"
    assert run("queue", "list", *data).stdout == "mails\n"


def test_an_argument_that_is_no_text_is_a_message_of_these_bytes(tmp_path: Path) -> None:
    run("queue", "put", "jobs", "\udcff", "--key", "\udcfe", "--data", tmp_path)
    with logstore.open(tmp_path, read_only=True) as store:
        [message] = store.queue("jobs").peek()
    assert (message.value, message.key) == (b"\xff", b"\xfe")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["get", "none"], "no such queue"),
        (["stats", "none"], "no such queue"),
        (["dead", "none"], "no such queue"),
        (["peek", "none"], "no such queue"),
        (["purge", "none", "--yes"], "no such queue"),
        (["delete", "none", "--yes"], "no such queue"),
        (["delete", "t", "--yes"], "no such queue"),
        (["delete", "jobs.dead", "--yes"], "no such queue"),
        (["replay", "jobs"], "--all"),
        (["replay", "jobs", "1", "--all"], "--all"),
        (["replay", "jobs", "7"], "no dead letter at this offset"),
        (["put", "t", "x"], "no queue's"),
        (["put", "bad name", "x"], "is not a topic name"),
        (["put", "__x", "x"], "logstore's own"),
        (["put", "jobs", "x", "--set", "ordered"], "NAME=VALUE"),
        (["put", "jobs", "x", "--set", "order=true"], "did you mean ordered"),
        (["put", "jobs", "x", "--delay", "-1"], "a number of seconds"),
    ],
)
def test_wrong_use_is_an_error_in_words(tmp_path: Path, args: list[str], said: str) -> None:
    run("produce", "t", "--data", tmp_path, stdin=b"a\n")
    run("queue", "put", "jobs", "x", "--data", tmp_path)
    assert said in run("queue", *args, "--data", tmp_path, status=2).stderr
