"""What comes into a queue: messages that are put, by way of its log, with room for them where there is a limit."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from logstore.client.producer import Receipt
from logstore.client.queue.burial import Burial
from logstore.client.queue.messages import checked_headers, timing_headers
from logstore.client.queue.waiting import Turn, deadline_s
from logstore.errors import DiskFull, Full, InvalidRecord, SerializationFailed
from logstore.format.record import Headers
from logstore.storage.arguments import as_column
from logstore.storage.durability import Durability
from logstore.storage.log_writer import Appended

HeadersGiven = Mapping[str, bytes | None] | Iterable[tuple[str, bytes | None]] | None

_receipt: Callable[[tuple[Any, ...]], Receipt] = partial(tuple.__new__, Receipt)


class Intake(Burial):
    """See the module."""

    def put(
        self,
        value: Any,
        block: bool = True,
        timeout: float | None = None,
        *,
        key: bytes | None = None,
        headers: HeadersGiven = None,
        delay: float = 0.0,
        ttl: float | None = None,
    ) -> Receipt:
        """Put a message in, bytes or what the serializer takes, and return where it is once it is as durable as the
        queue's ``durability`` says.

        ``delay`` seconds pass before it can be got; after ``ttl`` seconds it cannot, and becomes a dead letter. With
        max.size, a full queue makes this wait for ``timeout`` seconds (None: for ever; 0, or ``block=False``: not at
        all). Raises Full, InvalidRecord, RecordTooLarge, SerializationFailed, InvalidArgument, StorageFailure, Closed.
        """
        until_s = deadline_s(block, timeout) if self._is_bounded else 0.0
        return self.place(value, self._durability, until_s, key, headers, delay, ttl)

    def place(
        self,
        value: Any,
        durability: Durability,
        until_s: float,
        key: bytes | None,
        headers: HeadersGiven,
        delay: float,
        ttl: float | None,
    ) -> Receipt:
        """``put``, as durable as it is said here; waits for room until a time of the monotonic clock."""
        if type(value) is not bytes or self.serializer is not None:
            value = self._as_bytes(value)
        if self._closed is not None:
            self._check_open()
        if key is None and headers is None and ttl is None and delay == 0:
            columns = None
        else:
            columns = [key], [checked_headers(headers) + timing_headers(delay, ttl, self._wall_ms())]
        if self._is_bounded:
            appended = self._append_bounded([value], columns, until_s, durability)
        elif columns is None:
            appended = self._append_or_make_room([value], durability=durability)
        else:
            appended = self._append_or_make_room([value], keys=columns[0], headers=columns[1], durability=durability)
        offset, _, timestamp_ms, reached, _ = appended
        return _receipt((self.name, 0, offset, timestamp_ms, reached))

    def put_many(
        self,
        values: Iterable[Any],
        block: bool = True,
        timeout: float | None = None,
        *,
        keys: Iterable[bytes | None] | None = None,
        headers: Iterable[HeadersGiven] | None = None,
        delay: float = 0.0,
        ttl: float | None = None,
    ) -> list[Receipt]:
        """Put messages in as one batch: all of them or none. ``keys`` and ``headers`` have an item for each. Raises as
        ``put`` does; Full where they would never fit."""
        stored = [self._as_bytes(value) for value in as_column("values", values)]
        self._check_open()
        timing = timing_headers(delay, ttl, self._wall_ms())
        given = [checked_headers(one) for one in as_column("headers", headers)] if headers is not None else None
        columns = None
        if keys is not None or given is not None or timing:
            all_keys = [None] * len(stored) if keys is None else as_column("keys", keys)
            columns = all_keys, [one + timing for one in given] if given is not None else [timing] * len(stored)
        if not stored:
            return []
        if self._is_bounded:
            appended = self._append_bounded(stored, columns, deadline_s(block, timeout), self._durability)
        elif columns is None:
            appended = self._append_or_make_room(stored, durability=self._durability)
        else:
            appended = self._append_or_make_room(
                stored, keys=columns[0], headers=columns[1], durability=self._durability
            )
        first, last, timestamp_ms, durability, _ = appended
        return [_receipt((self.name, 0, offset, timestamp_ms, durability)) for offset in range(first, last + 1)]

    def _as_bytes(self, value: Any) -> bytes | None:
        if self.serializer is not None:
            try:
                value = self.serializer(value)
            except Exception as error:
                raise SerializationFailed("serializer", self.name, f"{type(error).__name__}: {error}") from error
            if value is None or isinstance(value, bytes | bytearray | memoryview):
                return None if value is None else bytes(value)
            raise SerializationFailed("serializer", self.name, f"it gave a {type(value).__name__}, not bytes")
        if not isinstance(value, bytes | bytearray | memoryview):
            raise InvalidRecord(
                f"a message is bytes, not {type(value).__name__}; open the queue with a serializer, or encode it first"
            )
        return bytes(value)

    def _append_bounded(
        self, values: Sequence[bytes | None], columns: Any, until_s: float, durability: Durability
    ) -> Appended:
        """Once there is room for all of them."""
        while True:
            turn = Turn(until_s, len(values))
            try:
                appended = self._append_or_wait(values, columns, turn)
                if appended is not None:
                    break
                turn.wait()
            except BaseException:
                self.give_up_room(turn)
                raise
            self._putters.remove(turn)
        if durability is Durability.OS:
            return appended
        self._log.flush()
        return appended._replace(durability=durability)

    def _append_or_wait(self, values: Sequence[bytes | None], columns: Any, turn: Turn) -> Appended | None:
        """None where there is no room, and ``turn`` waits for it from now on."""
        keys, headers = columns or (None, None)
        max_size = self.config.max_size
        with self._lock:  # so that nobody else takes the room
            self._check_open()
            if not self._is_bounded or len(values) <= max_size - self._unsettled_count():
                return self._append_or_make_room(values, keys=keys, headers=headers)
            if len(values) > max_size or time.monotonic() >= turn.until_s:
                raise Full(self.name, max_size)
            self._putters.add(turn)
            self._wake_putters()  # who wants less: the room may have been kept for this one
            return None

    def _append_or_make_room(self, values: Sequence[bytes | None], **columns: Any) -> Appended:
        """Where the disk is full, what is settled makes room first."""
        try:
            return self._append(values, **columns)
        except DiskFull:
            self._make_room()
        return self._append(values, **columns)

    def take_in(self, values: Sequence[bytes | None], keys: Sequence[bytes | None], headers: Sequence[Headers]) -> None:
        """Put in what another queue gives away: as it is stored, on the disk when this returns, room or not."""
        self._check_open()
        self._append_or_make_room(values, keys=keys, headers=headers)
        self._log.flush()
