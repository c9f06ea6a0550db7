"""Many threads on one data directory, with everything going on that changes logs, judged by the history they saw."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

import logstore
from clients import Crew
from history import Anomaly, Entry, History, Kind, explain
from logstore.client.embedded.store import Store
from logstore.errors import UnknownTopic
from promises import check_verified

# ---------------------------------------------------------------------------------------------- what the judge is worth

GOOD = [
    Entry(0, None, b"a0"),
    Entry(1, None, b"b0"),
    Entry(2, None, b"a1"),
    Entry(3, b"k", b"c0"),
    Entry(4, b"k", b"c1"),
]


def good_history() -> History:
    history = History()
    for client, number, offset in [("a", 0, 0), ("b", 0, 1), ("a", 1, 2)]:
        history.acknowledge(history.begin("t_0", client, number, [f"{client}{number}".encode()]), offset)
    history.acknowledge(history.begin("t_0", "c", 0, [b"c0", b"c1"], [b"k", b"k"]), 3)
    history.begin("t_0", "b", 1, [b"b1"])  # without an answer
    return history


def read(history: History, entries: list[Entry], *, offset: int = 0, next_offset: int = 5, start: int = 0) -> None:
    acked_end = history.acked_end("t_0")
    history.poll("t_0", "r", offset, entries, next_offset, log_start_offset=start, acked_end=acked_end, is_whole=True)


def kinds(found: list[Anomaly]) -> set[Kind]:
    return {anomaly.kind for anomaly in found}


def never_read(history: History) -> None:
    read(history, [*GOOD[:1], *GOOD[2:]])


def never_read_though_no_poll_skips_it(history: History) -> None:
    read(history, GOOD[2:], offset=2)
    read(history, GOOD[:1], next_offset=1)


def read_with_another_value(history: History) -> None:
    read(history, [Entry(0, None, b"b1"), *GOOD[1:]])


def acknowledged_where_another_is(history: History) -> None:
    history.acknowledge(history.begin("t_0", "d", 0, [b"d0"]), 3)
    read(history, GOOD)


def stored_twice(history: History) -> None:
    read(history, [*GOOD, Entry(5, None, b"b0")], next_offset=6)


def in_the_wrong_order(history: History) -> None:
    for number, offset in [(0, 6), (1, 5)]:
        history.acknowledge(history.begin("t_0", "d", number, [b"d%d" % number]), offset)
    read(history, GOOD)


def with_a_batch_inside_out(history: History) -> None:
    history.begin("t_0", "d", 0, [b"d0", b"d1"])
    read(history, [*GOOD, Entry(5, None, b"d1"), Entry(6, None, b"d0")], next_offset=7)


def left_out_by_one_of_two(history: History) -> None:
    read(history, GOOD)
    read(history, [*GOOD[:2], *GOOD[3:]])


def left_out_at_the_end_of_a_poll(history: History) -> None:
    read(history, GOOD[:4])


def told_backwards(history: History) -> None:
    read(history, [GOOD[1], GOOD[0], *GOOD[1:]])


def of_unknown_origin(history: History) -> None:
    read(history, [*GOOD, Entry(5, None, b"?")], next_offset=6)


def with_the_key_of_another(history: History) -> None:
    read(history, [*GOOD, Entry(5, b"k", b"b1")], next_offset=6)


def not_seen_although_acknowledged_before(history: History) -> None:
    read(history, GOOD)
    read(history, GOOD[:3], next_offset=3)


def said_to_start_later_than_it_does(history: History) -> None:
    read(history, GOOD[2:], offset=2, start=2)
    read(history, GOOD)


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        (never_read, Kind.LOST),
        (never_read_though_no_poll_skips_it, Kind.LOST),
        (read_with_another_value, Kind.TWO_VALUES),
        (acknowledged_where_another_is, Kind.TWO_VALUES),
        (stored_twice, Kind.DUPLICATE),
        (in_the_wrong_order, Kind.INVERTED),
        (with_a_batch_inside_out, Kind.INVERTED),
        (left_out_by_one_of_two, Kind.SKIPPED),
        (left_out_at_the_end_of_a_poll, Kind.SKIPPED),
        (told_backwards, Kind.BACKWARDS),
        (of_unknown_origin, Kind.GARBAGE),
        (with_the_key_of_another, Kind.GARBAGE),
        (not_seen_although_acknowledged_before, Kind.STALE),
        (said_to_start_later_than_it_does, Kind.UNSTEADY_START),
    ],
)
def test_each_kind_of_bad_history_is_caught(harm: Callable[[History], None], kind: Kind) -> None:
    history = good_history()
    harm(history)
    assert kind in kinds(history.anomalies())
    assert kind.value in explain(history.anomalies())


def test_a_good_history_has_no_anomalies() -> None:
    history = good_history()
    read(history, GOOD)
    read(history, [*GOOD, Entry(5, None, b"b1")], next_offset=6)  # what was not acknowledged may be there
    assert history.anomalies() == []
    assert history.anomalies(["t_0"]) == []


def test_a_record_is_missed_in_a_compacted_log_unless_a_later_one_has_its_key() -> None:
    def found(*missing: int) -> set[Kind]:
        history = good_history()
        read(history, [entry for entry in GOOD if entry.offset not in missing])
        return kinds(history.anomalies(["t_0"]))

    assert found(3) == set()
    assert found(4) == {Kind.SKIPPED}
    assert found(0) == set(), "without a key there is nothing to keep it by"
    assert Kind.SKIPPED in kinds(_without(3).anomalies())


def _without(offset: int) -> History:
    history = good_history()
    read(history, [entry for entry in GOOD if entry.offset != offset])
    return history


# ---------------------------------------------------------------------------------------------------------- the threads

SETTINGS = {
    "log_retention_check_interval_ms": 40,
    "log_flush_scheduler_interval_ms": 30,
    "log_flush_offset_checkpoint_interval_ms": 60,
    "log_cleaner_backoff_ms": 50,
    "max_open_files": 40,
}
SMALL = {"segment_bytes": 12_000, "index_interval_bytes": 300, "file_delete_delay_ms": 2000}
KEYED = ("keyed_0", "keyed_1")


def make_topics(store: Store) -> None:
    store.create_topic("plain", 2, **SMALL, retention_ms=-1)
    store.create_topic("keyed", 2, **SMALL, cleanup_policy="compact", min_cleanable_dirty_ratio=0.01)
    store.create_topic("kept_little", **SMALL, retention_bytes=40_000)


def meddle(crew: Crew, store: Store) -> None:
    """Rolls, checkpoints, retention and changed settings, all the time."""
    turn = 0
    while not crew.stop.wait(0.02):
        turn += 1
        for topic in ("plain", "keyed", "kept_little"):
            log = store.log(topic)
            log.roll()
            log.delete_expired()
            log.checkpoint()
            log.unlink_retired()
            store.alter_topic(topic, {"segment.bytes": 8000 + turn % 3 * 5000, "preallocate": turn % 2 == 0})
        if turn % 5 == 0:
            log = store.log("kept_little")
            store.advance_log_start("kept_little", 0, (log.log_start_offset + log.log_end_offset) // 2)
            store.flush()


def come_and_go(crew: Crew, store: Store) -> None:
    """Topics that are made, written to, given a partition more, and deleted under their writers and readers."""
    number = 0
    while not crew.stop.is_set():
        number += 1
        name = f"passing{number}"
        store.create_topic(name, **SMALL)
        threads = [
            crew.start("passing writer", write_until_gone, crew, store, name),
            crew.start("passing reader", tail_until_gone, crew, store, name),
        ]
        crew.stop.wait(0.15)
        store.alter_topic(name, partitions=2)
        store.log(name, 1).append([b"x"])
        store.delete_topic(name)
        crew.join(threads)


def write_until_gone(crew: Crew, store: Store, name: str) -> None:
    with contextlib.suppress(UnknownTopic):
        crew.write(store.log(name), f"writer of {name}")


def tail_until_gone(crew: Crew, store: Store, name: str) -> None:
    with contextlib.suppress(UnknownTopic):
        crew.tail(store.log(name), f"tail of {name}")


def run_crew(crew: Crew, store: Store, seconds: float) -> None:
    partitions = [("plain", 0), ("plain", 1), ("keyed", 0), ("keyed", 1), ("kept_little", 0)]
    writers = [
        crew.start("meddler", meddle, crew, store),
        crew.start("topics", come_and_go, crew, store),
    ]
    for topic, partition in partitions:
        log = store.log(topic, partition)
        key_count = 40 if topic == "keyed" else 0
        for turn in range(2):
            client = f"writer {turn} of {log.name}"
            producer_id = 10 + turn if turn else -1
            writers.append(crew.start(client, crew.write, log, client, key_count=key_count, producer_id=producer_id))
        crew.start(f"tail of {log.name}", crew.tail, log, "tail")
        crew.start(f"jumps in {log.name}", crew.jump, log, "jumps", partition)
    crew.stop.wait(seconds)
    crew.finish(writers)
    assert not crew.ended, crew.ended


def check_end(crew: Crew, path: Path) -> None:
    """The directory once more: what is there, and that all the history fits."""
    check_verified(path)
    with logstore.open(path) as store:
        assert store.damages() == []
        assert [topic.name for topic in store.topics()] == ["kept_little", "keyed", "plain"]
        for topic in store.topics():
            for partition in range(topic.partitions):
                log = store.log(topic.name, partition)
                crew.poll_records(log, "the end", log.log_start_offset)
    assert (found := crew.history.anomalies(KEYED)) == [], explain(found)


def check_that_all_happened(crew: Crew, path: Path) -> None:
    with logstore.open(path) as store:
        assert store.log("kept_little").log_start_offset > 0
        for name in KEYED:
            log = store.log("keyed", int(name[-1]))
            assert sum(1 for _ in log.records(0)) < log.log_end_offset, "something was compacted"
    assert len({append.log for append in crew.history.appends if append.log.startswith("passing")}) >= 2
    assert sum(poll.is_whole for poll in crew.history.polls) > 50


def test_acked_values_are_read_once_in_order_whatever_else_goes_on(tmp_path: Path) -> None:
    run_history(tmp_path, 2.5)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_acked_values_are_read_once_in_order_for_longer(tmp_path: Path) -> None:
    run_history(tmp_path, 20)


def run_history(path: Path, seconds: float) -> None:
    crew = Crew(History())
    with logstore.open(path, **SETTINGS) as store:
        make_topics(store)
        run_crew(crew, store, seconds)
    check_end(crew, path)
    check_that_all_happened(crew, path)
