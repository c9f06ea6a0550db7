"""A copy: topics, their records, and what groups have committed of them, from a directory or cluster to another.

Partitions, keys, values, headers, timestamps and order are kept, and no record is lost or doubled, though the copier be
killed anywhere and started again: what it has done is noted in the target (see notes), and looked at before it goes on
(see planning). Each partition's records are safe in the target before a note says so, and before offsets of groups are
committed there. Transactions: the records of those that were committed are copied, as plain ones; a partition ends
before the first transaction that is not finished. Nobody else may write to the target's partitions meanwhile.
"""

from collections.abc import Callable, Collection, Iterator

from logstore.client.copying.directory import undecodable
from logstore.client.copying.ends import Piece, Source, Target, Writer, show
from logstore.client.copying.notes import Notes, Pair
from logstore.client.copying.offsets import Carried, carry_over, find_committed
from logstore.client.copying.planning import Choice, Job, choose_topics, plan
from logstore.config import TopicConfig
from logstore.config.topic import OF_CLUSTERS
from logstore.errors import CopyRefused, CorruptBatch, DamagedLog, InvalidRecord
from logstore.format.filename import TopicPartition

# With these the target would not keep, or not take, records as they are.
_NOT_COPIED = ("message.timestamp.type", "message.timestamp.before.max.ms")


class Copier:
    """One run. ``tell`` is given notes for the user; ``groups``: the names of those whose offsets are carried over,
    None for all."""

    def __init__(
        self,
        source: Source,
        target: Target,
        *,
        topics: Collection[str] | None = None,
        groups: Collection[str] | None = None,
        appends: bool = False,
        skips_damage: bool = False,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Finds out what is to be done, and makes the topics that are missing. Raises UnknownTopic, UnknownGroup,
        CopyRefused."""
        self._source, self._target, self._tell = source, target, tell
        self.copied_size = 0
        choices = choose_topics(source, target, topics)
        # Before the ends of the partitions: so what is committed of them lies before those.
        self._committed = find_committed(source.groups(), {choice.source.name for choice in choices}, groups)
        self._notes = Notes(target)
        self._settle(choices)
        old = [choice for choice in choices if choice.target is not None]
        options = {"appends": appends, "skips_damage": skips_damage}
        self.jobs = list(plan(source, target, self._notes, old, **options))
        new = [choice for choice in choices if choice.target is None]
        for choice in new:
            self._create(choice)
        self.jobs += plan(source, target, self._notes, new, **options)
        self.jobs.sort(key=lambda job: job.partition)
        self._tell_of_missing(choices)

    def _settle(self, choices: list[Choice]) -> None:
        for choice in choices:
            source_id = self._source.identity(choice.source)
            for number in range(choice.source.partitions):
                known = self._notes.progress(source_id, _partition(choice, number))
                if known is not None and known.is_open:
                    self._target.settle()
                    return

    def _create(self, choice: Choice) -> None:
        topic = choice.source
        overrides = {name: value for name, value in topic.config.overrides().items() if name not in OF_CLUSTERS}
        for name in _NOT_COPIED:
            if (value := overrides.pop(name, None)) is not None:
                self._tell(f"{topic.name}: {name}={value} is left out, so that the records keep their times")
        self._target.create_topic(topic.name, topic.partitions, TopicConfig.parse(overrides))
        self._tell(f"created topic {topic.name}, partitions: {topic.partitions}")

    def _tell_of_missing(self, choices: list[Choice]) -> None:
        found = {job.partition for job in self.jobs}
        for choice in choices:
            for number in range(choice.source.partitions):
                if (partition := _partition(choice, number)) not in found:
                    self._tell(f"{show(partition)} is not in {self._source.name}: left out")

    @property
    def size(self) -> int:
        """About how many bytes are to be copied; 0 where that is not known."""
        return sum(
            self._source.size(job.partition, job.at.source) for job in self.jobs if job.at.source < job.reader.end
        )

    def copy(self, progress: Callable[[int], None] = lambda size: None) -> None:
        """Copy the records; ``progress`` is told of each step's bytes. Raises DamagedLog, OffsetGap, CopyRefused, and
        what reading and writing raise."""
        for job in self.jobs:
            self._copy(job, progress)

    def carry_over(self) -> Iterator[Carried]:
        """Commit the groups' offsets, when all is copied."""
        return carry_over(self._target, self._notes, self.jobs, self._committed)

    def _copy(self, job: Job, progress: Callable[[int], None]) -> None:
        if job.at.source >= job.reader.end:
            self._note(job, is_open=False)
            return
        writer = self._target.writer(job.partition, job.at.target)
        try:
            while self._copy_some(job, writer, progress):
                pass
        except InvalidRecord as error:
            writer.abandon()
            reason = f"the target does not take a record of its, from offset {job.at.source} on: {error}"
            remedy = "change the settings of the topic there, and copy again"
            raise CopyRefused(show(job.partition), reason, remedy) from None
        except BaseException:
            writer.abandon()
            raise

    def _copy_some(self, job: Job, writer: Writer, progress: Callable[[int], None]) -> bool:
        """Up to the next sync; whether there may be more. The source is looked at afresh each time: what is read for
        long, retention may take away."""
        offset, is_noted = job.at.source, False
        for piece in job.reader.pieces(offset):
            if piece.count and not is_noted:
                self._note(job, is_open=True)
                is_noted = True
            self._append(writer, piece, offset, job)
            offset = piece.next_offset
            self.copied_size += piece.size
            progress(piece.size)
            if writer.unsynced_size >= self._target.sync_size:
                break
        writer.sync()
        has_more = job.at.source < offset < job.reader.end
        job.at = Pair(offset, writer.offset)
        self._note(job, is_open=has_more)
        return has_more

    def _append(self, writer: Writer, piece: Piece, offset: int, job: Job) -> None:
        try:
            writer.append(piece)
        except DamagedLog:
            raise
        except CorruptBatch as error:
            path = f"{self._source.name}, {show(job.partition)}"
            raise undecodable(path, offset, piece.next_offset, error) from None

    def _note(self, job: Job, *, is_open: bool) -> None:
        self._notes.set_progress(job.source_id, job.partition, job.progress(is_open=is_open))


def _partition(choice: Choice, number: int) -> TopicPartition:
    return TopicPartition(choice.source.name, number)
