"""How a queue is opened: its topics, made where there are none, and its state as the last owner left it.

A queue ``jobs`` is two topics of one partition each: ``jobs`` holds the messages, ``__queue.jobs`` what became of them,
and is made first. So a crash in the middle leaves notes without messages, and the next opening goes on. A third,
``jobs.dead``, is made when the first message becomes a dead letter; it is a queue as well.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from uuid import UUID

from logstore.client.queue.journal import Loaded, load
from logstore.client.queue.messages import read_dead_letter, read_replayed, visible_at_ms
from logstore.client.queue.reader import Missing, Reader
from logstore.client.queue.state import QueueState
from logstore.config import QueueConfig
from logstore.errors import InvalidArgument, UnknownTopic
from logstore.format.filename import TOPIC_NAME_SIZE_MAX, check_topic_name
from logstore.format.queue_state import NOT_REPLAYING, Buried
from logstore.settings import INT_MAX
from logstore.storage.log_view import ReadableLog
from logstore.storage.topics import TopicDescription
from logstore.store import TopicStore

logger = logging.getLogger("logstore.queue")

STATE_PREFIX = "__queue."
DEAD_SUFFIX = ".dead"
_NAME_SIZE_MAX = TOPIC_NAME_SIZE_MAX - len(STATE_PREFIX) - len(DEAD_SUFFIX)

_MESSAGES = {
    "retention.ms": -1,  # what is settled goes, and nothing else
    "segment.bytes": 16 << 20,
    "max.message.bytes": 16 << 20,
    "file.delete.delay.ms": 1_000,
}
_LETTERS = _MESSAGES | {"max.message.bytes": INT_MAX}  # a dead letter has more headers than the message had
_NOTES = {
    "retention.ms": -1,
    "segment.bytes": 4 << 20,
    "max.message.bytes": INT_MAX,  # a snapshot is one record
    "file.delete.delay.ms": 1_000,
    # Where the disk is full, messages can still be got and acked, which makes room: the log has its space, and each of
    # its indexes has all that it will need, a block, when it has an entry.
    "preallocate": True,
    "index.interval.bytes": 16 << 10,
}
_LETTERS_CONFIG = {"max.deliveries": 0}


class Opened(NamedTuple):
    """``must_sync``: the state is not what the notes say, and the next note must be a snapshot, on the disk;
    ``must_note``: the settings are not what the notes say."""

    loaded: Loaded
    must_sync: bool
    must_note: bool


def check_name(name: object) -> str:
    """Raises InvalidTopicName, InvalidArgument."""
    check_topic_name(name)  # type: ignore[arg-type]  # that is the question
    assert isinstance(name, str)
    if name.startswith("__"):
        raise InvalidArgument("queue", name, "names that begin with __ are for topics of logstore's own")
    if len(name) > _NAME_SIZE_MAX:
        raise InvalidArgument("queue", name, f"a queue's name has at most {_NAME_SIZE_MAX} characters")
    return name


def queue_names(topics: Iterable[TopicDescription]) -> list[str]:
    """The queues among the topics, without their dead letters."""
    names = {topic.name for topic in topics}
    queues = {name.removeprefix(STATE_PREFIX) for name in names if name.startswith(STATE_PREFIX)} & names
    return sorted(name for name in queues if name.removesuffix(DEAD_SUFFIX) not in queues - {name})


def parent_of(name: str, topics: Iterable[TopicDescription]) -> str | None:
    """The queue whose dead letters those of this name are; None where it is no such name."""
    parent = name.removesuffix(DEAD_SUFFIX)
    names = {topic.name for topic in topics}
    return parent if parent != name and STATE_PREFIX + parent in names else None


def make_topics(store: TopicStore, name: str, *, of_letters: bool) -> None:
    """See that the queue's topics are there. Raises InvalidArgument for a topic that is no queue."""
    known = {topic.name: topic for topic in store.topics()}
    is_new = STATE_PREFIX + name not in known
    if name in known:
        _check_topic(store, known[name], is_new)
    if is_new:
        store.create_topic(STATE_PREFIX + name, 1, **_NOTES)
    wanted: Mapping[str, object] = _LETTERS if of_letters else _MESSAGES
    if name not in known:
        store.create_topic(name, 1, **wanted)
    elif is_new:
        store.alter_topic(name, wanted)


def _check_topic(store: TopicStore, topic: TopicDescription, is_new: bool) -> None:
    if topic.partitions != 1:
        reason = f"there is a topic of that name with {topic.partitions} partitions, and a queue has one"
        raise InvalidArgument("queue", topic.name, f"{reason}: choose another name")
    if is_new and store.log(topic.name).log_end_offset:
        raise InvalidArgument(
            "queue", topic.name, "there is a topic of that name with records that are no queue's: choose another name"
        )
    if not topic.config.deletes or topic.config.compacts:
        raise InvalidArgument(
            "queue", topic.name, f"its topic has cleanup.policy={','.join(topic.config.cleanup_policy)}, not delete"
        )


def open_state(store: TopicStore, name: str, settings: Mapping[str, object], *, of_letters: bool) -> Opened:
    """The queue's state, ready to be used, with these settings changed. Raises InvalidSetting, StorageFailure,
    UnknownTopic, DamagedTopic."""
    messages = store.log(name)
    view = messages.view
    loaded = load(store.log(STATE_PREFIX + name).view, store.topic(name), view)
    state = loaded.state
    is_new = not loaded.note_count or state.is_foreign
    before = first_config(of_letters) if is_new else state.config
    state.config = before.replace(settings)
    if state.is_foreign:
        logger.warning("queue %r: its notes are of a topic that was deleted, and are not used", name)
    for damage in loaded.damages:
        logger.error("queue %r: messages may be handed out once more, for a note is lost: %s", name, damage)
    is_beyond = state.clamp(view.log_start_offset, view.log_end_offset)
    if is_beyond:
        logger.warning("queue %r: its log ends at %d, before what is noted of it", name, view.log_end_offset)
    is_given_anew = _settle_buried(store, name, state, view.log_end_offset) or _settle_replayed(store, name, state)
    resume(state, Reader(messages))
    must_sync = is_beyond or is_given_anew or state.is_foreign or bool(loaded.damages)
    return Opened(loaded, must_sync, must_note=is_new or state.config != before)


def _settle_buried(store: TopicStore, name: str, state: QueueState, end_offset: int) -> bool:
    """Settle the messages that became dead letters just before the end. Whether there are letters of messages that the
    log has lost, whose offsets will be given anew."""
    try:
        letters = store.log(name + DEAD_SUFFIX)
    except UnknownTopic:
        return False
    found = find_buried(letters, state.dead_end, letters.log_end_offset, state.topic_id)
    for buried in found:
        if buried.offset < end_offset:
            state.apply(buried)
    state.dead_end = letters.log_end_offset
    return any(buried.offset >= end_offset for buried in found)


def _settle_replayed(store: TopicStore, name: str, state: QueueState) -> bool:
    """Settle the dead letters that were put back just before the end: whether any were on their way."""
    if state.replaying_from == NOT_REPLAYING:
        return False
    for offset in find_replayed(store.log(name.removesuffix(DEAD_SUFFIX)), state.replaying_from, state.topic_id):
        state.settled(offset, offset)
    state.replaying_from = NOT_REPLAYING
    return True


def find_replayed(messages: ReadableLog, offset: int, topic_id: UUID) -> list[int]:
    """The dead letters of a topic that are among the messages again, at offsets from ``offset`` on."""
    view = messages.view
    reader = Reader(messages)
    found: list[int] = []
    offset = max(offset, view.log_start_offset)
    while offset < view.log_end_offset:
        record = reader.next(offset)
        if isinstance(record, Missing):
            offset = record.next_offset
            continue
        letter = read_replayed(record.headers, topic_id)
        if letter is not None:
            found.append(letter)
        offset += 1
    return found


def find_buried(letters: ReadableLog, offset: int, end_offset: int, topic_id: UUID) -> list[Buried]:
    """The messages of a topic that are dead letters, at offsets from ``offset`` on."""
    reader = Reader(letters)
    found: list[Buried] = []
    while offset < end_offset:
        record = reader.next(offset)
        if isinstance(record, Missing):
            offset = record.next_offset
            continue
        letter = read_dead_letter(record.headers)
        if letter is not None and letter.topic_id == topic_id:
            found.append(Buried(letter.offset, offset))
        offset += 1
    return found


def resume(state: QueueState, reader: Reader) -> None:
    """Make ready what the notes left pending."""
    keys: dict[int, bytes | None] = {}
    visible_at: dict[int, int] = {}
    for message in state.unknown():
        record = reader.one(message.offset)
        if not isinstance(record, Missing):  # else it is found missing when it is to be handed out
            keys[message.offset] = record.key
            visible_at[message.offset] = visible_at_ms(record.headers)
    state.resume(keys, visible_at)


def first_config(of_letters: bool) -> QueueConfig:
    return QueueConfig.parse(_LETTERS_CONFIG if of_letters else {})


def has_queue(store: TopicStore, name: str) -> bool:
    try:
        store.topic(STATE_PREFIX + name)
    except UnknownTopic:
        return False
    return True
