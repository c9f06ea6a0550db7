"""What ``logstore.X`` gives, each name imported from where it is at home. ``logstore`` imports this when it is first
asked for one of them, so that what needs less of logstore, such as the server, starts sooner."""

from logstore import errors
from logstore.client.consumer import Consumer, ConsumerRecord, RebalanceListener
from logstore.client.embedded.store import ReadOnlyStore, Store, open
from logstore.client.kafka.connecting import connect
from logstore.client.producer import Producer, Receipt
from logstore.client.queue.dead_letters import DeadLetters
from logstore.client.queue.looks import QueueStats
from logstore.client.queue.messages import DeadLetter, Job, Message
from logstore.client.queue.queue import Queue
from logstore.client.queue.read_only import ReadOnlyQueue
from logstore.client.queue.workers import Workers
from logstore.config import ConsumerConfig, ProducerConfig, QueueConfig, StoreConfig, TopicConfig
from logstore.errors import *  # noqa: F403
from logstore.format.compression import Compression
from logstore.format.filename import TopicPartition
from logstore.format.record import Record
from logstore.groups.requests import GroupDescription, MemberDescription, OffsetAndMetadata
from logstore.storage.durability import Durability
from logstore.storage.log_writer import Appended
from logstore.storage.opening import OpeningProgress
from logstore.storage.partition import PartitionLog
from logstore.storage.read_only import ReadOnlyLog
from logstore.storage.topics import TopicDescription

__all__ = [
    "Appended",
    "Compression",
    "Consumer",
    "ConsumerConfig",
    "ConsumerRecord",
    "DeadLetter",
    "DeadLetters",
    "Durability",
    "GroupDescription",
    "Job",
    "MemberDescription",
    "Message",
    "OffsetAndMetadata",
    "OpeningProgress",
    "PartitionLog",
    "Producer",
    "ProducerConfig",
    "Queue",
    "QueueConfig",
    "QueueStats",
    "ReadOnlyLog",
    "ReadOnlyQueue",
    "ReadOnlyStore",
    "RebalanceListener",
    "Receipt",
    "Record",
    "Store",
    "StoreConfig",
    "TopicConfig",
    "TopicDescription",
    "TopicPartition",
    "Workers",
    "connect",
    "open",
]
__all__ += errors.__all__
