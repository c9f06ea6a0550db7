"""What comes into a queue: messages that are put, by way of its log, with room for them where there is a limit."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from logstore.client.producer import Receipt
from logstore.client.queue.engine import Engine
from logstore.client.queue.messages import checked_headers, timing_headers
from logstore.client.queue.waiting import Turn, Waiter
from logstore.errors import Full, InvalidRecord, SerializationFailed
from logstore.format.record import Headers
from logstore.storage.arguments import as_column
from logstore.storage.durability import Durability
from logstore.storage.log_writer import Appended

HeadersGiven = Mapping[str, bytes | None] | Iterable[tuple[str, bytes | None]] | None

Columns = dict[str, Any]  # keys and headers, where there are any

_receipt: Callable[[tuple[Any, ...]], Receipt] = partial(tuple.__new__, Receipt)


class Intake:
    """See the module. ``serializer``: what makes bytes of messages; None: they are bytes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.serializer: Callable[[Any], bytes | None] | None = None

    def put(
        self,
        value: Any,
        durability: Durability,
        until_s: float,
        key: bytes | None,
        headers: HeadersGiven,
        delay: float,
        ttl: float | None,
    ) -> Receipt:
        """See Queue.put; waits for room until a time of the monotonic clock."""
        engine = self._engine
        if type(value) is not bytes or self.serializer is not None:
            value = self._as_bytes(value)
        if engine.closed is not None:
            engine.check_open()
        if key is None and headers is None and ttl is None and delay == 0:
            columns = {}
        else:
            timing = timing_headers(delay, ttl, engine.wall_ms())
            columns = {"keys": [key], "headers": [checked_headers(headers) + timing]}
        if engine.is_bounded:
            appended = self._append_bounded([value], columns, until_s, durability)
        else:
            appended = engine.append([value], durability=durability, **columns)
        offset, _, timestamp_ms, reached, _ = appended
        return _receipt((engine.name, 0, offset, timestamp_ms, reached))

    def put_many(
        self,
        values: Iterable[Any],
        durability: Durability,
        until_s: float,
        keys: Iterable[bytes | None] | None,
        headers: Iterable[HeadersGiven] | None,
        delay: float,
        ttl: float | None,
    ) -> list[Receipt]:
        """See Queue.put_many."""
        engine = self._engine
        stored = [self._as_bytes(value) for value in as_column("values", values)]
        engine.check_open()
        timing = timing_headers(delay, ttl, engine.wall_ms())
        given = [checked_headers(one) for one in as_column("headers", headers)] if headers is not None else None
        columns: Columns = {}
        if keys is not None or given is not None or timing:
            columns["keys"] = [None] * len(stored) if keys is None else as_column("keys", keys)
            columns["headers"] = [timing] * len(stored) if given is None else [one + timing for one in given]
        if not stored:
            return []
        if engine.is_bounded:
            appended = self._append_bounded(stored, columns, until_s, durability)
        else:
            appended = engine.append(stored, durability=durability, **columns)
        first, last, timestamp_ms, reached, _ = appended
        return [_receipt((engine.name, 0, offset, timestamp_ms, reached)) for offset in range(first, last + 1)]

    def take_in(self, values: Sequence[bytes | None], keys: Sequence[bytes | None], headers: Sequence[Headers]) -> None:
        """Put in what another queue gives away: as it is stored, on the disk when this returns, room or not."""
        self._engine.check_open()
        self._engine.append(values, keys=keys, headers=headers)
        self._engine.log.flush()

    def _as_bytes(self, value: Any) -> bytes | None:
        if self.serializer is not None:
            what, name = "serializer", self._engine.name
            try:
                value = self.serializer(value)
            except Exception as error:
                raise SerializationFailed(what, name, f"{type(error).__name__}: {error}") from error
            if value is None or isinstance(value, bytes | bytearray | memoryview):
                return None if value is None else bytes(value)
            raise SerializationFailed(what, name, f"it gave a {type(value).__name__}, not bytes")
        if not isinstance(value, bytes | bytearray | memoryview):
            raise InvalidRecord(
                f"a message is bytes, not {type(value).__name__}; open the queue with a serializer, or encode it first"
            )
        return bytes(value)

    def _append_bounded(
        self, values: Sequence[bytes | None], columns: Columns, until_s: float, durability: Durability
    ) -> Appended:
        """Once there is room for all of them."""
        engine = self._engine
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
            engine.putters.remove(turn)
        if durability is Durability.OS:
            return appended
        engine.log.flush()
        return appended._replace(durability=durability)

    def _append_or_wait(self, values: Sequence[bytes | None], columns: Columns, turn: Turn) -> Appended | None:
        """None where there is no room, and ``turn`` waits for it from now on."""
        engine = self._engine
        max_size = engine.config.max_size
        with engine.lock:  # so that nobody else takes the room
            engine.check_open()
            if not engine.is_bounded or len(values) <= max_size - engine.unsettled_count():
                return engine.append(values, **columns)
            if len(values) > max_size or time.monotonic() >= turn.until_s:
                raise Full(engine.name, max_size)
            engine.putters.add(turn)
            engine.wake_putters()  # who wants less: the room may have been kept for this one
            return None

    def wait_for_room(self, waiter: Waiter) -> None:
        """It is called when there is room for its messages, at once where there is; ``give_up_room`` must follow.
        Raises Closed."""
        with self._engine.lock:
            self._engine.check_open()
            self._engine.putters.add(waiter)
            self._engine.wake_putters()

    def give_up_room(self, waiter: Waiter) -> None:
        """A putter goes away, and might have been the one who was woken."""
        engine = self._engine
        engine.putters.remove(waiter)
        with engine.lock:
            if engine.putters.waiting and engine.closed is None:
                engine.wake_putters()
