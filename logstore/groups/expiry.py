"""The check for offsets that have expired, and groups that are over. What expires when is told in offsets.py."""

import logging
from collections.abc import Callable
from functools import partial

from logstore.config import StoreConfig
from logstore.errors import Closed, LogstoreError
from logstore.groups.group_table import Entry, GroupTable
from logstore.groups.offsets import expired
from logstore.storage.retention import RetentionClock

logger = logging.getLogger("logstore.groups")

_MINUTE_MS = 60_000


class Expiry:
    """``now_ms`` is the Unix time, ``clock_ms`` monotonic: together they tell a clock that jumps from time that
    passes. For one thread at a time."""

    def __init__(
        self, table: GroupTable, config: StoreConfig, now_ms: Callable[[], int], clock_ms: Callable[[], int]
    ) -> None:
        self._table = table
        self._retention_ms = config.offsets_retention_minutes * _MINUTE_MS
        self._now_ms, self._clock_ms = now_ms, clock_ms
        self._retention_clock = RetentionClock(now_ms(), clock_ms())

    def run(self) -> None:
        """What could not be taken away is told in warnings, and is tried again by the next check."""
        self._retention_clock.observe(self._now_ms(), self._clock_ms())
        now_ms = self._retention_clock.now_ms(self._retention_ms)
        for group_id, _ in self._table.all():
            try:
                self._table.enter(group_id, partial(self._expire, now_ms))
            except Closed:
                return
            except LogstoreError as error:
                logger.warning("group %s: its expired offsets stay until the next check: %s", group_id, error)

    def _expire(self, now_ms: int, entry: Entry | None) -> None:
        if entry is None:
            return
        due = expired(
            entry.commits,
            now_ms,
            self._retention_ms,
            state=entry.group.state.value,
            protocol_type=entry.group.protocol_type or "",
            empty_since_ms=entry.since_ms,
            subscribed_topics=entry.group.subscribed_topics(),
        )
        if due:
            logger.info("group %s: %d committed offsets have expired", entry.group.group_id, len(due))
        is_over = entry.is_idle and len(due) == len(entry.commits)
        self._table.forget(entry, due, with_group=is_over)
