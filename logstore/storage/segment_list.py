"""The segments of one log, and the files of those that have left it.

``all`` is an immutable tuple, the active segment last: readers take it, the log's one writer replaces it. What leaves
is retired, which keeps its file, under another name, for readers that came before, until ``unlink_retired``. The order
in which files go is such that a crash in the middle leaves a log without holes.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path

from logstore.config import TopicConfig
from logstore.errors import DamagedLog, StorageFailure
from logstore.format import filename
from logstore.format.batch import NO_TIMESTAMP
from logstore.storage import files
from logstore.storage.cache import Caches
from logstore.storage.segment import Segment
from logstore.storage.swap import remove_segment_files, swap_in


class SegmentList:
    """See the module. Every method that changes files raises StorageFailure."""

    def __init__(self, directory: Path, segments: Sequence[Segment], caches: Caches) -> None:
        self._directory = directory
        self._caches = caches
        self.all = tuple(segments)
        self.active = self.all[-1]
        self._retired: list[tuple[int, Segment]] = []
        self._named: Segment | None = None  # it, and those before it, have their names on the disk
        self._unmade_offset = -1  # of a segment whose creation has begun, and may have left files behind

    def _set(self, segments: Sequence[Segment]) -> None:
        self.all = tuple(segments)
        self.active = self.all[-1]

    # ------------------------------------------------------------------------------------------------------ growing

    def next_segment(self, base_offset: int, config: TopicConfig, now_ms: int) -> Segment:
        """The files of the segment that follows: all that a full disk can refuse of a roll. Nothing has changed yet."""
        self.active.index_largest_timestamp()  # what the end of the old one needs
        self.active.store_indexes()
        if self._unmade_offset == base_offset:
            remove_segment_files(self._directory, base_offset)
        self._unmade_offset = base_offset
        segment = Segment.create(
            self._directory,
            base_offset,
            self._caches,
            index_interval=config.index_interval_bytes,
            allocate_size=config.segment_bytes if config.preallocate else 0,
        )
        self._unmade_offset = -1
        segment.modified_ms = now_ms  # retention may date the segments before it by this
        return segment

    def add(self, segment: Segment) -> None:
        """Seal the active segment, and go on with this one, whose name ``sync_names`` brings to the disk: who appends
        must not wait for that."""
        self.active.seal()
        self._set((*self.all, segment))

    def active_since_ms(self) -> int:
        """When the first batch of the active segment came; 0 where it is empty."""
        active = self.active
        if active.size and not active.created_ms:
            try:
                timestamp = next(active.headers()).header.max_timestamp
            except DamagedLog:
                timestamp = NO_TIMESTAMP
            active.created_ms = min(active.modified_ms, timestamp) if timestamp >= 0 else active.modified_ms
        return active.created_ms

    def sync_from(self, offset: int) -> None:
        """Wait until all from ``offset`` on is on the disk; of sealed segments the indexes too."""
        segments = self.all
        self.sync_names()
        first = max(0, bisect_left(segments, offset, key=base_offset_of) - 1)  # one that ends there was sealed since
        for segment in segments[first:-1]:
            segment.sync()
            segment.sync_indexes()
        segments[-1].sync()

    def sync_names(self) -> None:
        """Wait until all segments have their names on the disk."""
        newest = self.active
        if newest is not self._named:
            files.sync_dir(self._directory)
            self._named = newest

    # ------------------------------------------------------------------------------------------------------- leaving

    def drop_oldest(self, now_ms: int) -> None:
        """Another one may go only after ``sync_dir``, or a crash could leave a hole. Where it fails, a segment that is
        not quite retired is still the oldest: the next try goes on with it."""
        self._retire(self.all[0], now_ms)
        self._set(self.all[1:])

    def sync_dir(self) -> None:
        files.sync_dir(self._directory)

    def drop_newest(self, count: int, now_ms: int) -> None:
        gone = self.all[len(self.all) - count :]
        self._set(self.all[: len(self.all) - count])
        for segment in reversed(gone):
            self._retire(segment, now_ms)
            files.sync_dir(self._directory)

    def find_group(self, group: Sequence[Segment], later: Segment) -> int | None:
        """Where the group stands in the list, before ``later``; None where they are not all there any more."""
        first = self.all.index(group[0]) if group[0] in self.all else 0
        end = first + len(group)
        return first if self.all[first:end] == tuple(group) and later in self.all[end:] else None

    def make_swap(self, cleaned: Segment) -> None:
        """Declare a segment that compaction has finished complete: until it is, a failure leaves all as it was."""
        swap_path = cleaned.path.with_suffix(filename.SWAP)
        files.rename(cleaned.path, swap_path)
        cleaned.path = swap_path

    def replace(self, first: int, count: int, cleaned: Segment, now_ms: int) -> None:
        """Put a segment that stands as ``.swap`` in the place of ``count`` others."""
        gone = self.all[first : first + count]

        def retire_old() -> None:
            for segment in gone:
                self._retire(segment, now_ms)

        files.sync_dir(self._directory)
        swap_in(self._directory, retire_old, cleaned.put_in_place)
        self._set((*self.all[:first], cleaned, *self.all[first + count :]))

    def _retire(self, segment: Segment, now_ms: int) -> None:
        for _, earlier in self._retired:
            if earlier.base_offset == segment.base_offset:
                earlier.pin()
        segment.retire()
        self._retired.append((now_ms, segment))

    def unlink_retired(self, is_due: Callable[[int], bool]) -> None:
        """Unlink the files of the segments that were retired at a time (ms) that is due."""
        failures: list[StorageFailure] = []
        for item in [item for item in self._retired if is_due(item[0])]:
            try:
                item[1].unlink()
                self._retired.remove(item)
            except StorageFailure as error:  # it stays until the next call, and keeps no other
                failures.append(error)
        if failures:
            raise failures[0]

    @property
    def has_retired(self) -> bool:
        return bool(self._retired)

    def forget(self) -> None:
        """Let go of the open files."""
        for segment in self.all:
            segment.forget()


def base_offset_of(segment: Segment) -> int:
    """The key by which segments are sorted, and found."""
    return segment.base_offset
