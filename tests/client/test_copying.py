"""Copies between directories: what is kept, what is refused, what survives damage. With clusters: see cli/test_copy."""

import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import logstore
from cli import command, environment
from kafka_golden import GOLDEN, golden_groups, golden_partitions
from logstore.client.copying.copier import Copier
from logstore.client.copying.directory import DirectorySource, DirectoryTarget
from logstore.client.copying.offsets import Carried
from logstore.client.copying.planning import Job
from logstore.errors import CopyRefused, DamagedLog
from logstore.format.batch import encode_batch
from logstore.format.control_record import encode_marker
from logstore.format.filename import TopicPartition
from logstore.format.record import Record
from logstore.groups.requests import OffsetAndMetadata

COMMIT, ABORT = 1, 0
_TRANSACTIONAL, _CONTROL = 0x10, 0x20


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "source"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "target"


def copied(here: Path, there: Path, **options: Any) -> tuple[list[Job], list[Carried]]:
    with logstore.open(here, read_only=True) as source, logstore.open(there) as target:
        skips = options.get("skips_damage", False)
        copier = Copier(DirectorySource(source, decodes_all=skips), DirectoryTarget(target), **options)
        copier.copy()
        return copier.jobs, list(copier.carry_over())


def contents(path: Path, topic: str = "t", partition: int = 0) -> list[Record]:
    with logstore.open(path, read_only=True) as store:
        return list(store.log(topic, partition).records(store.log(topic, partition).log_start_offset))


def values(path: Path, topic: str = "t", partition: int = 0) -> list[bytes | None]:
    return [record.value for record in contents(path, topic, partition)]


def fill(path: Path, first: int = 0, count: int = 10, topic: str = "t", **settings: Any) -> None:
    """``count`` records, a batch each."""
    with logstore.open(path) as store:
        if topic not in {found.name for found in store.topics()}:
            store.create_topic(topic, 1, **settings)
        for number in range(first, first + count):
            store.log(topic).append([b"%d" % number], keys=[b"k%d" % number])


def numbered(count: int, first: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(first, first + count)]


# ------------------------------------------------------------------------------------------------------- what is kept


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_batches_are_copied_as_they_are_with_offsets_times_keys_and_headers(
    here: Path, there: Path, codec: str
) -> None:
    with logstore.open(here) as store:
        store.create_topic("t", 2, retention_ms=-1)
        for number in range(5):
            store.log("t", 1).append(
                [b"v" * 100, None, b""],
                keys=[None, b"k", b""],
                headers=[[("h", b"1"), ("h", None)], [], [("", b"")]],
                timestamps_ms=[1000 + number, 5, 0],
                compression=codec,
            )
    copied(here, there)
    assert contents(there, partition=1) == contents(here, partition=1)
    assert contents(there, partition=0) == []
    with logstore.open(here, read_only=True) as source, logstore.open(there, read_only=True) as target:
        assert target.topic("t").partitions == 2
        assert target.topic("t").config == source.topic("t").config
        assert target.log("t", 1).read(0).read() == source.log("t", 1).read(0).read()


def test_only_topics_that_are_not_internal_are_copied_and_queues_as_plain_ones(here: Path, there: Path) -> None:
    fill(here)
    with logstore.open(here) as store:
        store.queue("jobs").put(b"job")
        store.groups.commit("g", {("t", 0): OffsetAndMetadata(3)})
    copied(here, there)
    with logstore.open(there) as store:
        assert {topic.name for topic in store.topics()} == {"t", "jobs", "__copy", "__consumer_offsets"}
        assert store.queues() == []
    assert values(there, "jobs") == [b"job"]


def test_a_second_copy_takes_only_what_is_new(here: Path, there: Path) -> None:
    fill(here)
    assert copied(here, there)[0][0].record_count == 10
    assert copied(here, there)[0][0].record_count == 0
    fill(here, 10, 3)
    (job,) = copied(here, there)[0]
    assert (job.begin, job.at) == ((10, 10), (13, 13))
    assert values(there) == numbered(13)


def test_a_source_that_begins_later_has_its_offsets_mapped(here: Path, there: Path) -> None:
    fill(here)
    with logstore.open(here) as store:
        store.advance_log_start("t", 0, 4)
        store.groups.commit("g", {("t", 0): OffsetAndMetadata(6, "here")})
        store.groups.commit("old", {("t", 0): OffsetAndMetadata(2)})
    jobs, carried = copied(here, there)
    assert (jobs[0].start, jobs[0].at) == ((4, 0), (10, 6))
    assert values(there) == numbered(6, 4)
    assert carried == [
        Carried("g", TopicPartition("t", 0), 6, 2),
        Carried("old", TopicPartition("t", 0), 2, 0),
    ]
    with logstore.open(there, read_only=True) as store:
        assert store.groups.committed("g") == {("t", 0): OffsetAndMetadata(2, "here")}


def test_a_batch_that_is_resumed_in_the_middle_is_cut(here: Path, there: Path) -> None:
    with logstore.open(here) as store:
        store.create_topic("t", 1)
        store.log("t").append(numbered(10), timestamps_ms=list(range(10)))
        store.advance_log_start("t", 0, 3)
    copied(here, there)
    assert [(record.offset, record.timestamp_ms, record.value) for record in contents(there)] == [
        (number - 3, number, b"%d" % number) for number in range(3, 10)
    ]


def transaction(log: Any, producer: int, value: bytes | None, end: int | None = None, sequence: int = 0) -> None:
    """A record of a producer's transaction; or, without a value, its end."""
    if value is not None:
        attributes, content, keys = _TRANSACTIONAL, value, [b"key"]
    else:
        key, content = encode_marker(end or 0, 0)
        attributes, keys, sequence = _TRANSACTIONAL | _CONTROL, [key], -1
    log.append_batches(
        encode_batch(
            [content],
            keys=keys,
            timestamps_ms=7,
            attributes=attributes,
            producer_id=producer,
            producer_epoch=0,
            base_sequence=sequence,
        )
    )


def test_transactions_become_plain_records_and_offsets_of_groups_follow_them(here: Path, there: Path) -> None:
    with logstore.open(here) as store:
        store.create_topic("t", 1)
        log = store.log("t")
        transaction(log, 1, b"kept")  # 0
        transaction(log, 2, b"aborted")  # 1
        transaction(log, 1, None, COMMIT)  # 2
        log.append([b"plain"])  # 3
        transaction(log, 2, None, ABORT)  # 4
        log.append([b"last"])  # 5
        transaction(log, 1, b"unfinished", sequence=1)  # 6
        log.append([b"behind it"])  # 7
        for number in range(9):
            store.groups.commit(f"g{number}", {("t", 0): OffsetAndMetadata(number)})
    jobs, carried = copied(here, there)
    assert values(there) == [b"kept", b"plain", b"last"]
    assert (jobs[0].at.source, jobs[0].at.target) == (6, 3)
    assert [each.target_offset for each in carried] == [0, 1, 1, 1, 2, 2, 3, 3, 3]
    with logstore.open(here) as store:
        transaction(store.log("t"), 1, None, COMMIT)  # 8
    jobs, carried = copied(here, there)
    assert values(there) == [b"kept", b"plain", b"last", b"unfinished", b"behind it"]
    assert [each.target_offset for each in carried] == [0, 1, 1, 1, 2, 2, 3, 4, 5]
    assert all(not each.left for each in carried)


def test_a_compacted_topic_keeps_its_records_and_groups_go_on_at_the_right_one(here: Path, there: Path) -> None:
    with logstore.open(here, log_cleaner_backoff_ms=10) as store:
        store.create_topic("t", 1, cleanup_policy="compact", min_cleanable_dirty_ratio=0.01, segment_bytes=400)
        log = store.log("t")
        for number in range(60):
            log.append([b"%d" % number, b"x"], keys=[b"k%d" % (number % 3), b"only%d" % number], compression="gzip")
        log.roll()
        deadline = time.monotonic() + 30
        while len(list(log.records(0))) == 120:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    before = contents(here)
    for number in (0, 30, 77, 120):
        with logstore.open(here) as store:
            store.groups.commit(f"g{number}", {("t", 0): OffsetAndMetadata(number)})
    _, carried = copied(here, there)
    with logstore.open(there) as store:
        assert store.topic("t").config.compacts
        assert store.log("t").log_end_offset == len(before)
    for each in carried:
        assert each.target_offset == sum(record.offset < each.source_offset for record in before)


def test_settings_that_would_change_the_records_times_are_left_out_and_told(here: Path, there: Path) -> None:
    fill(here, message_timestamp_type="LogAppendTime", retention_ms=-1)
    before, told = contents(here), []
    copied(here, there, tell=told.append)
    assert contents(there) == before
    assert "message.timestamp.type=LogAppendTime is left out" in told[0]


def test_a_live_source_is_copied_beside_its_owner(here: Path, there: Path) -> None:
    with logstore.open(here) as owner:
        owner.create_topic("t", 1)
        owner.log("t").append(numbered(5))
        copied(here, there)
        owner.log("t").append(numbered(5, 5))
        copied(here, there)
    assert values(there) == numbered(10)


def test_apache_kafkas_own_directory_is_copied_with_its_groups(there: Path) -> None:
    _, carried = copied(GOLDEN / "data", there)
    expected = {}
    for partition in golden_partitions():
        if not partition.topic.startswith("__"):
            records = [each for each in partition.records if partition.committed_offsets is None]
            records = records or [
                each for each in partition.records if each.offset in (partition.committed_offsets or ())
            ]
            expected[partition.topic, partition.partition] = records
            found = contents(there, partition.topic, partition.partition)
            assert [tuple(each[1:4]) for each in found] == [tuple(each[1:4]) for each in records]
            assert [list(each.headers) for each in found] == [each.headers for each in records]
    assert len(expected) > 5
    groups = golden_groups()
    assert {each.group for each in carried} <= groups.keys()
    assert carried
    for each in carried:
        assert each.source_offset == groups[each.group][each.partition][0]
        assert each.target_offset == sum(record.offset < each.source_offset for record in expected[each.partition])


# ------------------------------------------------------------------------------------------------------------- groups


def committed(path: Path, group: str = "g") -> int | None:
    with logstore.open(path, read_only=True) as store:
        found = store.groups.committed(group).get(TopicPartition("t", 0))
        return None if found is None else found.offset


def commit(path: Path, offset: int, group: str = "g") -> None:
    with logstore.open(path) as store:
        store.groups.commit(group, {("t", 0): OffsetAndMetadata(offset)})


def test_a_groups_offset_follows_the_source_until_the_group_goes_on_by_itself(here: Path, there: Path) -> None:
    fill(here)
    commit(here, 3)
    copied(here, there)
    assert committed(there) == 3
    commit(here, 5)
    copied(here, there)
    assert committed(there) == 5
    commit(there, 4)  # itself
    commit(here, 8)
    _, (carried,) = copied(here, there)
    assert committed(there) == 4
    assert carried.left == "it has committed offset 4 there by itself"


def test_a_groups_offset_is_never_moved_back(here: Path, there: Path) -> None:
    fill(here)
    commit(here, 5)
    copied(here, there)
    commit(here, 2)
    _, (carried,) = copied(here, there)
    assert committed(there) == 5
    assert carried.left == "it was at offset 5 before"


def test_a_groups_offset_in_the_target_of_before_the_first_copy_is_left_alone(here: Path, there: Path) -> None:
    fill(here)
    commit(here, 5)
    with logstore.open(there) as store:
        store.create_topic("t", 1)
        store.groups.commit("g", {("t", 0): OffsetAndMetadata(0)})
    _, (carried,) = copied(here, there)
    assert committed(there) == 0
    assert carried.left


def test_only_the_groups_that_are_named_are_carried_over(here: Path, there: Path) -> None:
    fill(here)
    commit(here, 5)
    commit(here, 6, "other")
    assert copied(here, there, groups=[])[1] == []
    assert [each.group for each in copied(here, there, groups=["other"])[1]] == ["other"]
    with pytest.raises(logstore.UnknownGroup):
        copied(here, there, groups=["nobody"])


def test_a_consumer_goes_on_at_the_record_that_it_would_have_got_next(here: Path, there: Path) -> None:
    fill(here)
    with logstore.open(here) as store, store.consumer("t", group="g", auto_offset_reset="earliest") as consumer:
        assert len(consumer.poll(10, max_records=4)) == 4
        consumer.commit()
    copied(here, there)
    with logstore.open(there) as store, store.consumer("t", group="g", auto_offset_reset="none") as consumer:
        assert consumer.poll(10)[0].value == b"4"


# ------------------------------------------------------------------------------------------------------------ refused


def test_a_target_with_records_that_no_copy_put_there_is_refused_unless_appending(here: Path, there: Path) -> None:
    fill(here)
    fill(there, 100, 2)
    commit(here, 3)
    with pytest.raises(CopyRefused, match=r"t-0: the target has 2 offsets of records.*--append"):
        copied(here, there)
    _, (carried,) = copied(here, there, appends=True)
    assert values(there) == numbered(2, 100) + numbered(10)
    assert carried.target_offset == 5
    fill(here, 10, 1)
    copied(here, there)
    copied(here, there, appends=True)
    assert values(there) == numbered(2, 100) + numbered(11)


def test_a_target_with_fewer_partitions_is_refused_before_anything_is_made(here: Path, there: Path) -> None:
    with logstore.open(here) as store:
        store.create_topic("a", 1)
        store.create_topic("t", 2)
    with logstore.open(there) as store:
        store.create_topic("t", 1)
    with pytest.raises(CopyRefused, match="the target's topic has 1 partitions, the source's 2"):
        copied(here, there)
    with logstore.open(there, read_only=True) as store:
        assert [topic.name for topic in store.topics()] == ["t"]


def test_another_writer_in_the_target_is_found_out(here: Path, there: Path) -> None:
    fill(here)
    copied(here, there)
    fill(there, 77, 1)
    with pytest.raises(CopyRefused, match=r"t-0: .*another writer has been at work.*delete the topic"):
        copied(here, there)
    fill(here, 10, 1)
    with pytest.raises(CopyRefused, match="the record at offset 10 of the target is not that at 10 of the source"):
        copied(here, there)


def test_a_target_that_lost_records_is_refused(here: Path, there: Path) -> None:
    fill(here)
    copied(here, there)
    with logstore.open(there) as store:
        store.log("t").truncate_to(6)
    with pytest.raises(CopyRefused, match="the target ends at offset 6, and 10 had been reached"):
        copied(here, there)


def test_a_source_that_was_cut_is_refused(here: Path, there: Path) -> None:
    fill(here)
    copied(here, there)
    with logstore.open(here) as store:
        store.log("t").truncate_to(6)
    with pytest.raises(CopyRefused, match="the source ends at offset 6, and had been copied up to 10"):
        copied(here, there)


def test_a_topic_made_anew_in_the_target_is_copied_anew(here: Path, there: Path) -> None:
    fill(here)
    copied(here, there)
    with logstore.open(there) as store:
        store.delete_topic("t")
    copied(here, there)
    assert values(there) == numbered(10)


def test_a_topic_made_anew_in_the_source_is_another_one(here: Path, there: Path) -> None:
    fill(here)
    copied(here, there)
    with logstore.open(here) as store:
        store.delete_topic("t")
    fill(here)
    with pytest.raises(CopyRefused, match="no copy of this source noted them"):
        copied(here, there)


@pytest.mark.parametrize("name", ["__consumer_offsets", "__queue.jobs", "__copy"])
def test_topics_that_mean_something_in_their_own_place_only_are_refused(here: Path, there: Path, name: str) -> None:
    fill(here)
    with pytest.raises(CopyRefused, match="leave it out"):
        copied(here, there, topics=[name])


def test_a_topic_that_is_not_there_is_unknown(here: Path, there: Path) -> None:
    fill(here)
    with pytest.raises(logstore.UnknownTopic):
        copied(here, there, topics=["t", "u"])


def test_a_target_that_changes_times_is_refused(here: Path, there: Path) -> None:
    fill(here)
    with logstore.open(there) as store:
        store.create_topic("t", 1, message_timestamp_type="LogAppendTime")
    with pytest.raises(CopyRefused, match="LogAppendTime"):
        copied(here, there)


def test_a_record_that_the_target_does_not_take_is_refused_by_the_name_of_its_partition(
    here: Path, there: Path
) -> None:
    fill(here)
    with logstore.open(here) as store:
        store.log("t").append([b"x" * 1000])
    with logstore.open(there) as store:
        store.create_topic("t", 1, max_message_bytes=500)
    with pytest.raises(CopyRefused, match=r"t-0: the target does not take .* over the limit of 500"):
        copied(here, there)
    assert values(there) == numbered(10)
    with logstore.open(there) as store:
        store.alter_topic("t", {"max.message.bytes": None})
    copied(here, there)
    assert contents(there) == contents(here)


# ------------------------------------------------------------------------------------------------------------- damage


def damage(path: Path, number: int) -> None:
    """Overwrite some bytes of the batch of a record."""
    with logstore.open(path, read_only=True) as store:
        log = store.log("t")
        position = len(log.read(0).read()) - len(log.read(number).read())
    file = path / "t_0" / "00000000000000000000.log"
    raw = bytearray(file.read_bytes())
    raw[position + 62 : position + 66] = b"\xff\xff\xff\xff"
    file.write_bytes(raw)


def test_damage_in_the_source_stops_the_copy_and_can_be_passed_over(here: Path, there: Path) -> None:
    fill(here)
    commit(here, 8)
    damage(here, 4)
    with pytest.raises(DamagedLog):
        copied(here, there)
    assert values(there) == numbered(4)
    assert committed_or_none(there) is None
    (job,), (carried,) = copied(here, there, skips_damage=True)
    assert values(there) == numbered(4) + numbered(5, 5)
    assert [(skipped.first, skipped.last, skipped.is_damage) for skipped in job.reader.skipped] == [(4, 4, True)]
    assert (carried.source_offset, carried.target_offset) == (8, 7)
    fill(here, 10, 2)
    (job,), _ = copied(here, there)  # the damage lies behind
    assert values(there) == numbered(4) + numbered(7, 5)


def committed_or_none(path: Path) -> int | None:
    return committed(path)


def test_what_retention_took_before_it_was_copied_is_told(here: Path, there: Path) -> None:
    fill(here)
    copied(here, there)
    fill(here, 10, 10)
    with logstore.open(here) as store:
        store.advance_log_start("t", 0, 15)
        store.groups.commit("g", {("t", 0): OffsetAndMetadata(17)})
    (job,), (carried,) = copied(here, there)
    assert [skipped[:2] for skipped in job.reader.skipped] == [(10, 14)]
    assert values(there) == numbered(10) + numbered(5, 15)
    assert carried.target_offset == 12


# -------------------------------------------------------------------------------------------------------------- kills


def test_a_copy_that_is_killed_anywhere_goes_on_without_doubling_or_losing_a_record(here: Path, there: Path) -> None:
    with logstore.open(here) as store:
        store.create_topic("t", 2, retention_ms=-1)
        for number in range(3000):
            store.log("t", number % 2).append([b"%d-%d" % (number, each) for each in range(10)], compression="lz4")
        store.groups.commit("g", {("t", 0): OffsetAndMetadata(10_001), ("t", 1): OffsetAndMetadata(7)})
    chance, kills = random.Random(4), 0
    arguments = command("copy", here, there)
    while True:
        process = subprocess.Popen(arguments, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if kills < 8:
            kill_when_it_has_grown(process, there, chance.randrange(1, 40_000))
        _, errors = process.communicate(timeout=60)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors
        kills += 1
    for partition in (0, 1):
        assert contents(there, partition=partition) == contents(here, partition=partition)
    assert committed(there) == 10_001
    assert kills >= 3


def kill_when_it_has_grown(process: "subprocess.Popen[bytes]", path: Path, size: int) -> None:
    """Kill the copier when its target's logs have grown by ``size`` bytes, if it comes to that."""
    before = log_size(path)
    deadline = time.monotonic() + 30
    while process.poll() is None and log_size(path) - before < size:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)


def log_size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.glob("*/*.log"))


@pytest.mark.parametrize("call", ["append", "sync", "note"])
def test_a_copy_that_ends_before_any_step_of_its_goes_on(
    here: Path, there: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    fill(here, count=30)
    commit(here, 21)
    monkeypatch.setattr(DirectoryTarget, "sync_size", 300)  # some four records
    steps = 0

    class Stopped(Exception):
        pass

    def stop_at(limit: int) -> Callable[..., Any]:
        def step(original: Callable[..., Any]) -> Callable[..., Any]:
            def stepping(*arguments: Any) -> Any:
                nonlocal steps
                steps += 1
                if steps == limit:
                    raise Stopped
                return original(*arguments)

            return stepping

        return step

    from logstore.client.copying import directory

    owner: Any = DirectoryTarget if call == "note" else directory._LogWriter
    original = getattr(owner, call)
    for limit in range(1, 200):
        steps = 0
        monkeypatch.setattr(owner, call, stop_at(limit)(original))
        try:
            copied(here, there)
            break
        except Stopped:
            assert values_so_far(there) == numbered(len(values_so_far(there)))
        monkeypatch.setattr(owner, call, original)
    assert contents(there) == contents(here)
    assert committed(there) == 21
    assert limit > 1


def values_so_far(path: Path) -> list[bytes | None]:
    try:
        return values(path)
    except logstore.UnknownTopic:
        return []


def test_a_target_that_is_damaged_is_refused(here: Path, there: Path) -> None:
    fill(here)
    copied(here, there)
    fill(there, 10, 5)
    fill(here, 10, 5)
    damage(there, 10)
    with pytest.raises(CopyRefused, match="t_0: the target is damaged"):
        copied(here, there)


def test_offsets_of_groups_before_what_retention_took_since_go_to_the_first_record_that_is_left(
    here: Path, there: Path
) -> None:
    with logstore.open(here) as store:
        store.create_topic("t", 1)
        log = store.log("t")
        for number in range(4):
            log.append([b"%d" % number])  # 0, 2, 4, 6
            transaction(log, 1, b"aborted", sequence=number)
            transaction(log, 1, None, ABORT)
    copied(here, there)
    with logstore.open(here) as store:
        store.advance_log_start("t", 0, 4)
        store.groups.commit("g", {("t", 0): OffsetAndMetadata(1)})
    (job,), (carried,) = copied(here, there)
    assert values(there) == numbered(4)
    assert carried.target_offset == 2  # of offsets 0, 3, 6, 9 the first two are gone
    assert not job.reader.skipped
