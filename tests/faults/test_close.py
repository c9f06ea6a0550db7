"""A close in the middle of everything: every thread comes to an end that it is told of, and what was acked is there."""

import contextlib
import time
from pathlib import Path

import pytest

import logstore
from clients import Crew
from history import History, explain
from logstore.errors import Closed
from logstore.storage import upkeep
from logstore.storage.partition import PartitionLog
from promises import check_verified

SETTINGS = {"segment_bytes": 6000, "index_interval_bytes": 200, "file_delete_delay_ms": 50}


def wait_on(crew: Crew, log: PartitionLog) -> None:
    """Wait for what never comes: a close must end it."""
    while not log.is_closed:
        assert not log.wait(1 << 40, 30)
    with contextlib.suppress(Closed):
        log.wait(0)


def upkeep_all_the_time(crew: Crew, data_dir: logstore.storage.data_dir.DataDir) -> None:
    while not crew.is_quiet.is_set():
        for duty in (upkeep.retain, upkeep.checkpoint, upkeep.flush_due, upkeep.remove_deleted):
            duty(data_dir)


def make_topics(crew: Crew, store: logstore.Store) -> None:
    for number in range(1 << 30):
        store.create_topic(f"passing{number}")
        store.log(f"passing{number}").append([b"x"])
        store.delete_topic(f"passing{number}")


def begin_all(crew: Crew, store: logstore.Store) -> None:
    for topic in ("plain", "keyed"):
        log = store.log(topic)
        for turn in range(2):
            client = f"{topic} {turn}"
            crew.start(client, crew.write, log, client, key_count=20 * (topic == "keyed"), fsync_every=1 + 5 * turn)
        crew.start("tail", crew.tail, log, "tail")
        crew.start("jump", crew.jump, log, "jump", 1)
        crew.start("wait", wait_on, crew, log)
    crew.start("upkeep", upkeep_all_the_time, crew, store._data_dir)
    crew.start("topics", make_topics, crew, store)


@pytest.mark.parametrize("after_s", [0.02, 0.1, 0.3, 0.6])
def test_a_close_during_reads_appends_waits_and_compaction_ends_every_thread_with_a_typed_error(
    after_s: float, tmp_path: Path
) -> None:
    crew = Crew(History())
    store = logstore.open(tmp_path, log_cleaner_backoff_ms=10)
    store.create_topic("plain", **SETTINGS, retention_bytes=30_000)
    store.create_topic("keyed", **SETTINGS, cleanup_policy="compact", min_cleanable_dirty_ratio=0.01)
    begin_all(crew, store)
    time.sleep(after_s)
    closing = [crew.start("close", store.close) for _ in range(2)]
    crew.join(closing, 30)
    crew.is_quiet.set()
    crew.join(crew.threads, 30)
    assert {type(error) for name, error in crew.ended} == {Closed}, crew.ended
    assert {name for name, _ in crew.ended} >= {"plain 0", "plain 1", "keyed 0", "keyed 1", "topics"}
    check_nothing_acked_is_lost(tmp_path, crew)


def check_nothing_acked_is_lost(path: Path, crew: Crew) -> None:
    check_verified(path)
    with logstore.open(path) as store:
        assert store._data_dir.was_clean
        for topic in ("plain", "keyed"):
            log = store.log(topic)
            crew.poll_records(log, "the end", log.log_start_offset)
    found = crew.history.anomalies(["keyed_0"])
    assert not found, explain(found)
