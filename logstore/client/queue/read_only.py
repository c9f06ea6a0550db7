"""A queue seen from outside: what a directory holds that is another process's, or nobody's.

It goes by what the owner has noted, which does not say for how long workers have their messages: those that were handed
out and are neither settled nor given back count as in flight.
"""

import time
from collections.abc import Iterator
from itertools import islice

from logstore.client.queue.journal import load
from logstore.client.queue.looks import QueueStats, check_count, look_ahead, make_stats
from logstore.client.queue.messages import Deserializer, Message
from logstore.client.queue.opening import DEAD_SUFFIX, STATE_PREFIX, find_buried, queue_names, resume
from logstore.client.queue.reader import Reader
from logstore.client.queue.state import READY, QueueState
from logstore.errors import OffsetOutOfRange, StorageFailure, UnknownTopic
from logstore.settings import LONG_MAX
from logstore.storage.read_only import ReadOnlyLog
from logstore.store import ReadOnlyTopicStore

_TRIES = 5


class ReadOnlyQueue:
    """See the module. Each call looks at what is there now. Raises UnknownTopic for what is no queue."""

    def __init__(self, store: ReadOnlyTopicStore, name: str, deserializer: Deserializer | None = None) -> None:
        self.name = name
        self.deserializer = deserializer
        self._store = store
        store.topic(name)
        store.topic(STATE_PREFIX + name)  # a queue that is being made has only one of them
        if name.removesuffix(DEAD_SUFFIX) not in queue_names(store.topics()):
            raise UnknownTopic(name)

    def stats(self) -> QueueStats:
        """See QueueStats."""
        state, damages, log = self._load()
        notes_size = self._store.log(STATE_PREFIX + self.name).view.size
        dead = self.dead_letters
        dead_count = 0 if dead is None else dead.unsettled_count()
        return make_stats(state, log.view, _wall_ms(), dead_count, damages, notes_size)

    def peek(self, count: int | None = 1) -> list[Message]:
        """The next messages that are ready, up to ``count``; None: all."""
        check_count(count)
        return list(islice(self.messages(), count))

    def messages(self) -> Iterator[Message]:
        """All messages that are ready."""
        state, _, log = self._load()
        for record, deliveries in look_ahead(state, log, _wall_ms()):
            yield Message(record, deliveries, self.deserializer)

    @property
    def dead_letters(self) -> "ReadOnlyQueue | None":
        """None where there never were any."""
        try:
            return ReadOnlyQueue(self._store, self.name + DEAD_SUFFIX, self.deserializer)
        except UnknownTopic:
            return None

    def unsettled_count(self) -> int:
        state, _, log = self._load()
        return state.unsettled_count(log.view.log_end_offset)

    def _load(self) -> tuple[QueueState, list[str], ReadOnlyLog]:
        for left in reversed(range(_TRIES)):
            try:
                return self._load_once()
            except (StorageFailure, OffsetOutOfRange):  # the owner has just let go of what was being read
                if not left:
                    raise
        raise AssertionError("the last try returns or raises")

    def _load_once(self) -> tuple[QueueState, list[str], ReadOnlyLog]:
        log = self._store.log(self.name)
        loaded = load(self._store.log(STATE_PREFIX + self.name).view, self._store.topic(self.name), log.view)
        state = loaded.state
        state.clamp(log.view.log_start_offset, log.view.log_end_offset)
        dead = self.dead_letters
        if dead is not None:
            letters = self._store.log(dead.name)
            for buried in find_buried(letters, state.dead_end, letters.log_end_offset, state.topic_id):
                if buried.offset < log.view.log_end_offset:
                    state.apply(buried)
        handed_out = set(loaded.handed_out)
        resume(state, Reader(log))
        for offset, message in state.pending.items():
            if offset in handed_out and message.status == READY:
                state.held(message, LONG_MAX)
        return state, loaded.damages, log


def read_only_queues(store: ReadOnlyTopicStore) -> list[str]:
    """The names of all queues in the directory."""
    return queue_names(store.topics())


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
