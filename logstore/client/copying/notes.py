"""What a copier notes in the target, as records of the compacted topic ``__copy``: JSON, for each key the last counts.

::

    {"source": identity of the source's topic, "topic": the target's, "partition": 0}
        {"target": id of the target's topic, "start": [source offset, target offset], "at": [source offset,
         target offset], "is_open": whether records may stand behind ``at``}
    {"source": ..., "topic": ..., "partition": 0, "group": ...}
        {"offsets": [...]}      that were committed for the group, or were about to be

The offsets of ``start`` and ``at`` are pairs: what the source has before the one is what the target has before the
other. A partition's first note is there before its first record, the next ones follow syncs; so after any end, records
behind ``at`` in the target are the source's behind ``at``.
"""

import json
from typing import Any, NamedTuple

from logstore.client.copying.ends import Target, show
from logstore.errors import CopyRefused
from logstore.format.filename import TopicPartition


class Pair(NamedTuple):
    """Offsets that belong together."""

    source: int
    target: int


class Progress(NamedTuple):
    target_id: str
    start: Pair
    at: Pair
    is_open: bool = False


class Notes:
    """Those of a target: read once, and kept up."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._notes = target.load_notes()

    def progress(self, source_id: str, partition: TopicPartition) -> Progress | None:
        """Raises CopyRefused for a note that is not ours."""
        raw = self._notes.get(_key(source_id, partition))
        if raw is None:
            return None
        try:
            value = json.loads(raw)
            start, at = Pair(*map(int, value["start"])), Pair(*map(int, value["at"]))
            return Progress(str(value["target"]), start, at, bool(value["is_open"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _unreadable(partition, raw) from None

    def set_progress(self, source_id: str, partition: TopicPartition, progress: Progress) -> None:
        value = {"target": progress.target_id, "start": progress.start, "at": progress.at, "is_open": progress.is_open}
        self._set(_key(source_id, partition), value)

    def committed(self, source_id: str, partition: TopicPartition, group: str) -> list[int]:
        """The offsets that were committed for a group, or were about to be."""
        raw = self._notes.get(_key(source_id, partition, group))
        try:
            return [] if raw is None else [int(offset) for offset in json.loads(raw)["offsets"]]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _unreadable(partition, raw or b"") from None

    def set_committed(self, source_id: str, partition: TopicPartition, group: str, offsets: list[int]) -> None:
        self._set(_key(source_id, partition, group), {"offsets": offsets})

    def _set(self, key: bytes, value: dict[str, Any]) -> None:
        raw = json.dumps(value).encode()
        if self._notes.get(key) != raw:
            self._target.note({key: raw})
            self._notes[key] = raw


def _key(source_id: str, partition: TopicPartition, group: str | None = None) -> bytes:
    key: dict[str, Any] = {"source": source_id, "topic": partition.topic, "partition": partition.partition}
    return json.dumps(key if group is None else {**key, "group": group}).encode()


def _unreadable(partition: TopicPartition, raw: bytes) -> CopyRefused:
    reason = f"what the topic __copy says of it cannot be read: {raw[:100]!r}"
    return CopyRefused(show(partition), reason, "delete the topic and __copy in the target, and copy anew")
