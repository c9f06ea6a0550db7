"""Threads that write to, and read from, the logs of one store, and note in a ``History`` what they did and saw."""

import errno
import random
import threading
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from history import Entry, History
from logstore.errors import LogstoreError, OffsetOutOfRange, StorageFailure
from logstore.format.batch import batches
from logstore.format.compression import Compression
from logstore.format.record import Record
from logstore.storage.durability import Durability
from logstore.storage.log_view import LogView
from logstore.storage.partition import PartitionLog
from logstore.storage.read_only import ReadOnlyLog

CODECS = list(Compression)
Keys = list[bytes | None]


def batch_of(client: str, number: int, key_count: int) -> tuple[list[bytes | None], Keys | None]:
    """Values and keys of a client's batch of this number: every value is like no other. Some of those with keys are
    tombstones, and some keys come once and never again."""
    name = b"%s.%d" % (client.encode(), number)
    count = 1 + number % 4
    values: list[bytes | None] = [b"%s.%d " % (name, i) + b"." * (number % 60) for i in range(count)]
    if not key_count:
        return values, None
    keys: Keys = [b"key %d" % ((number * 7 + i) % key_count) for i in range(count)]
    if number % 11 == 10:
        values[0] = None
    elif number % 3 == 0:
        keys[-1] = name
    return values, keys


class Crew:
    """The threads. One that meets an error of the engine's ends with it (see ``ended``); any other is a failure."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.stop = threading.Event()  # for who writes
        self.is_quiet = threading.Event()  # nobody writes any more: readers read on to the end, and stop
        self.failures: list[str] = []
        self.ended: list[tuple[str, LogstoreError]] = []
        self.threads: list[threading.Thread] = []

    def start(self, name: str, work: Callable[..., None], *arguments: Any, **options: Any) -> threading.Thread:
        def guarded() -> None:
            try:
                work(*arguments, **options)
            except LogstoreError as error:
                self.ended.append((name, error))
            except BaseException as error:
                self.failures.append(f"{name}: {error!r}")
                self.stop.set()
                self.is_quiet.set()
                raise

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        self.threads.append(thread)
        thread.start()
        return thread

    def finish(self, writers: Sequence[threading.Thread], timeout_s: float = 60) -> None:
        """Stop who writes, then who reads, and see that all end."""
        self.stop.set()
        self.join(writers, timeout_s)
        self.is_quiet.set()
        self.join(self.threads, timeout_s)

    def join(self, threads: Sequence[threading.Thread], timeout_s: float = 60) -> None:
        for thread in threads:
            thread.join(timeout_s)
        assert not [thread.name for thread in threads if thread.is_alive()], "a thread hangs"
        assert not self.failures, self.failures

    # -------------------------------------------------------------------------------------------------------- writing

    def write(
        self,
        log: PartitionLog,
        client: str,
        *,
        key_count: int = 0,
        producer_id: int = -1,
        fsync_every: int = 20,
        note: Callable[[int, int], None] = lambda number, base_offset: None,
    ) -> None:
        """Append batch after batch; an idempotent producer sends some twice. ``note`` is told of each receipt."""
        number = sequence = 0
        while not self.stop.is_set():
            values, keys = batch_of(client, number, key_count)
            append = self.history.begin(log.name, client, number, values, keys)
            options: dict[str, Any] = {
                "keys": keys,
                "compression": CODECS[number % len(CODECS)] if number % 3 == 0 else Compression.NONE,
                "durability": Durability.FSYNC if number % fsync_every == 0 else Durability.OS,
            }
            if producer_id >= 0:
                options |= {"producer_id": producer_id, "producer_epoch": 0, "base_sequence": sequence}
            receipt = log.append(values, **options)
            self.history.acknowledge(append, receipt.base_offset)
            note(number, receipt.base_offset)
            if producer_id >= 0 and number % 4 == 0:
                again = log.append(values, **options)
                assert again.is_duplicate and again.base_offset == receipt.base_offset
            number += 1
            sequence += len(values)
            self.stop.wait(0.001)  # who writes without a pause leaves the readers little of the interpreter

    # -------------------------------------------------------------------------------------------------------- reading

    def tail(self, log: PartitionLog | ReadOnlyLog, reader: str) -> None:
        """Read on from where the last poll ended, and wait for more, up to the end."""
        offset = turn = 0
        while True:
            is_last = self.is_quiet.is_set()
            turn += 1
            if turn % 3 and not is_last:
                offset = self.poll_records(log, reader, offset)
            elif is_last:
                while (following := self.poll_records(log, reader, offset)) != offset:
                    offset = following
                return
            else:
                offset = self.poll_bytes(log, reader, offset)
            log.wait(offset, 0.02)

    def jump(self, log: PartitionLog | ReadOnlyLog, reader: str, seed: int) -> None:
        """Read a little here and there."""
        randomly = random.Random(seed)
        while not self.is_quiet.wait(0.002):
            view = log.view
            offset = randomly.randint(view.log_start_offset, view.log_end_offset)
            self.poll_records(log, reader, offset, randomly.randint(1, 60))

    def poll_records(
        self, log: PartitionLog | ReadOnlyLog, reader: str, offset: int, count_max: int | None = None
    ) -> int:
        """One poll: where the next one begins."""

        def read(view: LogView, entries: list[Entry]) -> tuple[int, bool]:
            entries.extend(map(entry_of, islice(view.records(offset), count_max)))
            if count_max is not None and len(entries) == count_max:
                return entries[-1].offset + 1, False
            return view.log_end_offset, True

        return self._poll(log, reader, offset, read)

    def poll_bytes(self, log: PartitionLog | ReadOnlyLog, reader: str, offset: int) -> int:
        """One poll by the bytes of a file, as a broker would send them."""

        def read(view: LogView, entries: list[Entry]) -> tuple[int, bool]:
            next_offset = offset
            for batch in batches(view.read(offset, 3000).read()):
                batch.check_crc()
                entries.extend(entry_of(record) for record in batch.records() if record.offset >= offset)
                next_offset = batch.header.next_offset
            return next_offset, False

        return self._poll(log, reader, offset, read)

    def _poll(
        self,
        log: PartitionLog | ReadOnlyLog,
        reader: str,
        offset: int,
        read: Callable[[LogView, list[Entry]], tuple[int, bool]],
    ) -> int:
        acked_end = self.history.acked_end(log.name)
        entries: list[Entry] = []
        view = log.view
        try:
            next_offset, is_whole = read(view, entries)
        except OffsetOutOfRange as error:  # retention was faster
            if offset >= error.log_start_offset:
                raise
            offset = next_offset = error.log_start_offset
            is_whole = False
        except StorageFailure as error:  # it was faster by the whole delay for which files stay
            if error.errno != errno.ENOENT:
                raise
            next_offset, is_whole = entries[-1].offset + 1 if entries else offset, False
        self.history.poll(
            log.name,
            reader,
            offset,
            entries,
            next_offset,
            log_start_offset=view.log_start_offset,
            acked_end=acked_end,
            is_whole=is_whole,
        )
        return next_offset


def entry_of(record: Record) -> Entry:
    return Entry(record.offset, record.key, record.value)
