"""What one partition knows of its idempotent and transactional producers.

Owns: for each producer id its epoch, its last five batches, and the first offset of its open transaction. With that, a
batch that is sent again is answered with its first offset instead of being stored twice, one that is missing is
noticed, and an instance that was replaced is fenced. The rules are Kafka's.

Promises after a crash: nothing by itself. It is loaded from the newest snapshot file and brought up to date by
``update`` and ``end_transaction`` with the batches after it; a snapshot holds a producer's last batch only, so of five
batches in flight before a restart the last one is recognised again. A truncated log is replayed in the same way.

What is remembered is bounded, other than in Kafka, which keeps every producer id for a day: of more than PRODUCERS_MAX
those whose last batches are the oldest are forgotten, a tenth at once. What such a producer sends next, behind the
batches of thousands of others, is taken as a new one's: a batch sent again is not recognised, nor is an old epoch.

Pure: no files, no clock. The partition's writer calls it; nothing here is safe to call from two threads.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from logstore.errors import InvalidRecord, OutOfOrderSequence, ProducerFenced
from logstore.format.batch import NO_PRODUCER_EPOCH, NO_SEQUENCE
from logstore.format.producer_snapshot import ProducerSnapshotEntry

BATCHES_REMEMBERED = 5  # Kafka's: so many batches may an idempotent producer have in flight
PRODUCERS_MAX = 1 << 15  # of a partition: some 20 MB, up to 40 if all have five batches
NO_COORDINATOR_EPOCH = -1
NO_OFFSET = -1
_SEQUENCE_MAX = 0x7FFF_FFFF


class DuplicateBatch(NamedTuple):
    """A batch that is stored already: where, and with which timestamp (Unix milliseconds)."""

    base_offset: int
    last_offset: int
    timestamp_ms: int


class _Batch(NamedTuple):
    base_sequence: int
    last_sequence: int
    base_offset: int
    last_offset: int
    timestamp_ms: int


_new_batch: Callable[[tuple[int, int, int, int, int]], _Batch] = partial(tuple.__new__, _Batch)


class _Producer:
    """One producer id. ``next_sequence`` is 0 while its epoch has no batch; batches are the oldest first."""

    __slots__ = ("batches", "coordinator_epoch", "epoch", "next_sequence", "timestamp_ms")

    def __init__(self) -> None:
        self.epoch = NO_PRODUCER_EPOCH
        self.next_sequence = 0
        self.batches: list[_Batch] = []  # a deque takes half a KiB
        self.coordinator_epoch = NO_COORDINATOR_EPOCH
        self.timestamp_ms = -1

    @property
    def last_offset(self) -> int:
        return self.batches[-1].last_offset if self.batches else NO_OFFSET

    def enter_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.epoch = epoch
            self.next_sequence = 0
            self.batches.clear()


def add_to_sequence(sequence: int, count: int) -> int:
    """The sequence ``count`` records after ``sequence`` (before, if negative): 0 comes after 2^31-1."""
    return (sequence + count) & _SEQUENCE_MAX


class ProducerState:
    """The producers of the partition ``log`` (its name, for error messages)."""

    __slots__ = ("_open_transactions", "_producers", "log")

    def __init__(self, log: str) -> None:
        self.log = log
        self._producers: dict[int, _Producer] = {}
        # producer id -> first offset. Transactions open in offset order, so the first item has the smallest offset.
        self._open_transactions: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._producers)

    # ------------------------------------------------------------------------------------------------------ appending

    def check(
        self, producer_id: int, producer_epoch: int, base_sequence: int, record_count: int
    ) -> DuplicateBatch | None:
        """Whether a producer's batch may be appended: None, or the earlier batch that it repeats.

        Raises ProducerFenced for an old epoch and OutOfOrderSequence for a gap. An unknown producer may start at any
        sequence, since retention or expiry may have removed what was known of it; a new epoch starts at 0.
        """
        producer = self._producers.get(producer_id)
        if producer is not None and producer.next_sequence == base_sequence and producer.epoch == producer_epoch:
            return None
        if base_sequence < 0:
            raise InvalidRecord(f"producer {producer_id} sent the sequence {base_sequence}; sequences start at 0")
        if producer is None:
            return None
        if producer_epoch < producer.epoch:
            raise ProducerFenced(self.log, producer_id, producer_epoch, producer.epoch)
        if producer_epoch > producer.epoch:
            if base_sequence != 0:
                raise OutOfOrderSequence(self.log, producer_id, base_sequence, 0)
            return None
        last_sequence = add_to_sequence(base_sequence, record_count - 1)
        for batch in producer.batches:
            if batch.base_sequence == base_sequence and batch.last_sequence == last_sequence:
                return DuplicateBatch(batch.base_offset, batch.last_offset, batch.timestamp_ms)
        raise OutOfOrderSequence(self.log, producer_id, base_sequence, producer.next_sequence)

    def update(
        self,
        producer_id: int,
        producer_epoch: int,
        base_sequence: int,
        base_offset: int,
        last_offset: int,
        timestamp_ms: int,
        is_transactional: bool = False,
    ) -> None:
        """Take note of a batch that is in the log, just appended or replayed; ``timestamp_ms`` is its largest.

        Checks nothing: what is in the log has happened. The sequences follow the offsets, not the count of records,
        for compaction removes records and leaves the offsets of the batch as they were.
        """
        producer = self._producers.get(producer_id)
        if producer is None:
            producer = self._new_producer(producer_id)
        if producer_epoch != producer.epoch:
            producer.enter_epoch(producer_epoch)
        last_sequence = (base_sequence + last_offset - base_offset) & _SEQUENCE_MAX
        batches = producer.batches
        batches.append(_new_batch((base_sequence, last_sequence, base_offset, last_offset, timestamp_ms)))
        if len(batches) > BATCHES_REMEMBERED:
            del batches[0]
        producer.next_sequence = (last_sequence + 1) & _SEQUENCE_MAX
        producer.timestamp_ms = timestamp_ms
        if is_transactional:
            self._open_transactions.setdefault(producer_id, base_offset)

    def end_transaction(
        self, producer_id: int, producer_epoch: int, coordinator_epoch: int, timestamp_ms: int
    ) -> int | None:
        """Take note of a control batch (commit or abort marker) in the log, just appended or replayed.

        Returns the first offset of the transaction that it ends, or None if this producer had none open.
        """
        producer = self._producers.get(producer_id)
        if producer is None:
            producer = self._new_producer(producer_id)
        producer.enter_epoch(producer_epoch)
        producer.coordinator_epoch = coordinator_epoch
        producer.timestamp_ms = timestamp_ms
        return self._open_transactions.pop(producer_id, None)

    def first_unstable_offset(self) -> int | None:
        """The smallest first offset of an open transaction, or None. It may lie below the log start offset."""
        return next(iter(self._open_transactions.values()), None)

    def _new_producer(self, producer_id: int) -> _Producer:
        if len(self._producers) >= PRODUCERS_MAX:
            self._forget_oldest()
        producer = self._producers[producer_id] = _Producer()
        return producer

    # ----------------------------------------------------------------------------------------------------- forgetting

    def _forget_oldest(self) -> None:
        """Until there is room for a tenth, so that it comes seldom. The age is by the last offset: timestamps are the
        clients'."""
        idle = [producer_id for producer_id in self._producers if producer_id not in self._open_transactions]
        idle.sort(key=lambda producer_id: self._producers[producer_id].last_offset)
        kept_count = PRODUCERS_MAX - max(1, PRODUCERS_MAX // 10)
        for producer_id in idle[: len(self._producers) - kept_count]:
            del self._producers[producer_id]

    def expire(self, now_ms: int, expiration_ms: int) -> list[int]:
        """Forget the producers whose last batch is ``expiration_ms`` old, unless a transaction is open; their ids.

        The age is by the batch's timestamp, as in Kafka, so that it is the same after a restart.
        """
        expired = [
            producer_id
            for producer_id, producer in self._producers.items()
            if now_ms - producer.timestamp_ms >= expiration_ms and producer_id not in self._open_transactions
        ]
        for producer_id in expired:
            del self._producers[producer_id]
        return expired

    # ------------------------------------------------------------------------------------------------------ snapshots

    def snapshot_entries(self) -> list[ProducerSnapshotEntry]:
        """Everything that a snapshot file keeps, one entry a producer."""
        return [self._snapshot_entry(producer_id, producer) for producer_id, producer in self._producers.items()]

    def _snapshot_entry(self, producer_id: int, producer: _Producer) -> ProducerSnapshotEntry:
        last = producer.batches[-1] if producer.batches else None
        return ProducerSnapshotEntry(
            producer_id=producer_id,
            producer_epoch=producer.epoch,
            last_sequence=last.last_sequence if last else NO_SEQUENCE,
            last_offset=last.last_offset if last else NO_OFFSET,
            offset_delta=last.last_offset - last.base_offset if last else 0,
            timestamp=producer.timestamp_ms,
            coordinator_epoch=producer.coordinator_epoch,
            current_txn_first_offset=self._open_transactions.get(producer_id, NO_OFFSET),
        )

    def load(self, entries: Iterable[ProducerSnapshotEntry]) -> None:
        """Replace everything known by a snapshot's entries; with none of them, start empty."""
        self._producers.clear()
        open_transactions: dict[int, int] = {}
        for entry in entries:
            producer = self._producers[entry.producer_id] = _Producer()
            producer.enter_epoch(entry.producer_epoch)
            producer.coordinator_epoch = entry.coordinator_epoch
            producer.timestamp_ms = entry.timestamp
            if entry.last_offset >= 0:  # else a producer of which the log holds only a marker
                base_sequence = add_to_sequence(entry.last_sequence, -entry.offset_delta)
                base_offset = entry.last_offset - entry.offset_delta
                producer.batches.append(
                    _Batch(base_sequence, entry.last_sequence, base_offset, entry.last_offset, entry.timestamp)
                )
                producer.next_sequence = add_to_sequence(entry.last_sequence, 1)
            if entry.current_txn_first_offset >= 0:
                open_transactions[entry.producer_id] = entry.current_txn_first_offset
        self._open_transactions = dict(sorted(open_transactions.items(), key=lambda item: item[1]))
