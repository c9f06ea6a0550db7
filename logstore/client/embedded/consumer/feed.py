"""One partition as a consumer reads it: a position, and the batch that was decoded last, kept between polls."""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import repeat
from operator import attrgetter

from logstore.client.consumer import ConsumerRecord
from logstore.client.embedded.consumer.transactions import Transactions
from logstore.errors import CorruptBatch, DamagedLog, OffsetGap, OffsetOutOfRange, StorageFailure
from logstore.format.batch import RecordBatch
from logstore.format.filename import TopicPartition
from logstore.format.record_columns import COLUMNS_RECORD_COUNT_MIN
from logstore.storage.log_view import LogView
from logstore.storage.partition import PartitionLog

offset_of = attrgetter("offset")


class Feed:
    """See the module. ``position`` is the first offset that has not been consumed; None until it is known where to
    begin. For the thread whose turn it is."""

    def __init__(self, partition: TopicPartition, log: PartitionLog, is_committed_only: bool) -> None:
        self.partition = partition
        self.log = log
        self.is_committed_only = is_committed_only
        self.position: int | None = None
        self.committed: int | None = None  # as far as this consumer knows
        self.is_paused = False
        self.is_queued = False  # among those that may have records
        self.is_gone = False
        self.read_size = 0  # bytes of the batches that were decoded so far
        self.row_size = 0.0  # bytes a record of the last one
        self._is_fresh = True
        self.stop_waiting: Callable[[], None] = nothing
        self.seek(None)

    def seek(self, offset: int | None) -> None:
        """Go on at ``offset``, and forget what was read ahead."""
        self.position = offset
        self.rows: list[ConsumerRecord] = []
        self.at = 0  # of the next row
        self.end = 0  # the offset behind the rows' batch
        self.awaited = 0  # there is nothing to read until the log's end is beyond this
        self._view: LogView | None = None
        self._batches: Iterator[RecordBatch] = iter(())
        self._transactions: Transactions | None = None

    def move_to(self, at: int) -> None:
        """Have the rows before number ``at`` of ``rows`` consumed."""
        self.at = at
        self.position = self.rows[at].offset if at < len(self.rows) else self.end

    def fill(self) -> bool:
        """Have at least one row that is not consumed; False at the end of what can be read.

        Raises OffsetOutOfRange, DamagedLog, OffsetGap, StorageFailure, UnknownTopic, Closed; the position stays then.
        """
        if self.at < len(self.rows):
            return True
        try:
            return self._read()
        except StorageFailure:
            self._view = None
            if self._is_fresh:
                raise
        except BaseException:
            self._view = None  # what was read ahead goes on behind what could not be returned
            raise
        return self.fill()  # a segment that was begun long ago, and retention has unlinked since: it is sought anew

    def _read(self) -> bool:
        position = self.position
        assert position is not None
        while True:
            view = self.log.view
            if not self._goes_on_with(view, position):
                if not view.log_start_offset <= position <= view.log_end_offset:
                    raise OffsetOutOfRange(view.name, position, view.log_start_offset, view.log_end_offset)
                if position == view.log_end_offset:
                    return self._nothing_until(position)
                self._view, self._batches, self._is_fresh = view, view.batches(position), True
            batch = next(self._batches, None)
            if batch is None:
                assert self._view is not None
                self.position = position = max(position, self._view.log_end_offset)  # compaction may have left nothing
                self._view = None
                continue
            header = batch.header
            outcome = self._outcome(batch, view)
            if outcome is None:
                assert self._transactions is not None
                self._view = None
                return self._nothing_until(self._transactions.seen_until)
            if outcome:
                rows = self._decode(batch, view)
                start = 0 if header.base_offset >= position else bisect_left(rows, position, key=offset_of)
                if start < len(rows):
                    self.rows, self.at, self.end = rows, start, header.next_offset
                    self.read_size += header.size
                    self.row_size = header.size / len(rows)
                    self._is_fresh = False
                    return True
            self.position = position = header.next_offset

    def _goes_on_with(self, view: LogView, position: int) -> bool:
        """Whether the look at the log that reading goes by still shows the same segments, or the first of more."""
        known = self._view
        is_same = known is not None and known.segments is view.segments and known.log_end_offset <= view.log_end_offset
        return is_same and position >= view.log_start_offset

    def _nothing_until(self, offset: int) -> bool:
        self.rows, self.at, self.awaited = [], 0, offset
        return False

    def _outcome(self, batch: RecordBatch, view: LogView) -> bool | None:
        """Whether the batch's records are to be seen; None where that is not known yet."""
        header = batch.header
        if header.is_control:
            return False
        if not self.is_committed_only or not header.is_transactional:
            return True
        if self._transactions is None:
            self._transactions = Transactions(header.base_offset)
        return self._transactions.is_committed(header, view)

    def _decode(self, batch: RecordBatch, view: LogView) -> list[ConsumerRecord]:
        topic, partition = self.partition
        try:
            if batch.header.record_count < COLUMNS_RECORD_COUNT_MIN:
                return [ConsumerRecord(topic, partition, *record) for record in batch.records()]
            columns = batch.columns()
            keys = repeat(None) if (columns.key_lengths < 0).all() else columns.keys()
            offsets, timestamps = columns.offsets.tolist(), columns.timestamps_ms.tolist()
            fields = zip(
                repeat(topic), repeat(partition), offsets, timestamps, keys, columns.values(), columns.headers()
            )
            return list(map(tuple.__new__, repeat(ConsumerRecord), fields))
        except CorruptBatch:
            list(view.records(batch.header.base_offset, max_offset=batch.header.next_offset))  # raises what says where
            raise

    def go_on_behind(self, error: DamagedLog | OffsetGap) -> None:
        """Leave out what cannot be read: it has been reported."""
        if isinstance(error, OffsetGap):
            next_offset: int | None = error.last_offset + 1
        else:
            next_offset = error.next_offset
        self.seek(self.log.log_end_offset if next_offset is None else max(next_offset, (self.position or 0) + 1))

    def remove(self) -> None:
        """It is no longer this consumer's."""
        self.is_gone = True
        self.stop_waiting()
        self.stop_waiting = nothing
        self.seek(self.position)


def nothing() -> None:
    pass
