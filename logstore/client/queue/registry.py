"""The queues of a store: each is one object, whoever asks for it, until it is closed."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from logstore.client.queue.dead_letters import DeadLetters
from logstore.client.queue.engine import monotonic_ms
from logstore.client.queue.messages import Deserializer
from logstore.client.queue.opening import (
    DEAD_SUFFIX,
    STATE_PREFIX,
    check_name,
    delete_topics,
    first_config,
    go_on_deleting,
    has_queue,
    make_topics,
    open_state,
    parent_of,
    queue_names,
)
from logstore.client.queue.queue import Queue
from logstore.errors import Closed, InvalidArgument, UnknownTopic
from logstore.store import TopicStore

Serializer = Callable[[Any], bytes | None]


class Queues:
    """See the module. Safe to use from many threads."""

    def __init__(self, store: TopicStore, wall_ms: Callable[[], int], now_ms: Callable[[], int] = monotonic_ms) -> None:
        """``wall_ms``: the time since 1970; ``now_ms``: a monotonic one."""
        self._store, self._clocks = store, (wall_ms, now_ms)
        self._queues: dict[str, Queue] = {}
        self._lock = threading.RLock()
        self._is_closed = False
        go_on_deleting(store)

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
            if self._is_closed:
                raise Closed(f"data directory {self._store.path}")
            queue = self._queues.get(name)
            if queue is None or queue.is_closed:
                if queue is not None:
                    queue.upkeep.wait_until_closed()
                parent = parent_of(name, self._store.topics())
                queue = self._open_messages(name, settings or {}) if parent is None else self._open_letters(parent)
            queue.intake.serializer = serializer or queue.intake.serializer
            queue.deserializer = deserializer or queue.deserializer
            if settings:
                queue.configure(queue.config.replace(settings))
            return queue

    def _open_messages(self, name: str, settings: Mapping[str, object]) -> Queue:
        first_config(of_letters=False).replace(settings)  # wrong ones must not leave topics behind
        make_topics(self._store, name, of_letters=False)
        opened = open_state(self._store, name, settings, of_letters=False)
        queue = Queue(self._store, name, opened, *self._clocks, open_letters=lambda: self._open_letters(name))
        self._queues[name] = queue
        return queue

    def _open_letters(self, name: str) -> DeadLetters:
        """Of the queue of this name."""
        letters_name = name + DEAD_SUFFIX
        with self._lock:
            letters = self._queues.get(letters_name)
            if letters is None or letters.is_closed:
                if letters is not None:
                    letters.upkeep.wait_until_closed()
                if name not in self.names():
                    raise UnknownTopic(name)  # deleted: it must not have dead letters again
                make_topics(self._store, letters_name, of_letters=True)
                opened = open_state(self._store, letters_name, {}, of_letters=True)
                letters = DeadLetters(
                    self._store,
                    letters_name,
                    opened,
                    *self._clocks,
                    parent=lambda: self.open(name),
                    open_parent=lambda: self._if_open(name),
                )
                self._queues[letters_name] = letters
            assert isinstance(letters, DeadLetters)
            parent = self._queues.get(name)
            if parent is not None:
                letters.deserializer = letters.deserializer or parent.deserializer
            return letters

    def _if_open(self, name: str) -> Queue | None:
        queue = self._queues.get(name)
        return None if queue is None or queue.is_closed else queue

    def delete(self, name: str) -> None:
        """See ``Store.delete_queue``."""
        check_name(name)
        if name.endswith(DEAD_SUFFIX):
            raise InvalidArgument("queue", name, "dead letters go with their queue: delete that, or purge them")
        with self._lock:
            if not has_queue(self._store, name):
                topic = self._store.topic(name)
                raise InvalidArgument("queue", topic.name, "it is a topic and no queue: delete_topic removes it")
            delete_topics(self._store, name)

    def topic_changed(self, name: str) -> None:
        """A topic was made, altered or deleted: a queue whose topic is gone is none any more."""
        queue = self._queues.get(name.removeprefix(STATE_PREFIX))
        if queue is not None and name not in {topic.name for topic in self._store.topics()}:
            queue.engine.abandon(UnknownTopic(name))

    def close(self) -> None:
        """All of them, the dead letters first: they let go of what their queues know of."""
        with self._lock:
            self._is_closed = True
        for name in sorted(self._queues, key=lambda name: not name.endswith(DEAD_SUFFIX)):
            self._queues[name].close()
