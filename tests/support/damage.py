"""Data directories with a bit of everything in them, harm done to their files, and what can be read of them then."""

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import logstore
from log_tools import NOW
from logstore.cli.repair import DEFAULT_INDEX_INTERVAL, index_intervals
from logstore.errors import DamagedLog, LogstoreError, OffsetGap
from logstore.format.batch import TRANSACTIONAL, batches, encode_batch
from logstore.format.compression import Compression
from logstore.storage import salvage
from logstore.storage.facts import DirFacts
from logstore.storage.findings import Finding, Severity, Tally
from logstore.storage.log_view import ReadableLog
from logstore.storage.survey import survey
from logstore.storage.verify import verify


class Stored(NamedTuple):
    """A batch as it was written: in which file, where, and what was in it."""

    path: Path  # within the data directory
    position: int
    data: bytes
    values: dict[int, bytes | None]  # by offset

    def __hash__(self) -> int:
        return hash((self.path, self.position))

    @property
    def last_offset(self) -> int:
        return max(self.values)


def fill(log: Any, batch_count: int = 12, roll_each: int = 4, size: int = 20) -> None:
    """Batches with all codecs, headers, keys, producers and transactions, of several leaders, in some segments."""
    for number in range(batch_count):
        if number and number % roll_each == 0:
            log.roll()
        # A producer's sequences begin anew with each epoch of it.
        if number % 5 == 4:
            log.leader_epoch += 1
        values = [(b"%d.%d " % (number, at)).ljust(size, b".") for at in range(1 + number % 3)]
        times = [NOW + number * 10 + at for at in range(len(values))]
        match number % 4:
            case 0:
                log.append(values, timestamps_ms=times, compression=Compression(number // 2 % 5))
            case 1:
                keys, headers = [b"key"] * len(values), [(("name", b"v"), ("none", None))] * len(values)
                log.append(values, keys=keys, headers=headers, timestamps_ms=times, compression="zstd")
            case 2:
                log.append(values, timestamps_ms=times, producer_id=7, producer_epoch=number, base_sequence=0)
            case _:
                batch = encode_batch(
                    values,
                    timestamps_ms=times,
                    attributes=TRANSACTIONAL,
                    compression=Compression.LZ4,
                    producer_id=8,
                    producer_epoch=number,
                    base_sequence=0,
                )
                log.append_batches(batch)


def build(path: Path, *, is_clean: bool, **settings: Any) -> Path:
    """A data directory with the topics t, filled, and u: closed, or as a crash leaves it. ``settings`` are t's."""
    filling = {name: settings.pop(name) for name in ("batch_count", "roll_each", "size") if name in settings}
    source = path if is_clean else path.with_name(path.name + ".live")
    with logstore.open(source) as store:
        store.create_topic("t", index_interval_bytes=settings.pop("index_interval_bytes", 150), **settings)
        store.create_topic("u")
        store.log("u").append([b"another"])
        log = store.log("t")
        fill(log, **filling)
        if not is_clean:
            shutil.copytree(source, path)
    if not is_clean:
        shutil.rmtree(source)
    return path


def stored(data: Path, topic: str = "t") -> list[Stored]:
    """All batches of a partition that is whole."""
    found = []
    for path in sorted((data / f"{topic}_0").glob("*.log")):
        content = path.read_bytes()
        if not content.strip(b"\0"):
            continue
        for batch in batches(content):
            values = {record.offset: record.value for record in batch.records()}
            found.append(Stored(path.relative_to(data), batch.position, bytes(batch.data), values))
    return found


def all_values(found: list[Stored]) -> dict[int, bytes | None]:
    return {offset: value for batch in found for offset, value in batch.values.items()}


# ------------------------------------------------------------------------------------------------------------- looking


def findings(path: Path) -> list[Finding]:
    """What verify says, but for notes."""
    return [finding for finding in verify(survey(path), Tally()) if finding.severity is not Severity.NOTE]


def damages(path: Path) -> list[Finding]:
    return [finding for finding in findings(path) if finding.severity is Severity.DAMAGE]


def do_salvage(data: Path) -> int:
    """Salvage all logs, as the command does; returns how many bad ranges there were."""
    found = survey(data)
    facts, intervals = DirFacts(found.data_dir), index_intervals(data)
    count = 0
    for partition in found.partitions:
        for plan in salvage.plan(partition, facts.of(partition)):
            salvage.apply(plan, intervals.get(partition.topic_partition[0], DEFAULT_INDEX_INTERVAL))
            count += len(plan.bad)
    return count


def read_around(log: ReadableLog) -> tuple[dict[int, bytes | None], list[LogstoreError]]:
    """All records by offset, as a consumer reads them that goes on behind each damage and gap, and what it met."""
    view = log.view
    offset, seen, met = view.log_start_offset, dict[int, bytes | None](), list[LogstoreError]()
    was_there = False
    while offset < view.log_end_offset:
        try:
            for record in view.records(offset):
                assert record.offset not in seen and record.offset >= offset, "an offset came twice, or backwards"
                seen[record.offset] = record.value
                offset = record.offset + 1
            break
        except OffsetGap as gap:
            met.append(gap)
            following: int | None = gap.last_offset + 1
        except DamagedLog as damage:
            met.append(damage)
            following = damage.next_offset
        if following is None:
            break
        assert following > offset or not was_there, "a reader that goes on where it is told to comes forward"
        was_there = following == offset
        offset = following
    return seen, met


def untold(view_start: int, end: int, seen: dict[int, bytes | None], met: list[LogstoreError]) -> list[int]:
    """Offsets that were neither read nor said to be lost."""
    told: set[int] = set()
    for error in met:
        if isinstance(error, OffsetGap):
            told.update(range(error.first_offset, error.last_offset + 1))
        elif isinstance(error, DamagedLog):
            below = max((offset for offset in seen if offset < (error.next_offset or end)), default=view_start - 1)
            told.update(range(below + 1, error.next_offset or end))
    return [offset for offset in range(view_start, end) if offset not in seen and offset not in told]


# ---------------------------------------------------------------------------------------------------------------- harm


@contextmanager
def changed(path: Path, content: bytes) -> Iterator[None]:
    """The file with other bytes, for a while."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


def flipped(content: bytes, position: int, bit: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1 << bit]) + content[position + 1 :]


Harm = Callable[[bytes, random.Random], bytes]


def _with_sectors(size: int, change: Callable[[list[bytes], random.Random], list[bytes]]) -> Harm:
    def harm(content: bytes, source: random.Random) -> bytes:
        sectors = [content[start : start + size] for start in range(0, len(content), size)]
        return b"".join(change(sectors, source))

    return harm


def _zero_one(sectors: list[bytes], source: random.Random) -> list[bytes]:
    at = source.randrange(len(sectors))
    return [*sectors[:at], bytes(len(sectors[at])), *sectors[at + 1 :]]


def _swap_two(sectors: list[bytes], source: random.Random) -> list[bytes]:
    whole = [at for at, sector in enumerate(sectors) if len(sector) == len(sectors[0])]
    first, second = source.sample(whole, 2) if len(whole) > 1 else (0, 0)
    sectors = list(sectors)
    sectors[first], sectors[second] = sectors[second], sectors[first]
    return sectors


def _double_one(sectors: list[bytes], source: random.Random) -> list[bytes]:
    at = source.randrange(len(sectors))
    return [*sectors[: at + 1], sectors[at], *sectors[at + 1 :]]


def _flip(content: bytes, source: random.Random) -> bytes:
    return flipped(content, source.randrange(len(content)), source.randrange(8))


def _garble(content: bytes, source: random.Random) -> bytes:
    start = source.randrange(len(content))
    size = min(source.randrange(1, 300), len(content) - start)
    return content[:start] + source.randbytes(size) + content[start + size :]


def _cut(content: bytes, source: random.Random) -> bytes:
    return content[: source.randrange(len(content))]


HARMS: dict[str, Harm] = {
    "a flipped bit": _flip,
    "a zeroed sector of 512 bytes": _with_sectors(512, _zero_one),
    "a zeroed sector of 4 KiB": _with_sectors(4096, _zero_one),
    "two sectors of 512 bytes swapped": _with_sectors(512, _swap_two),
    "two sectors of 4 KiB swapped": _with_sectors(4096, _swap_two),
    "cut short": _cut,
    "garbage in it": _garble,
    "nothing but garbage": lambda content, source: b"\xff" + source.randbytes(max(40, len(content))),
    "nothing but zeros": lambda content, source: bytes(max(40, len(content))),
    "a block doubled": _with_sectors(512, _double_one),
    "empty": lambda content, source: b"",
}


def intact(before: list[Stored], path: Path, content: bytes) -> list[Stored]:
    """The batches whose bytes are all there still when the file at ``path`` has this content."""
    return [batch for batch in before if batch.path != path or batch.data in content]
