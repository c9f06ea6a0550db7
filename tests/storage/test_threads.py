"""Many readers and writers of one log at once, with rolls and retention going on, judged by the history they saw."""

import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from log_tools import open_log
from logstore.config import TopicConfig
from logstore.errors import CorruptBatch, OffsetOutOfRange
from logstore.format.compression import Compression
from logstore.storage.cache import Caches
from logstore.storage.durability import Durability
from logstore.storage.log_writer import wall_clock_ms
from logstore.storage.partition import PartitionLog

WRITERS, READERS = 4, 4


class History:
    """What each thread did, and the first thing that went wrong in any."""

    def __init__(self) -> None:
        self.acked: dict[int, bytes] = {}
        self.seen: list[dict[int, bytes]] = []
        self.failures: list[str] = []
        self.stop = threading.Event()
        self.is_written = threading.Event()  # after the last append

    def thread(self, work: Any, *arguments: Any) -> threading.Thread:
        def guarded() -> None:
            try:
                work(*arguments)
            except BaseException as error:
                self.failures.append(f"{work.__name__}{arguments[1:]}: {error!r}")
                self.stop.set()
                raise

        return threading.Thread(target=guarded, name=work.__name__)

    def write(self, log: PartitionLog, writer: int) -> None:
        number = 0
        while not self.stop.is_set():
            count = 1 + number % 3
            values = [b"%d:%d" % (writer, at) for at in range(number, number + count)]
            durability = Durability.FSYNC if number % 50 == 0 else Durability.OS
            compression = Compression.LZ4 if number % 7 == 0 else Compression.NONE
            receipt = log.append(values, durability=durability, compression=compression)
            for offset, value in enumerate(values, receipt.base_offset):
                if offset in self.acked:
                    self.failures.append(f"offset {offset} was given twice")
                self.acked[offset] = value
            number += count
            time.sleep(0.0005)

    def read(self, log: PartitionLog, reader: int) -> None:
        seen: dict[int, bytes] = {}
        self.seen.append(seen)
        offset = 0
        while not (self.is_written.is_set() and offset >= log.log_end_offset):
            try:
                for record in log.records(offset):
                    if record.offset != offset:
                        self.failures.append(f"reader {reader} asked for {offset} and got {record.offset}")
                    assert record.value is not None
                    seen[record.offset] = record.value
                    offset = record.offset + 1
            except OffsetOutOfRange as error:  # retention was faster
                if not offset < error.log_start_offset:
                    raise
                offset = error.log_start_offset
            log.wait(offset, 0.01)

    def look_around(self, log: PartitionLog, reader: int) -> None:
        """Reads at random offsets and times, of what is the oldest and the newest."""
        step = 0
        while not self.stop.is_set():
            step += 1
            view = log.view
            span = view.log_end_offset - view.log_start_offset
            offset = view.log_start_offset + (step * 7919) % (span + 1)
            try:
                data = log.read(offset, 2000)
                assert data.size == 0 or len(data.read()) == data.size
                if offset < view.log_end_offset:
                    assert next(view.records(offset)).offset == offset
                found = log.offset_for_time(wall_clock_ms() - step % 500)
                assert found is None or found.offset < log.log_end_offset
            except OffsetOutOfRange:
                assert log.log_start_offset > offset

    def retain(self, log: PartitionLog) -> None:
        while not self.stop.is_set():
            time.sleep(0.05)
            log.delete_expired()
            log.checkpoint()
            log.roll()
            log.unlink_retired()

    def check(self, log: PartitionLog) -> None:
        assert not self.failures, self.failures
        assert sorted(self.acked) == list(range(log.log_end_offset)), "an offset was skipped or never acknowledged"
        by_writer: dict[bytes, list[int]] = defaultdict(list)
        for offset in sorted(self.acked):
            writer, number = self.acked[offset].split(b":")
            by_writer[writer].append(int(number))
        assert len(by_writer) == WRITERS
        for numbers in by_writer.values():
            assert numbers == list(range(len(numbers))), "lost, doubled or out of order"
        for seen in self.seen:
            for offset, value in seen.items():
                assert self.acked[offset] == value
        everything = {record.offset: record.value for record in log.records(log.log_start_offset)}
        assert everything == {offset: value for offset, value in self.acked.items() if offset >= log.log_start_offset}


@pytest.mark.parametrize("retention", ["keeps everything", "keeps little"])
def test_no_acked_value_is_lost_doubled_or_out_of_order(tmp_path: Path, retention: str) -> None:
    log = open_log(
        tmp_path / "t_0",
        wall_clock_ms,  # type: ignore[arg-type]
        caches=Caches(open_file_count=20, index_bytes=20_000),
        segment_bytes=20_000,
        index_interval_bytes=300,
        retention_bytes=-1 if retention == "keeps everything" else 60_000,
    )
    history = History()
    threads = [history.thread(history.write, log, writer) for writer in range(WRITERS)]
    threads += [history.thread(history.read, log, reader) for reader in range(READERS)]
    threads += [history.thread(history.look_around, log, 0), history.thread(history.retain, log)]
    for thread in threads:
        thread.start()
    history.stop.wait(1.7)
    history.stop.set()
    for thread in threads[:WRITERS]:
        thread.join(30)
    history.is_written.set()
    for thread in threads[WRITERS:]:
        thread.join(30)
    assert not [thread for thread in threads if thread.is_alive()]
    assert log.log_end_offset > 100
    history.check(log)
    if retention == "keeps everything":
        assert all(len(seen) == log.log_end_offset for seen in history.seen)
    else:
        assert log.log_start_offset > 0
    log.flush()
    again = PartitionLog(log.directory, TopicConfig(), log_start_offset=log.log_start_offset)
    history.check(again)


def test_readers_that_meet_a_missing_index_at_once_all_get_their_records(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", segment_bytes=3000, index_interval_bytes=100)
    for number in range(600):
        log.append([b"%d" % number])
    log.close()
    for attempt in range(5):
        again = open_log(log.directory, index_interval_bytes=100, is_clean=True, recovery_point=600)
        for path in log.directory.glob("*index"):
            path.unlink()
        failures: list[str] = []
        start = threading.Barrier(8)

        def read(seed: int, again: PartitionLog = again, start: Any = start, failures: Any = failures) -> None:
            start.wait(10)
            try:
                for offset in range(seed % 3, 600, 7):
                    assert next(again.records(offset)).value == b"%d" % offset
                    again.offset_for_time(1)
            except Exception as error:  # noqa: BLE001  # whatever it is, the main thread reports it
                failures.append(repr(error))

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not failures, (attempt, failures[:3])
        again.close()


def test_one_log_is_truncated_while_others_read(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0", segment_bytes=2000, index_interval_bytes=100)
    stop = threading.Event()
    failures: list[str] = []

    def read() -> None:
        while not stop.wait(0.003):  # who reads without a pause leaves the writer little of the interpreter
            try:
                records = list(log.records(0))
                failures.extend(repr(record) for record in records if record.value != b"%d" % record.offset)
            except (CorruptBatch, OffsetOutOfRange):
                pass  # the view is older than the truncation: the bytes it meant are gone
            except Exception as error:  # noqa: BLE001  # whatever it is, the main thread reports it
                failures.append(repr(error))
                return

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(12):
        while log.log_end_offset < 120:
            log.append([b"%d" % log.log_end_offset])
        log.truncate_to(40)
    stop.set()
    for thread in threads:
        thread.join(30)
    assert not failures, failures[:3]
    assert [record.value for record in log.records(0)] == [b"%d" % number for number in range(40)]
