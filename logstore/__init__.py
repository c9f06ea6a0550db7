"""A Kafka-format log that you can import: durable topics on disk, in any Python process.

``logstore.open("data")`` gives a Store; see the README. Every error is a LogstoreError.
"""

from logstore.client.embedded.store import Store, open
from logstore.client.kafka.connecting import connect
from logstore.config import StoreConfig, TopicConfig
from logstore.errors import *  # noqa: F403
from logstore.errors import __all__ as _errors
from logstore.format.compression import Compression
from logstore.format.record import Record
from logstore.storage.durability import Durability
from logstore.storage.log_writer import Appended
from logstore.storage.opening import OpeningProgress
from logstore.storage.partition import PartitionLog
from logstore.storage.read_only import ReadOnlyLog
from logstore.storage.topics import TopicDescription
from logstore.store import ReadOnlyStore

__all__ = [
    "Appended",
    "Compression",
    "Durability",
    "OpeningProgress",
    "PartitionLog",
    "ReadOnlyLog",
    "ReadOnlyStore",
    "Record",
    "Store",
    "StoreConfig",
    "TopicConfig",
    "TopicDescription",
    "connect",
    "open",
    *_errors,
]
