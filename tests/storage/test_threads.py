"""Readers of one log that meet at once what only one of them can do, or what is being cut."""

import threading
from pathlib import Path
from typing import Any

from log_tools import open_log
from logstore.errors import CorruptBatch, OffsetOutOfRange
from logstore.storage.partition import PartitionLog


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
