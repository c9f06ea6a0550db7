"""A queue's notes: the one writer of its state topic, and how its state is read from there.

A note is in the page cache when ``note`` returns, so that it outlives this process; ``sync`` makes all of them outlive
the end of power. Now and then a snapshot of the whole state begins a segment, and the segments before it go. A crash
in between leaves both, which say the same. Notes that damage has taken are missing: what they settled is handed out
once more. Its queue's lock is held by whoever notes.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

from logstore.client.queue.state import QueueState
from logstore.errors import CorruptData, DamagedLog, DiskFull, InvalidSetting, LogstoreError, OffsetGap
from logstore.format.queue_state import decode_event, encode_event
from logstore.storage.log_view import LogView
from logstore.storage.partition import PartitionLog
from logstore.storage.topics import TopicDescription

logger = logging.getLogger("logstore.queue")

_NOTES_MAX = 40_000  # between two snapshots: 4 MiB; more for states that are large themselves


class Loaded(NamedTuple):
    """``damages``: what could not be read of the notes; ``handed_out``: the offsets of messages that workers had."""

    state: QueueState
    damages: list[str]
    note_count: int
    handed_out: list[int]


def load(view: LogView, messages: TopicDescription, messages_view: LogView) -> Loaded:
    """The state that the notes tell of the messages, as they left it: neither clamped nor resumed."""
    state = QueueState(messages.topic_id, messages_view.log_start_offset)
    damages: list[str] = []
    note_count = 0
    offset = view.log_start_offset
    while offset < view.log_end_offset:
        try:
            for record in view.records(offset):
                note_count += 1
                try:
                    state.apply(decode_event(record.value or b""))
                except (CorruptData, InvalidSetting) as error:
                    damages.append(f"the note at offset {record.offset}: {error}")
                offset = record.offset + 1
            break
        except OffsetGap as error:
            damages.append(str(error))
            offset = error.last_offset + 1
        except DamagedLog as error:
            damages.append(str(error))
            if error.next_offset is None:
                break
            offset = max(offset + 1, error.next_offset)
    return Loaded(state, damages, note_count, state.handed_out())


class Journal:
    """See the module. ``is_due``: a snapshot would be in order."""

    def __init__(self, log: PartitionLog, note_count: int, make_room: Callable[[], None]) -> None:
        """``make_room`` is called where the disk is full, before the one more try."""
        self.log = log
        self._append = log.append
        self._make_room = make_room
        self._note_count = note_count
        self._limit = _NOTES_MAX
        self._snapshot_offset = log.log_start_offset

    def note(self, events: list[bytes]) -> None:
        """Raises StorageFailure, PartitionOffline, Closed, ForkedProcess: then none of them is noted."""
        try:
            self._append(events)
        except DiskFull:
            self._make_room()
            self._append(events)
        self._note_count += len(events)

    @property
    def is_due(self) -> bool:
        return self._note_count >= self._limit

    @property
    def has_news(self) -> bool:
        """Whether anything is noted behind the last snapshot."""
        return self._note_count > 1

    def sync(self) -> None:
        """Wait until all that is noted by now is on the disk. Raises StorageFailure, PartitionOffline, Closed."""
        self.log.flush()

    def snapshot(self, state: QueueState) -> None:
        """Note the whole state; ``let_go`` follows, when the queue's lock is not held any more."""
        self._limit = self._note_count + _NOTES_MAX  # should it fail: not at once again
        self.log.roll()
        offset = self.log.append([encode_event(state.snapshot())]).base_offset
        self._snapshot_offset = offset
        self._note_count = 1
        self._limit = max(_NOTES_MAX, 4 * len(state.pending))

    def let_go(self) -> None:
        """Let what is noted before the last snapshot go."""
        if self._snapshot_offset > self.log.log_start_offset:
            self.log.flush()
            self.log.advance_log_start(self._snapshot_offset)
            self.log.delete_expired()

    def try_to_let_go(self) -> None:
        try:
            self.let_go()
        except LogstoreError as error:
            logger.warning("%s: what a snapshot has replaced stays for now: %s", self.log.name, error)
