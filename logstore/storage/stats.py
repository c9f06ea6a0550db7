"""What logs hold, counted: sizes, compression, how large the batches are, and how many records came when.

One walk over all batches, in bounded memory whatever the log's size. Damaged ranges are counted and passed over.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from logstore.errors import CorruptBatch
from logstore.format.batch import COMPRESSION_MASK, HEADER_SIZE, BatchHeader, RecordBatch
from logstore.storage import files
from logstore.storage.scan import LogBatch, scan
from logstore.storage.survey import Kind, PartitionFiles

RATE_BUCKET_COUNT_MAX = 240


class RateHistogram:
    """Records by time. Buckets are as wide as they must be: all of them, from the first to the last, are at most
    RATE_BUCKET_COUNT_MAX, and the width is a second times a power of two."""

    def __init__(self) -> None:
        self.width_ms = 1000
        self.counts: Counter[int] = Counter()  # by timestamp_ms // width_ms

    def add(self, timestamp_ms: int, record_count: int) -> None:
        if timestamp_ms < 0:
            return
        self.counts[timestamp_ms // self.width_ms] += record_count
        while len(self.counts) > 1 and max(self.counts) - min(self.counts) >= RATE_BUCKET_COUNT_MAX:
            self._widen()

    def merge(self, other: "RateHistogram") -> None:
        for bucket, record_count in other.counts.items():
            self.add(bucket * other.width_ms, record_count)
        while self.width_ms < other.width_ms:
            self._widen()

    def _widen(self) -> None:
        self.width_ms *= 2
        counts: Counter[int] = Counter()
        for bucket, record_count in self.counts.items():
            counts[bucket // 2] += record_count
        self.counts = counts

    def buckets(self) -> list[tuple[int, int]]:
        """(start in ms, records), without a hole from the first to the last."""
        if not self.counts:
            return []
        return [(at * self.width_ms, self.counts[at]) for at in range(min(self.counts), max(self.counts) + 1)]


class CodecStats(NamedTuple):
    """Bytes of batches' bodies of one codec: as stored, and as they are when they are not compressed."""

    batches: int = 0
    stored_size: int = 0
    plain_size: int = 0

    @property
    def ratio(self) -> float:
        """Plain bytes for each stored one."""
        return self.plain_size / self.stored_size if self.stored_size else 1.0


@dataclass
class LogStats:
    """One partition, or several added up. Sizes are bytes; histograms of sizes are by power of two: the key n counts
    what is from 2^(n-1) to 2^n - 1. ``first_timestamp_ms`` and ``last_timestamp_ms`` bound the batches' largest ones,
    -1 where there are none."""

    name: str
    segments: int = 0
    batches: int = 0
    records: int = 0
    log_size: int = 0
    other_size: int = 0
    damaged_ranges: int = 0
    damaged_size: int = 0
    first_offset: int | None = None
    next_offset: int = 0
    first_timestamp_ms: int = -1
    last_timestamp_ms: int = -1
    codecs: dict[str, CodecStats] = field(default_factory=dict)
    batch_sizes: Counter[int] = field(default_factory=Counter)
    batch_records: Counter[int] = field(default_factory=Counter)
    rates: RateHistogram = field(default_factory=RateHistogram)

    @property
    def compression_ratio(self) -> float:
        """Plain bytes for each stored one."""
        stored = sum(codec.stored_size for codec in self.codecs.values())
        return sum(codec.plain_size for codec in self.codecs.values()) / stored if stored else 1.0

    def add_batch(self, batch: RecordBatch) -> None:
        header = batch.header
        stored_size = header.size - HEADER_SIZE
        plain_size = len(batch.body()) if header.attributes & COMPRESSION_MASK else stored_size
        name = header.compression.name.lower()
        codec = self.codecs.get(name, CodecStats())
        self.codecs[name] = CodecStats(
            codec.batches + 1, codec.stored_size + stored_size, codec.plain_size + plain_size
        )
        self.batches += 1
        self.records += header.record_count
        self.batch_sizes[header.size.bit_length()] += 1
        self.batch_records[header.record_count.bit_length()] += 1
        if self.first_offset is None:
            self.first_offset = header.base_offset
        self.next_offset = header.next_offset
        self._add_time(header)

    def _add_time(self, header: BatchHeader) -> None:
        timestamp_ms = header.max_timestamp
        self.rates.add(timestamp_ms, header.record_count)
        if timestamp_ms >= 0:
            first = self.first_timestamp_ms
            self.first_timestamp_ms = timestamp_ms if first < 0 else min(first, timestamp_ms)
            self.last_timestamp_ms = max(self.last_timestamp_ms, timestamp_ms)


def collect(partition: PartitionFiles, progress: Callable[[int], None] = lambda size: None) -> LogStats:
    """Read one partition's logs. ``progress`` is told each step's bytes. Raises StorageFailure."""
    stats = LogStats(partition.directory.name)
    for known in partition.files:
        if known.kind is not Kind.LOG:
            stats.other_size += known.size
            continue
        stats.segments += 1
        stats.log_size += known.size
        for found in scan(files.open_file(known.path), expected_offset=known.base_offset):
            if isinstance(found, LogBatch):
                progress(found.batch.header.size)
                try:
                    stats.add_batch(found.batch)
                    continue
                except CorruptBatch:
                    size = found.batch.header.size
            elif found.is_zeros:
                progress(found.size)
                continue
            else:
                progress(found.size)
                size = found.size
            stats.damaged_ranges += 1
            stats.damaged_size += size
    return stats


def total(name: str, parts: Iterable[LogStats]) -> LogStats:
    """Several partitions' numbers added up; offsets, which cannot be, are left out."""
    summed = LogStats(name)
    for part in parts:
        for number in ("segments", "batches", "records", "log_size", "other_size", "damaged_ranges", "damaged_size"):
            setattr(summed, number, getattr(summed, number) + getattr(part, number))
        for codec, numbers in part.codecs.items():
            before = summed.codecs.get(codec, CodecStats())
            summed.codecs[codec] = CodecStats._make(map(sum, zip(before, numbers)))
        summed.batch_sizes += part.batch_sizes
        summed.batch_records += part.batch_records
        summed.rates.merge(part.rates)
        times = [time for time in (summed.first_timestamp_ms, part.first_timestamp_ms) if time >= 0]
        summed.first_timestamp_ms = min(times, default=-1)
        summed.last_timestamp_ms = max(summed.last_timestamp_ms, part.last_timestamp_ms)
    return summed
