"""Which partition a record goes to, and how large it may be there: what a producer knows of a topic."""

import random
from functools import lru_cache

from logstore.client.partitioner import murmur2
from logstore.client.queue.opening import STATE_PREFIX
from logstore.config import ProducerConfig
from logstore.errors import InvalidArgument, RecordTooLarge
from logstore.format.batch import HEADER_SIZE, encode_batch
from logstore.format.record import Headers
from logstore.groups.offsets_log import OFFSETS_TOPIC
from logstore.storage.topics import TopicDescription

# Keys come back: a look-up takes a tenth of the hash. Long ones would take more memory than that is worth.
_CACHED_KEY_SIZE_MAX = 64
_cached_hash = lru_cache(maxsize=16_384)(murmur2)

# The most that a record has in a batch beside its bytes: its length (5), attributes (1), the deltas of its timestamp
# (10) and offset (5), the lengths of key and value (5 each), the count of its headers (5).
RECORD_OVERHEAD_MAX = 36
# A header's: two lengths.
HEADER_OVERHEAD_MAX = 10
# The same for a record of up to PLAIN_SIZE_MAX bytes, without headers, and not stamped by its sender, so that it is
# not far from the first of its batch: 2 + 1 + 4 + 3 + 2 + 2 + 1.
PLAIN_SIZE_MAX = 8_000
PLAIN_OVERHEAD = 15


class Route:
    """A topic as a producer sees it: a new one for a topic that was deleted and made again."""

    __slots__ = ("batch_size_max", "description", "partition_count", "record_size_max", "sticky", "topic", "topic_id")

    def __init__(self, description: TopicDescription) -> None:
        """Raises InvalidArgument for topics whose records decide what groups and queues do."""
        if description.name == OFFSETS_TOPIC:
            raise InvalidArgument("topic", OFFSETS_TOPIC, "it holds the groups' offsets, which consumers commit")
        if description.name.startswith(STATE_PREFIX):
            raise InvalidArgument("topic", description.name, "it holds what became of a queue's messages")
        self.topic = description.name
        self.topic_id = description.topic_id
        self.sticky = random.randrange(description.partitions)

    def describe(self, description: TopicDescription, config: ProducerConfig) -> None:
        """Take over what may change while the topic is there."""
        self.partition_count = description.partitions
        limit = description.config.max_message_bytes
        self.batch_size_max = min(config.batch_size, limit)
        self.record_size_max = min(config.max_request_size, limit) - HEADER_SIZE
        self.description = description  # the last one: by it a change is seen

    def next_sticky(self) -> int:
        """The partition that the next batch of records without a key goes to."""
        self.sticky = (self.sticky + 1) % self.partition_count
        return self.sticky

    def of_key(self, key: bytes) -> int:
        """Kafka's choice; see partitioner."""
        key_hash = _cached_hash(key) if len(key) <= _CACHED_KEY_SIZE_MAX else murmur2(key)
        return (key_hash & 0x7FFF_FFFF) % self.partition_count


def record_size(value: bytes | None, key: bytes | None, headers: Headers) -> int:
    """The most that the record takes of a batch, uncompressed."""
    size = RECORD_OVERHEAD_MAX + len(value or b"") + len(key or b"")
    for name, content in headers:
        size += HEADER_OVERHEAD_MAX + len(name.encode()) + len(content or b"")
    return size


def check_size(
    route: Route, value: bytes | None, key: bytes | None, headers: Headers, timestamp_ms: int, config: ProducerConfig
) -> None:
    """Of a record that may be too large: whether it is, as far as that can be known before it is compressed. Raises
    RecordTooLarge."""
    batch = encode_batch([value], keys=[key], headers=[headers], timestamps_ms=timestamp_ms)
    if len(batch) > config.max_request_size:
        raise RecordTooLarge(len(batch), config.max_request_size, "max.request.size")
    topic = route.description.config
    kept_as_is = config.compression_type == "none" and topic.compression_type == "producer"
    if (kept_as_is or topic.compression_type == "uncompressed") and len(batch) > topic.max_message_bytes:
        raise RecordTooLarge(len(batch), topic.max_message_bytes)
