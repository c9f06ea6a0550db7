"""Salvage: good batches stay as they were, bad bytes are kept aside, and what is lost is said by a gap."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import logstore
from cli import run
from logstore.cli.repair import index_intervals, lock_data_dir
from logstore.errors import DataDirLocked, OffsetGap, StorageFailure
from logstore.format.batch import RecordBatch
from logstore.storage import files
from logstore.storage.facts import LogFacts
from logstore.storage.partition import PartitionLog
from logstore.storage.salvage import apply, plan
from logstore.storage.scan import LogBatch, scan
from logstore.storage.survey import survey


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three segments of ten one-record batches."""
    with logstore.open(tmp_path) as store:
        store.create_topic("t", index_interval_bytes=100)
        log = store.log("t")
        for number in range(30):
            log.append([b"record %d" % number])
            if number in (9, 19):
                log.roll()
    return tmp_path


def logs(data: Path) -> list[Path]:
    return sorted((data / "t_0").glob("*.log"))


def batches(path: Path) -> list[bytes]:
    found = scan(files.open_file(path))
    return [bytes(item.batch.data) for item in found if isinstance(item, LogBatch)]


def damage(path: Path, *numbers: int) -> list[bytes]:
    """Flip a bit in some records' values, and return the batches that are still good."""
    good = [batch for number, batch in enumerate(batches(path)) if number not in numbers]
    content = bytearray(path.read_bytes())
    size = len(batches(path)[0])
    for number in numbers:
        content[number * size + size - 3] ^= 1
    path.write_bytes(content)
    return good


def consumed(data: Path) -> list[int]:
    return [json.loads(line)["offset"] for line in run("consume", "t", "--data", data, "--json").stdout.splitlines()]


def rows(*args: object, status: int = 0) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(*args, "--json", status=status).stdout.splitlines()]


def test_without_write_it_is_only_said_what_would_be_done(data: Path) -> None:
    path = logs(data)[1]
    damage(path, 3, 4, 8)
    before = {path: path.read_bytes() for path in data.glob("*/*") if path.is_file()}
    found = rows("salvage", data, status=1)
    assert [(row["first_offset"], row["last_offset"]) for row in found[:-1]] == [(13, 14), (18, 18)]
    assert found[-1]["offsets_lost"] == 3
    assert "nothing was changed" in run("salvage", data / "t_0", status=1).stdout
    assert {path: path.read_bytes() for path in data.glob("*/*") if path.is_file()} == before


def test_bad_ranges_go_aside_good_batches_stay_and_the_gap_is_told(data: Path) -> None:
    path = logs(data)[1]
    good = damage(path, 3, 4, 8)
    damaged = path.read_bytes()
    moved = [row for row in rows("salvage", data, "--write") if row["type"] == "bad_range"]
    assert batches(path) == good
    assert path.read_bytes() == b"".join(good)
    for row in moved:
        start = row["position"]
        assert Path(row["moved_to"]).read_bytes() == damaged[start : start + row["size"]]
        assert Path(row["moved_to"]).parent == data / "t_0" / "salvaged"
    assert (data / "t_0" / "offset-gap-checkpoint").read_bytes() == b"0\n2\n13 14\n18 18\n"
    run("verify", data)
    assert consumed(data) == [*range(13), 15, 16, 17, *range(19, 30)]
    with logstore.open(data) as store:
        log = store.log("t")
        with pytest.raises(OffsetGap) as gap:
            list(log.records(12))
        assert (gap.value.first_offset, gap.value.last_offset) == (13, 14)
        assert log.append([b"next"]).base_offset == 30
    assert "no damage to salvage" in run("salvage", data).stdout
    run("verify", data)


def test_the_end_of_a_segment_in_the_middle_can_be_lost_too(data: Path) -> None:
    path = logs(data)[0]
    path.write_bytes(path.read_bytes()[:-150])
    run("salvage", data, "--write")
    assert consumed(data) == [*range(8), *range(10, 30)]
    assert (data / "t_0" / "offset-gap-checkpoint").read_bytes() == b"0\n1\n8 9\n"


def test_the_end_of_the_log_can_be_lost_and_its_offsets_are_not_given_again(data: Path) -> None:
    damage(logs(data)[2], 9)
    run("salvage", data, "--write")
    run("salvage", data, "--write")
    assert (data / "t_0" / "offset-gap-checkpoint").read_bytes() == b"0\n1\n29 29\n"
    for expected in (30, 31):
        with logstore.open(data) as store:
            assert store.log("t").append([b"new"]).base_offset == expected
    assert consumed(data) == [*range(29), 30, 31]
    assert (data / "t_0" / "offset-gap-checkpoint").read_bytes() == b"0\n1\n29 29\n"


def test_a_batch_whose_records_cannot_be_decoded_is_bad_whatever_its_crc_says(data: Path) -> None:
    path = logs(data)[1]
    content = path.read_bytes()
    batch = RecordBatch.at(content)
    from logstore.format.batch import assemble_batch

    header = batch.header
    broken = assemble_batch(
        b"\x7f" * (header.size - 61),
        base_offset=header.base_offset,
        partition_leader_epoch=0,
        attributes=0,
        last_offset_delta=0,
        base_timestamp=header.base_timestamp,
        max_timestamp=header.max_timestamp,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        record_count=1,
    )
    path.write_bytes(broken + content[header.size :])
    assert "its records are not" in run("verify", data, status=1).stdout
    run("salvage", data, "--write")
    run("verify", data)
    assert 10 not in consumed(data)


def test_garbage_between_good_batches_loses_nothing(data: Path) -> None:
    path = logs(data)[0]
    size = len(batches(path)[0])
    content = path.read_bytes()
    path.write_bytes(content[: 3 * size] + b"garbage" + content[3 * size :])
    run("salvage", data, "--write")
    assert path.read_bytes() == content
    assert not (data / "t_0" / "offset-gap-checkpoint").exists()
    assert consumed(data) == list(range(30))


def test_damage_at_the_same_place_twice_keeps_both(data: Path) -> None:
    path = logs(data)[1]
    for offset in (13, 14):
        damage(path, 3)
        run("salvage", data, "--write")
        assert offset not in consumed(data)
    assert len(list((data / "t_0" / "salvaged").iterdir())) == 2


def test_a_crash_at_any_step_loses_no_good_batch_and_can_be_gone_on_from(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = logs(data)[1]
    good = damage(path, 3, 8)
    damaged = path.read_bytes()
    steps = ("write_file", "rename", "unlink", "sync_dir", "make_dir")
    real = {name: getattr(files, name) for name in steps}
    for survived in range(100):
        for old in (data / "t_0").rglob("*"):
            if old.parent.name == "salvaged" or old.name == "offset-gap-checkpoint":
                old.unlink()
        path.write_bytes(damaged)
        left = survived

        def fail(name: str) -> Any:
            def step(*args: Any, **options: Any) -> Any:
                nonlocal left
                if not left:
                    raise StorageFailure(str(args[0]), "crash", 5, "crash")
                left -= 1
                return real[name](*args, **options)

            return step

        with monkeypatch.context() as patched:
            for name in steps:
                patched.setattr(files, name, fail(name))
            try:
                for planned in plan(survey(data / "t_0").partitions[0], LogFacts(recovery_point=30)):
                    apply(planned)
                done = True
            except StorageFailure:
                done = False
        kept = path.with_name(path.name + ".cleaned") if not path.exists() else path
        assert batches(kept) == good
        for planned in plan(survey(data / "t_0").partitions[0], LogFacts(recovery_point=30)):
            apply(planned)
        assert batches(path) == good
        assert (data / "t_0" / "offset-gap-checkpoint").read_bytes() == b"0\n2\n13 13\n18 18\n"
        log = PartitionLog(data / "t_0")
        assert not log.damages
        log.close()
        if done:
            break
    assert 8 < survived < 99


def test_one_file_alone_is_not_salvaged(data: Path) -> None:
    assert "name the partition's directory" in run("salvage", logs(data)[0], status=2).stderr


def index_entries(data: Path) -> list[int]:
    return [path.stat().st_size for path in sorted((data / "t_0").glob("*.index"))]


def test_indexes_get_the_topics_own_interval(data: Path) -> None:
    before = index_entries(data)
    assert min(before) > 8
    for path in (data / "t_0").glob("*.index"):
        path.write_bytes(b"")
    run("reindex", data)
    assert index_entries(data) == before
    damage(logs(data)[1], 9)
    run("salvage", data, "--write")
    assert index_entries(data)[1] >= before[1] - 8
    run("verify", data)


def test_a_topic_whose_settings_cannot_be_read_is_salvaged_all_the_same(data: Path) -> None:
    good = damage(logs(data)[1], 3)
    (data / "topics" / "t" / "topic.properties").write_bytes(b"nonsense")
    assert "warning: " in run("salvage", data, "--write").stderr
    assert batches(logs(data)[1]) == good


_HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # what Java's FileChannel.tryLock does
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the two kinds of locks are one")
def test_a_directory_that_a_live_kafka_holds_is_left_alone(data: Path) -> None:
    damage(logs(data)[1], 3)
    (data / "meta.properties").write_text("version=1\nnode.id=1\n")  # Kafka's
    (data / ".lock").write_text("not to be touched")
    before = {path: path.read_bytes() for path in sorted(data.rglob("*")) if path.is_file()}
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(data / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        for args in (["salvage", "--write"], ["reindex"]):
            for path in (data, data / "t_0"):
                assert "is open in another process" in run(*args, path, status=2).stderr
        holder.communicate(timeout=30)
    assert {path: path.read_bytes() for path in before} == before
    run("salvage", "--write", data)
    run("reindex", data)
    assert (data / ".lock").read_text() == "not to be touched"


@pytest.mark.parametrize(
    "meta", [b"logstore.format=99\n", b"\xff\xfe", b""], ids=["a later format", "damaged", "empty"]
)
def test_a_directory_that_does_not_say_that_it_is_ours_keeps_its_lock_file(data: Path, meta: bytes) -> None:
    (data / "meta.properties").write_bytes(meta)
    (data / ".lock").write_text("not to be touched")
    lock_data_dir(data).close()
    assert (data / ".lock").read_text() == "not to be touched"
    assert index_intervals(data) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the two kinds of locks are one")
def test_kafka_cannot_open_a_directory_that_we_hold_whatever_else_we_close(data: Path) -> None:
    hold = [sys.executable, "-c", _HOLD, str(data / ".lock")]
    with logstore.open(data):
        with pytest.raises(DataDirLocked):
            logstore.open(data)
        (data / ".lock").read_bytes()
        refused = subprocess.run(hold, input=b"", capture_output=True, timeout=30, check=False)
        assert b"BlockingIOError" in refused.stderr
    assert subprocess.run(hold, input=b"", capture_output=True, timeout=30, check=False).returncode == 0
