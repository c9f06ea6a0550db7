"""How a queue is opened: its topics, made where there are none, and its state as the last owner left it.

A queue ``jobs`` is two topics of one partition each: ``jobs`` holds the messages, ``__queue.jobs`` what became of them,
and is made first. So a crash in the middle leaves notes without messages, and the next opening goes on. A third,
``jobs.dead``, is made when the first message becomes a dead letter; it is a queue as well. To delete a queue is to make
a fourth, ``__no-queue.jobs``: all the others are nothing any more then, and go, and that one goes last. After a crash
in the middle the next opening of the store goes on with it.
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
from logstore.errors import InvalidArgument, LogstoreError, UnknownTopic
from logstore.format.filename import TOPIC_NAME_SIZE_MAX, check_topic_name
from logstore.format.queue_state import NOT_REPLAYING, Buried
from logstore.settings import INT_MAX
from logstore.storage.log_view import ReadableLog
from logstore.storage.topics import TopicDescription
from logstore.store import TopicStore

logger = logging.getLogger("logstore.queue")

STATE_PREFIX = "__queue."
DEAD_SUFFIX = ".dead"
_GONE_PREFIX = "__no-queue."
_NAME_SIZE_MAX = TOPIC_NAME_SIZE_MAX - len(_GONE_PREFIX) - len(DEAD_SUFFIX)

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
    # Where the disk is full, messages can still be got and acked, which makes room: the log has its space, and its
    # indexes need none, since it is read from its start only.
    "preallocate": True,
    "index.interval.bytes": 1 << 30,
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
    if len(name.removesuffix(DEAD_SUFFIX)) > _NAME_SIZE_MAX:
        raise InvalidArgument("queue", name, f"a queue's name has at most {_NAME_SIZE_MAX} characters")
    return name


def queue_names(topics: Iterable[TopicDescription]) -> list[str]:
    """The queues among the topics, without their dead letters."""
    names = {topic.name for topic in topics}
    queues = {name.removeprefix(STATE_PREFIX) for name in names if name.startswith(STATE_PREFIX)} & names
    return sorted(name for name in queues if not name.endswith(DEAD_SUFFIX) and _GONE_PREFIX + name not in names)


def parent_of(name: str, topics: Iterable[TopicDescription]) -> str | None:
    """The queue whose dead letters those of this name are; None where it is no such name. Raises InvalidArgument where
    there is no such queue: dead letters have none themselves."""
    parent = name.removesuffix(DEAD_SUFFIX)
    if parent == name:
        return None
    if parent not in queue_names(topics):
        reason = f"names that end in {DEAD_SUFFIX} are for dead letters, and there is no queue {parent!r}"
        raise InvalidArgument("queue", name, f"{reason}: choose another name")
    return parent


def make_topics(store: TopicStore, name: str, *, of_letters: bool) -> None:
    """See that the queue's topics are there. Raises InvalidArgument for a topic that is no queue, DamagedTopic."""
    if _find(store, _GONE_PREFIX + name) is not None:
        delete_topics(store, name)
    messages, is_new = _find(store, name), not has_queue(store, name)
    if messages is not None:
        _check_topic(store, messages, is_new)
    if is_new:
        store.create_topic(STATE_PREFIX + name, 1, **_NOTES)
    wanted: Mapping[str, object] = _LETTERS if of_letters else _MESSAGES
    if messages is None:
        store.create_topic(name, 1, **wanted)
    elif is_new:
        store.alter_topic(name, wanted)


def delete_topics(store: TopicStore, name: str) -> None:
    """All that is a queue's. Raises DamagedTopic: then nothing has changed; StorageFailure."""
    letters = name + DEAD_SUFFIX
    topics = [name, STATE_PREFIX + name]
    if has_queue(store, letters):  # else it is somebody else's topic
        topics = [letters, STATE_PREFIX + letters, *topics]
    found = [topic for topic in topics if _find(store, topic) is not None]
    if _find(store, _GONE_PREFIX + name) is None:
        store.create_topic(_GONE_PREFIX + name, 1)
    for topic in [*found, _GONE_PREFIX + name]:
        store.delete_topic(topic)


def go_on_deleting(store: TopicStore) -> None:
    """Where a crash has left something of queues that were being deleted, it goes."""
    for name in [
        topic.name.removeprefix(_GONE_PREFIX) for topic in store.topics() if topic.name.startswith(_GONE_PREFIX)
    ]:
        try:
            delete_topics(store, name)
        except LogstoreError as error:
            logger.warning("queue %r was deleted, and some of it is still there: %s", name, error)


def _find(store: TopicStore, name: str) -> TopicDescription | None:
    try:
        return store.topic(name)
    except UnknownTopic:
        return None


def _check_topic(store: TopicStore, topic: TopicDescription, is_new: bool) -> None:
    if topic.partitions != 1:
        reason = f"there is a topic of that name with {topic.partitions} partitions, and a queue has one"
        raise InvalidArgument("queue", topic.name, f"{reason}: choose another name")
    if is_new and store.log(topic.name).log_end_offset:
        raise InvalidArgument(
            "queue", topic.name, "there is a topic of that name with records that are no queue's: choose another name"
        )
    if not topic.config.deletes or topic.config.compacts:
        reason = f"its topic has cleanup.policy={','.join(topic.config.cleanup_policy)}"
        raise InvalidArgument("queue", topic.name, f"{reason}: set it to delete, so that no message is taken away")


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
    is_buried = _settle_buried(store, name, state, view.log_end_offset)
    is_replayed = _settle_replayed(store, name, state)
    resume(state, Reader(messages))
    must_sync = is_beyond or is_buried or is_replayed or state.is_foreign or bool(loaded.damages)
    return Opened(loaded, must_sync, must_note=is_new or state.config != before)


def _settle_buried(store: TopicStore, name: str, state: QueueState, end_offset: int) -> bool:
    """Settle the messages that became dead letters just before the end: whether there are any. That must be noted
    before anything else, since a later letter's note says that those before it are settled."""
    try:
        letters = store.log(name + DEAD_SUFFIX)
    except UnknownTopic:
        return False
    found = find_buried(letters, state.dead_end, letters.log_end_offset, state.topic_id)
    for buried in found:
        if buried.offset < end_offset:
            state.apply(buried)
    state.dead_end = letters.log_end_offset
    return bool(found)


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
    """Whether anything is noted of one. Raises DamagedTopic."""
    return _find(store, STATE_PREFIX + name) is not None
