"""verify finds every flip that changes a byte of a batch, whether or not a CRC covers it, and whatever is missing."""

import random
import time
from pathlib import Path
from typing import Any

import pytest

import logstore
from cli import run
from damage import HARMS, Stored, build, changed, damages, do_salvage, flipped, stored
from log_tools import NOW
from logstore.format.batch import HEADER_SIZE
from logstore.format.checkpoint import encode_offsets
from logstore.storage.compaction import compact
from logstore.storage.findings import Severity, Tally
from logstore.storage.survey import survey
from logstore.storage.verify import verify

STATES = pytest.mark.parametrize("is_clean", [True, False], ids=["closed", "crashed"])
PLACE_FIELDS = range(17)  # base offset, length, leader epoch, magic: what the CRC leaves out
EPOCH = range(12, 16)


def unfound(data: Path, batch: Stored, bits: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those of the (position in the batch, bit) that verify does not find when they are flipped."""
    path, missed = data / batch.path, []
    content = path.read_bytes()
    for at, bit in bits:
        with changed(path, flipped(content, batch.position + at, bit)):
            found = damages(path.parent)
            if not found:
                missed.append((at, bit))
            assert all(str(finding.path).startswith(str(data)) and finding.reason for finding in found)
    return missed


def may_be_right(data: Path, before: list[Stored], batch: Stored, at: int, bit: int) -> bool:
    """Whether the flip gives a batch, that came after epochs were last saved, one that fits between its neighbours'."""
    number = before.index(batch)
    changed_epoch = leader_epoch(flipped(batch.data, at, bit))
    floor = leader_epoch(before[number - 1].data) if number else -1
    ceiling = leader_epoch(before[number + 1].data) if number + 1 < len(before) else 1 << 31
    saved_offset = max((int(path.stem) for path in (data / "t_0").glob("*.snapshot")), default=0)
    return at in EPOCH and min(batch.values) >= saved_offset and floor <= changed_epoch <= ceiling


def leader_epoch(batch: bytes) -> int:
    return int.from_bytes(batch[EPOCH.start : EPOCH.stop], "big", signed=True)


def check_flips(data: Path, is_clean: bool, bits_of: Any) -> int:
    before = stored(data)
    count = 0
    for batch in before:
        bits = bits_of(batch)
        count += len(bits)
        for at, bit in unfound(data, batch, bits):
            assert not is_clean and may_be_right(data, before, batch, at, bit), (batch.path, batch.position, at, bit)
    assert damages(data) == []
    return count


@STATES
def test_verify_finds_a_flipped_bit_of_each_field_of_each_batch(tmp_path: Path, is_clean: bool) -> None:
    source = random.Random(1)
    data = build(tmp_path / "data", is_clean=is_clean, batch_count=8)

    def sampled(batch: Stored) -> list[tuple[int, int]]:
        covered = source.sample(range(17, len(batch.data)), 12)
        return [(at, source.randrange(8)) for at in [*PLACE_FIELDS, *covered]]

    assert check_flips(data, is_clean, sampled) > 200


@pytest.mark.slow
@pytest.mark.timeout(400)
@STATES
def test_verify_finds_each_flipped_bit_of_each_byte_of_a_log(tmp_path: Path, is_clean: bool) -> None:
    data = build(tmp_path / "data", is_clean=is_clean, batch_count=8)
    count = check_flips(data, is_clean, lambda batch: [(at, bit) for at in range(len(batch.data)) for bit in range(8)])
    assert count > 5000


@pytest.mark.parametrize("at", PLACE_FIELDS)
def test_each_bit_of_a_place_in_the_last_batch_is_found_after_a_clean_close(tmp_path: Path, at: int) -> None:
    data = build(tmp_path / "data", is_clean=True, batch_count=4)
    assert unfound(data, stored(data)[-1], [(at, bit) for bit in range(8)]) == []


def test_in_a_compacted_log_only_a_base_offset_moved_within_its_hole_escapes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with logstore.open(data) as store:
        store.create_topic("t", cleanup_policy="compact", index_interval_bytes=1 << 20)
        log = store.log("t")
        for number in range(12):
            log.append([b"%d" % number], keys=[b"k%d" % (number % 3 if number % 2 else number)], timestamps_ms=NOW)
        log.roll()
        log.append([b"active"], keys=[b"a"])
        compact(log, 0, 1 << 20)
    before = stored(data)
    offsets = [batch.last_offset for batch in before]
    assert len(offsets) < 13, "there are holes"
    assert damages(data) == []
    for number, batch in enumerate(before):
        below = offsets[number - 1] if number else -1
        above = offsets[number + 1] if number + 1 < len(offsets) else offsets[-1] + 1
        bits = [(at, bit) for at in range(8) for bit in range(8)]
        bits += [(at, at % 8) for at in (*PLACE_FIELDS[8:], 20, 40, len(batch.data) - 1)]
        missed = unfound(data, batch, bits)
        free = [offset for offset in range(below + 1, above) if offset != batch.last_offset]
        moved = {batch.last_offset ^ 1 << bit + 8 * (7 - at) for at, bit in missed}
        assert {at for at, _ in missed} <= set(range(8)) and moved <= set(free), (number, missed)


# ------------------------------------------------------------------------------------------------- what is not there


@STATES
@pytest.mark.parametrize("lost", [0, 1, 2], ids=["the first", "one in the middle", "the last"])
def test_a_segment_that_is_missing_is_found(tmp_path: Path, is_clean: bool, lost: int) -> None:
    data = build(tmp_path / "data", is_clean=is_clean)
    logs = sorted((data / "t_0").glob("*.log"))
    assert len(logs) == 3
    logs[lost].unlink()
    found = damages(data)
    # After a crash nobody knows where the log began and ended: retention, or the crash itself, may have taken it.
    assert bool(found) == (is_clean or lost == 1), found
    if found and lost == 1:
        assert (found[0].first_offset, found[0].last_offset) == (int(logs[1].stem), int(logs[2].stem) - 1)


@STATES
def test_a_segment_that_was_emptied_is_found(tmp_path: Path, is_clean: bool) -> None:
    data = build(tmp_path / "data", is_clean=is_clean)
    for path in sorted((data / "t_0").glob("*.log"))[: None if is_clean else -1]:
        with changed(path, b""):
            assert damages(data), path


@STATES
def test_a_batch_that_was_cut_out_without_a_trace_is_found(tmp_path: Path, is_clean: bool) -> None:
    data = build(tmp_path / "data", is_clean=is_clean)
    before = stored(data)
    for batch in before[: None if is_clean else -1]:
        path = data / batch.path
        content = path.read_bytes()
        with changed(path, content[: batch.position] + content[batch.position + len(batch.data) :]):
            assert damages(data), batch.position


def test_a_batch_that_is_missing_is_found_even_when_the_indexes_fit(tmp_path: Path) -> None:
    data = build(tmp_path / "data", is_clean=True)
    batch = stored(data)[5]
    content = (data / batch.path).read_bytes()
    (data / batch.path).write_bytes(content[: batch.position] + content[batch.position + len(batch.data) :])
    run("reindex", data, "--index-interval", 150)
    (found,) = damages(data)
    assert (found.first_offset, found.last_offset) == (min(batch.values), batch.last_offset)


@STATES
@pytest.mark.parametrize("harm", HARMS)
def test_verify_finds_a_log_that_was_harmed(tmp_path: Path, is_clean: bool, harm: str) -> None:
    data = build(tmp_path / "data", is_clean=is_clean, size=200, batch_count=24, roll_each=12)
    for path in sorted((data / "t_0").glob("*.log")):
        content = path.read_bytes()
        for seed in range(4):
            new = HARMS[harm](content, random.Random(f"{harm} {seed}"))
            with changed(path, new):
                # A log that a crash cut between batches, or to zeros, is one that a crash may leave.
                may_be_whole = not is_clean and content.startswith(new.rstrip(b"\0"))
                assert damages(data) or new == content or may_be_whole, (path, seed)


def test_a_gap_file_that_calls_offsets_lost_which_are_there_is_found(tmp_path: Path) -> None:
    data = build(tmp_path / "data", is_clean=True)
    (data / "t_0" / "offset-gap-checkpoint").write_bytes(b"0\n1\n3 4\n")
    found = damages(data)
    assert found
    assert all("3 to 4 are lost" in finding.reason for finding in found)


def test_what_was_taken_out_of_a_log_and_kept_is_a_note(tmp_path: Path) -> None:
    data = build(tmp_path / "data", is_clean=True)
    path = data / stored(data)[2].path
    path.write_bytes(flipped(path.read_bytes(), stored(data)[2].position + HEADER_SIZE + 3, 1))
    do_salvage(data)
    (kept,) = (data / "t_0" / "salvaged").iterdir()
    for looked_at in (data, data / "t_0"):
        findings = list(verify(survey(looked_at), Tally()))
        notes = [(found.path, found.size) for found in findings if "kept" in found.reason]
        assert notes == [(kept, kept.stat().st_size)]
        assert {found.severity for found in findings} == {Severity.NOTE}


def test_verify_takes_time_that_grows_with_the_count_of_partitions_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    logstore.open(data).close()
    for number in range(400):
        (data / f"t_{number}").mkdir()
    (data / "recovery-point-offset-checkpoint").write_bytes(
        encode_offsets({("other", number): 0 for number in range(20_000)})
    )
    started_s = time.process_time()
    assert damages(data) == []
    assert time.process_time() - started_s < 3


# -------------------------------------------------------------------------------------------------------- the command


def test_the_command_prints_a_line_with_file_position_and_reason_and_exits_with_1(tmp_path: Path) -> None:
    data = build(tmp_path / "data", is_clean=True)
    before = stored(data)
    first, last = before[1], before[-1]
    for batch, at in ((first, HEADER_SIZE + 3), (last, 15)):
        path = data / batch.path
        path.write_bytes(flipped(path.read_bytes(), batch.position + at, 3))
    lines = [line for line in run("verify", data, status=1).stdout.splitlines() if line.startswith("DAMAGE")]
    assert len(lines) == 2
    for line, batch, reason in zip(lines, (first, last), ("CRC is", "leader epoch"), strict=True):
        assert f"{data / batch.path}: position {batch.position}, {len(batch.data)} bytes: " in line
        assert reason in line


def test_a_damaged_log_is_verified_in_time_that_grows_with_its_size_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with logstore.open(data) as store:
        store.create_topic("t")
        for _ in range(40):
            store.log("t").append([b"\2" * 1000] * 100)  # each byte could be a batch's magic
    path = next((data / "t_0").glob("*.log"))
    content = bytearray(path.read_bytes())
    content[40::50_000] = bytes(len(content[40::50_000]))
    content[41::50_000] = bytes(len(content[41::50_000]))
    path.write_bytes(content)
    started_s = time.process_time()
    assert damages(data)
    assert time.process_time() - started_s < 5
