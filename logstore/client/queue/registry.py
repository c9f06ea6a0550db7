"""The queues of a store: each is one object, whoever asks for it, until it is closed."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from logstore.client.queue.core import monotonic_ms
from logstore.client.queue.dead_letters import DeadLetters
from logstore.client.queue.messages import Deserializer
from logstore.client.queue.opening import (
    DEAD_SUFFIX,
    check_name,
    first_config,
    make_topics,
    open_state,
    parent_of,
    queue_names,
)
from logstore.client.queue.queue import Queue
from logstore.errors import InvalidArgument
from logstore.store import TopicStore

Serializer = Callable[[Any], bytes | None]


class Queues:
    """See the module. Safe to use from many threads."""

    def __init__(self, store: TopicStore, wall_ms: Callable[[], int], now_ms: Callable[[], int] = monotonic_ms) -> None:
        """``wall_ms``: the time since 1970; ``now_ms``: a monotonic one."""
        self._store, self._clocks = store, (wall_ms, now_ms)
        self._queues: dict[str, Queue] = {}
        self._lock = threading.RLock()

    def names(self) -> list[str]:
        """Without those of dead letters."""
        return queue_names(self._store.topics())

    def open(
        self,
        name: str,
        serializer: Serializer | None = None,
        deserializer: Deserializer | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> Queue:
        """See ``Store.queue``."""
        check_name(name)
        for what, given in (("serializer", serializer), ("deserializer", deserializer)):
            if given is not None and not callable(given):
                raise InvalidArgument(what, given, "it is a callable")
        with self._lock:
            queue = self._queues.get(name)
            if queue is None or queue.is_closed:
                parent = parent_of(name, self._store.topics())
                queue = self._open_letters(parent) if parent is not None else self._open_messages(name, settings)
            queue.serializer = serializer or queue.serializer
            queue.deserializer = deserializer or queue.deserializer
            if settings:
                queue.configure(queue.config.replace(settings))
            return queue

    def _open_messages(self, name: str, settings: Mapping[str, object] | None) -> Queue:
        first_config(of_letters=False).replace(settings or {})  # wrong ones must not leave topics behind
        is_new = make_topics(self._store, name, of_letters=False)
        opened = open_state(self._store, name)
        queue = Queue(self._store, name, opened, *self._clocks, open_letters=lambda: self._open_letters(name))
        self._keep(queue, is_new or not opened.loaded.note_count)
        return queue

    def _open_letters(self, name: str) -> DeadLetters:
        """Of the queue of this name."""
        letters_name = name + DEAD_SUFFIX
        with self._lock:
            letters = self._queues.get(letters_name)
            if letters is None or letters.is_closed:
                is_new = make_topics(self._store, letters_name, of_letters=True)
                opened = open_state(self._store, letters_name)
                letters = DeadLetters(self._store, letters_name, opened, *self._clocks, parent=lambda: self.open(name))
                self._keep(letters, is_new or not opened.loaded.note_count)
            assert isinstance(letters, DeadLetters)
            parent = self._queues.get(name)
            if parent is not None:
                letters.deserializer = letters.deserializer or parent.deserializer
            return letters

    def _keep(self, queue: Queue, is_new: bool) -> None:
        if is_new:
            queue.begin(first_config(isinstance(queue, DeadLetters)))
        self._queues[queue.name] = queue

    def close(self) -> None:
        """All of them."""
        with self._lock:
            queues = list(self._queues.values())
            self._queues.clear()
        for queue in queues:
            queue.close()
