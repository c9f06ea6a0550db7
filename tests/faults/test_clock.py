"""The wall clock jumps by ten years: what counts is the time that has really passed."""

import threading

import pytest

from clocks import DAY_MS, HOUR_MS, QUIET, TEN_YEARS_MS, Clocks, offsets
from logstore.storage import upkeep
from logstore.storage.data_dir import DataDir


@pytest.mark.parametrize("jump_ms", [TEN_YEARS_MS, -TEN_YEARS_MS])
def test_clock_jumps_of_ten_years_let_retention_delete_nothing_early(
    jump_ms: int, data_dir: DataDir, clocks: Clocks
) -> None:
    data_dir.create_topic("t", settings={"retention.ms": DAY_MS})
    data_dir.log("t").append([b"before"])
    clocks.jumps(jump_ms)
    upkeep.retain(data_dir)
    assert offsets(data_dir) == [0]
    data_dir.log("t").append([b"after"])
    clocks.passes(DAY_MS - HOUR_MS)
    upkeep.retain(data_dir)
    assert offsets(data_dir) == [0, 1]


def test_a_clock_jump_ahead_keeps_nothing_longer_than_its_time(data_dir: DataDir, clocks: Clocks) -> None:
    data_dir.create_topic("t", settings={"retention.ms": DAY_MS})
    data_dir.log("t").append([b"before"])
    clocks.jumps(TEN_YEARS_MS)
    upkeep.retain(data_dir)
    clocks.passes(DAY_MS + 1)
    upkeep.retain(data_dir)
    assert offsets(data_dir) == []


def test_clock_jumps_let_no_producer_be_forgotten_early(data_dir: DataDir, clocks: Clocks) -> None:
    data_dir.create_topic("t", settings={"retention.ms": -1})
    log = data_dir.log("t")
    batch = {"producer_id": 1, "producer_epoch": 0}
    log.append([b"x"], base_sequence=0, **batch)  # type: ignore[arg-type]
    clocks.jumps(TEN_YEARS_MS)
    upkeep.retain(data_dir)
    assert log.append([b"x"], base_sequence=0, **batch).is_duplicate  # type: ignore[arg-type]
    clocks.passes(QUIET.producer_id_expiration_ms + 1)
    upkeep.retain(data_dir)
    assert len(log.producers) == 0


@pytest.mark.parametrize("jump_ms", [TEN_YEARS_MS, -TEN_YEARS_MS])
def test_clock_jumps_do_not_disturb_who_waits_or_appends(jump_ms: int, data_dir: DataDir, clocks: Clocks) -> None:
    data_dir.create_topic("t", settings={"retention.ms": DAY_MS, "segment.ms": HOUR_MS})
    log = data_dir.log("t")
    seen: list[bool] = []
    waiting = threading.Thread(target=lambda: seen.append(log.wait(0, 20)))
    waiting.start()
    clocks.jumps(jump_ms)
    assert not log.wait(0, 0.05), "a wait takes its own time"
    log.append([b"first"])
    waiting.join(10)
    assert seen == [True]
    for jump_back_ms in (-2 * jump_ms, jump_ms):
        upkeep.retain(data_dir)  # which must have seen each jump
        clocks.jumps(jump_back_ms)
    log.append([b"second"])
    upkeep.retain(data_dir)
    assert [record.value for record in log.records(0)] == [b"first", b"second"]


def test_a_deletion_by_age_is_right_through_many_jumps_to_and_fro(data_dir: DataDir, clocks: Clocks) -> None:
    data_dir.create_topic("t", settings={"retention.ms": DAY_MS, "segment.bytes": 1 << 20})
    born: list[int] = []
    for turn in range(60):
        data_dir.log("t").append([b"%d" % turn])
        data_dir.log("t").roll()
        born.append(clocks.monotonic_ms)
        clocks.jumps((TEN_YEARS_MS, -TEN_YEARS_MS, -TEN_YEARS_MS, TEN_YEARS_MS)[turn % 4])
        clocks.passes(HOUR_MS)
        upkeep.retain(data_dir)
        young = [offset for offset, at in enumerate(born) if clocks.monotonic_ms - at <= DAY_MS]
        assert offsets(data_dir)[-len(young) :] == young
