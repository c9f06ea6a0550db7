"""What is to be copied, and from where on: found out, and refused where it cannot be right, before anything is written.

What an earlier copy has noted in the target counts (see notes). Where it was killed, records may stand in the target
behind its last note: each is held against the source's, so that one of another writer is found and none is doubled.
"""

from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from logstore.client.copying.ends import Bounds, Source, Target, show
from logstore.client.copying.notes import Notes, Pair, Progress
from logstore.client.copying.reader import Reader
from logstore.errors import CopyRefused, UnknownTopic
from logstore.format.filename import TopicPartition
from logstore.format.record import Record
from logstore.storage.topics import TopicDescription

INTERNAL_PREFIX = "__"
# What only the machinery of a directory or a cluster can write: copied, it would be no use, or do harm.
_MACHINERY = ("__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata", "__copy")
_QUEUE_PREFIX = "__queue."
_COPY_ANEW = "delete the topic in the target, and copy anew"


class Job:
    """A partition to copy. ``begin`` is where this run goes on, ``at`` where it has come to, ``start`` where the first
    run began."""

    def __init__(
        self, partition: TopicPartition, source_id: str, target_id: str, reader: Reader, start: Pair, begin: Pair
    ) -> None:
        self.partition, self.source_id, self.target_id, self.reader = partition, source_id, target_id, reader
        self.start, self.begin, self.at = start, begin, begin

    @property
    def record_count(self) -> int:
        """Copied by this run."""
        return self.at.target - self.begin.target

    def progress(self, *, is_open: bool) -> Progress:
        return Progress(self.target_id, self.start, self.at, is_open)

    def target_offset(self, offset: int) -> int:
        """Where in the target that is which the source has at ``offset``: behind as many records as are before it."""
        if offset >= self.at.source:
            return self.at.target
        if offset <= self.start.source:
            return self.start.target
        if self.at.source - self.start.source == self.at.target - self.start.target:  # a record at each offset
            return self.start.target + offset - self.start.source
        return max(self.at.target - self.reader.count(offset, self.at.source), self.start.target)


class Choice(NamedTuple):
    """``source`` and ``target`` are the topic at both ends; ``target`` is None where it is still to be made."""

    source: TopicDescription
    target: TopicDescription | None


def choose_topics(source: Source, target: Target, names: Collection[str] | None) -> list[Choice]:
    """The topics of these names, or all but internal ones. Raises UnknownTopic, CopyRefused."""
    there, made = {topic.name: topic for topic in source.topics()}, target.topics()
    if names is None:
        names = [name for name in there if not name.startswith(INTERNAL_PREFIX)]
    for name in names:
        if name in _MACHINERY or name.startswith(_QUEUE_PREFIX):
            raise CopyRefused(name, "what is in this topic means something in its own place only", "leave it out")
        if name not in there:
            raise UnknownTopic(name)
    choices = [Choice(there[name], made.get(name)) for name in sorted(set(names))]
    for choice in choices:
        _check(choice)
    return choices


def _check(choice: Choice) -> None:
    source, target = choice
    if target is None:
        return
    if source.topic_id == target.topic_id and source.topic_id.int:
        raise CopyRefused(source.name, "source and target are the same topic", "name another target")
    if target.partitions < source.partitions:
        reason = f"the target's topic has {target.partitions} partitions, the source's {source.partitions}"
        raise CopyRefused(source.name, reason, "add partitions to it, or delete it there")
    if target.config.message_timestamp_type == "LogAppendTime":
        reason = "the target's topic has message.timestamp.type=LogAppendTime, and would not keep the records' times"
        raise CopyRefused(source.name, reason, "set it to CreateTime while copying")


def plan(
    source: Source, target: Target, notes: Notes, choices: Iterable[Choice], *, appends: bool, skips_damage: bool
) -> Iterator[Job]:
    """A job for each partition that is in the source. ``appends``: also behind records that no copy of this source has
    put there. The topics are there by now. Raises CopyRefused."""
    made = target.topics()
    for choice in choices:
        source_id, found = source.identity(choice.source), made[choice.source.name]
        for number in range(choice.source.partitions):
            partition = TopicPartition(choice.source.name, number)
            here = source.bounds(partition)
            if here is not None:
                known = notes.progress(source_id, partition)
                if known is not None and known.target_id != str(found.topic_id):
                    known = None  # of a topic that was deleted
                reader = Reader(source, partition, here.end, skips_damage=skips_damage)
                there = target.bounds(partition)
                if known is None:
                    start = begin = _first(partition, here, there, appends)
                else:
                    start, begin = known.start, _resumed(target, reader, partition, known, here, there)
                yield Job(partition, source_id, str(found.topic_id), reader, start, begin)


def _first(partition: TopicPartition, here: Bounds, there: Bounds, appends: bool) -> Pair:
    if there.end > there.start and not appends:
        reason = f"the target has {there.end - there.start} offsets of records, and no copy of this source noted them"
        raise CopyRefused(show(partition), reason, "delete the topic there, or give --append to copy behind them")
    return Pair(here.start, there.end)


def _resumed(
    target: Target, reader: Reader, partition: TopicPartition, known: Progress, here: Bounds, there: Bounds
) -> Pair:
    """Where to go on. Raises CopyRefused."""
    at, place = known.at, show(partition)
    if there.end < at.target:
        reason = f"the target ends at offset {there.end}, and {at.target} had been reached"
        raise CopyRefused(place, reason, _COPY_ANEW)
    if here.end < at.source:
        reason = f"the source ends at offset {here.end}, and had been copied up to {at.source}"
        raise CopyRefused(place, reason, _COPY_ANEW)
    count = there.end - at.target
    if not count:
        return at
    if here.start > at.source:
        reason = f"the source has let go of offsets {at.source} to {here.start - 1}, where an earlier copy was stopped"
        raise CopyRefused(place, reason, _COPY_ANEW)
    records = chain.from_iterable(piece.records() for piece in reader.pieces(at.source))
    return Pair(_behind_same(records, target.records(partition, at.target), at, count, place), there.end)


def _behind_same(theirs: Iterator[Record], ours: Iterator[Record], at: Pair, count: int, place: str) -> int:
    """The source's offset behind ``count`` records from ``at`` on, which the target has from there on; some that
    compaction or retention has taken since may be missing there."""
    ours = iter(ours)
    mine = next(ours, None)
    offset = at.source
    for number in range(count):
        their = next(theirs, None)
        if their is None:
            reason = f"the target has {count} records behind offset {at.target}, the source only {number}"
            raise CopyRefused(place, reason, f"another writer has been at work there: {_COPY_ANEW}")
        offset = their.offset + 1
        if mine is not None and mine.offset == at.target + number:
            if _content(mine) != _content(their):
                reason = f"the record at offset {mine.offset} of the target is not that at {their.offset} of the source"
                remedy = f"another writer has been at work, or the source was compacted: {_COPY_ANEW}"
                raise CopyRefused(place, reason, remedy)
            mine = next(ours, None)
    return offset


def _content(record: Record) -> tuple[object, ...]:
    return record.timestamp_ms, record.key, record.value, tuple(map(tuple, record.headers))
