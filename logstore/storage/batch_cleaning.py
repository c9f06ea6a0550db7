"""What compaction leaves of a batch. Pure: batches in, batches out; no files, no clock.

A record stays if no later one has its key. A tombstone (a null value) stays for delete.retention.ms from the first time
that its batch is cleaned, so that readers see the deletion. That time, the *delete horizon*, is kept in the batch
itself, as Kafka does since KIP-534: attribute bit 6 says that base_timestamp is it, and the records' timestamp deltas
count from it. Records without a key go, and so do those of aborted transactions. Transaction markers stay.

What stays keeps its offset, timestamp and bytes, and its batch the offsets, producer, sequence and codec that it had. A
batch that has lost nothing is copied as it is; an emptied one goes, but for one that holds the last sequence of a known
producer, or the last offset of what is cleaned: it stays as a header without records.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from logstore.errors import CorruptBatch, RecordTooLarge
from logstore.format.batch import COMPRESSION_MASK, DELETE_HORIZON, NO_TIMESTAMP, BatchHeader, RecordBatch
from logstore.format.compression import compress
from logstore.format.record import Buffer
from logstore.format.record_columns import Int64Array, decode_columns
from logstore.format.rewritten_batch import reassemble
from logstore.format.varint import decode_varint, encode_varint
from logstore.settings import LONG_MAX
from logstore.storage.offset_map import OffsetMap, digest_keys

BoolArray = npt.NDArray[np.bool_]

# Neighbouring batches are worked on together up to these: numpy's cost a call is then paid once for many records.
CHUNK_RECORD_COUNT = 8192
CHUNK_SIZE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What one run of compaction goes by."""

    end_offset: int  # records from here on stay whatever they are
    now_ms: int
    delete_retention_ms: int
    drops_tombstones: bool  # False: an older value may still stand before them, in a damaged segment
    last_offsets: Mapping[int, int]  # by producer id: the last offset of the last batch that it wrote
    is_aborted: Callable[[BatchHeader], bool]

    def skips(self, header: BatchHeader) -> bool:
        """Whether the batch's fate does not depend on its records."""
        return header.is_control or header.base_offset >= self.end_offset or self.is_aborted(header)

    @property
    def horizon_ms(self) -> int:
        return min(self.now_ms + self.delete_retention_ms, LONG_MAX)


class Chunk:
    """Neighbouring batches. The records of those that are not skipped are columns, all batches' in one.

    The records of the batch ``i`` are those from ``firsts[i]`` to ``firsts[i + 1]``, exclusively. Record ``j`` is
    ``body[starts[j] : ends[j]]``.
    """

    def __init__(self, batches: list[RecordBatch], bodies: list[bytes | None]) -> None:
        """``bodies`` are the batches' own, decompressed, None for a batch that is skipped. Raises CorruptBatch."""
        self.batches = batches
        self.is_skipped = [body is None for body in bodies]
        headers = [batch.header for batch in batches]
        counts = np.array([0 if body is None else h.record_count for h, body in zip(headers, bodies)], dtype=np.int64)
        self.body = b"".join([body for body in bodies if body])
        self.firsts = np.concatenate(([0], np.cumsum(counts)))
        columns = decode_columns(self.body, int(self.firsts[-1]), 0, 0, None)
        deltas = columns.offsets
        edges = np.concatenate(([0], columns.ends))
        sizes = np.cumsum([len(body or b"") for body in bodies])
        lasts = np.repeat(np.array([header.last_offset_delta for header in headers], dtype=np.int64), counts)
        if (edges[self.firsts[1:]] != sizes).any() or ((deltas < 0) | (deltas > lasts)).any():
            raise CorruptBatch(f"records do not fit one of the batches from offset {headers[0].base_offset} on")
        self.starts, self.ends = edges[:-1], edges[1:]
        self.timestamp_deltas = columns.timestamps_ms
        self.offsets = deltas + np.repeat(np.array([header.base_offset for header in headers], dtype=np.int64), counts)
        self.counts = counts
        self.key_positions, self.key_lengths = columns.key_positions, columns.key_lengths
        self.is_tombstone: BoolArray = columns.value_lengths < 0

    def keys(self, chosen: Int64Array) -> list[bytes]:
        """The keys of the records with these indexes, none of which is null."""
        body, positions = self.body, self.key_positions[chosen]
        ends = positions + self.key_lengths[chosen]
        return [body[start:end] for start, end in zip(positions.tolist(), ends.tolist())]


def chunks(batches: Iterable[RecordBatch], skips: Callable[[BatchHeader], bool]) -> Iterator[Chunk]:
    """Batches in chunks, in their order. Raises CorruptBatch where records cannot be read."""
    taken: list[RecordBatch] = []
    bodies: list[bytes | None] = []
    size = count = 0
    for batch in batches:
        body = None if skips(batch.header) else batch.body()
        taken.append(batch)
        bodies.append(body)
        size += batch.header.size if body is None else len(body)
        count += batch.header.record_count
        if size >= CHUNK_SIZE or count >= CHUNK_RECORD_COUNT:
            yield Chunk(taken, bodies)
            taken, bodies = [], []
            size = count = 0
    if taken:
        yield Chunk(taken, bodies)


def note_keys(chunk: Chunk, offset_map: OffsetMap, first_offset: int, end_offset: int) -> int | None:
    """Put the keys of the records from ``first_offset`` to ``end_offset`` (exclusive) into the map.

    Returns the offset of the first record that it has no room for; None where all were taken.
    """
    is_due = (chunk.key_lengths >= 0) & (chunk.offsets >= first_offset) & (chunk.offsets < end_offset)
    chosen = np.flatnonzero(is_due)
    offsets = chunk.offsets[chosen]
    taken = offset_map.put(digest_keys(chunk.keys(chosen)), offsets)
    return None if taken == len(offsets) else int(offsets[taken])


def clean(chunk: Chunk, offset_map: OffsetMap, rules: Rules) -> Iterator[tuple[BatchHeader, Buffer | None, int]]:
    """For each batch its header as it was, its bytes as they stay (None: it goes), and how many records it keeps."""
    kept = _kept(chunk, offset_map, rules)
    firsts = chunk.firsts.tolist()
    sums = np.concatenate(([0], np.cumsum(kept)))[chunk.firsts]
    tombstone_sums = np.concatenate(([0], np.cumsum(kept & chunk.is_tombstone)))[chunk.firsts]
    kept_counts, tombstone_counts = np.diff(sums).tolist(), np.diff(tombstone_sums).tolist()
    for index, batch in enumerate(chunk.batches):
        header, kept_count = batch.header, kept_counts[index]
        gets_horizon = (
            tombstone_counts[index] > 0
            and header.delete_horizon_ms is None
            and header.last_offset < rules.end_offset  # else it is cleaned as a whole in the next run
        )
        if chunk.is_skipped[index] and (header.is_control or header.base_offset >= rules.end_offset):
            yield header, batch.data, header.record_count
        elif kept_count == 0:
            is_last = header.producer_id >= 0 and rules.last_offsets.get(header.producer_id) == header.last_offset
            was_empty = header.record_count == 0
            yield header, (batch.data if is_last and was_empty else emptied(header) if is_last else None), 0
        elif kept_count == header.record_count and not gets_horizon:
            yield header, batch.data, kept_count
        else:
            chosen = firsts[index] + np.flatnonzero(kept[firsts[index] : firsts[index + 1]])
            yield header, _rebuilt(chunk, header, chosen, rules.horizon_ms if gets_horizon else None), kept_count


def _kept(chunk: Chunk, offset_map: OffsetMap, rules: Rules) -> BoolArray:
    """Which of the chunk's records stay."""
    kept: BoolArray = chunk.key_lengths >= 0
    chosen = np.flatnonzero(kept)
    kept[chosen] = offset_map.latest(digest_keys(chunk.keys(chosen))) <= chunk.offsets[chosen]
    if rules.drops_tombstones:
        horizons = [batch.header.delete_horizon_ms for batch in chunk.batches]
        is_over = [horizon is not None and horizon <= rules.now_ms for horizon in horizons]
        kept &= ~(chunk.is_tombstone & np.repeat(is_over, chunk.counts))
    return kept | (chunk.offsets >= rules.end_offset)


def emptied(header: BatchHeader) -> bytes:
    """The batch without records: offsets, producer and sequence, and the timestamp by which the producer ages."""
    return reassemble(
        header,
        b"",
        attributes=header.attributes & ~(COMPRESSION_MASK | DELETE_HORIZON),
        base_timestamp=NO_TIMESTAMP,
        max_timestamp=header.max_timestamp,
        record_count=0,
    )


def _rebuilt(chunk: Chunk, header: BatchHeader, chosen: Int64Array, horizon_ms: int | None) -> bytes:
    """The batch with the records of these indexes, and with a delete horizon where one is given."""
    body = chunk.body
    spans = zip(chunk.starts[chosen].tolist(), chunk.ends[chosen].tolist())
    attributes, base_timestamp, max_timestamp = header.attributes, header.base_timestamp, header.max_timestamp
    if not header.has_append_time:  # else max_timestamp is every record's
        max_timestamp = base_timestamp + int(chunk.timestamp_deltas[chosen].max())
    if horizon_ms is None or header.has_append_time:
        records = b"".join([body[start:end] for start, end in spans])
    else:
        records = b"".join([_moved(body, start, end, base_timestamp - horizon_ms) for start, end in spans])
    if horizon_ms is not None:
        attributes, base_timestamp = attributes | DELETE_HORIZON, horizon_ms
    if attributes & COMPRESSION_MASK:
        try:
            records = compress(header.compression, records)
        except RecordTooLarge:  # the horizon's larger deltas were too much: without it tombstones stay, for good
            return _rebuilt(chunk, header, chosen, None)
    return reassemble(
        header,
        records,
        attributes=attributes,
        base_timestamp=base_timestamp,
        max_timestamp=max_timestamp,
        record_count=len(chosen),
    )


def _moved(body: bytes, start: int, end: int, shift_ms: int) -> bytes:
    """A record whose timestamp delta grows by ``shift_ms``; every other byte stays."""
    _, at = decode_varint(body, start)
    delta, rest = decode_varint(body, at + 1)
    fields = body[at : at + 1] + encode_varint(delta + shift_ms) + body[rest:end]
    return encode_varint(len(fields)) + fields
