"""The settings of topics, directories, brokers and clients: Kafka's names, one row each: name, type, default, what it
does."""

from logstore.config.broker import BrokerConfig
from logstore.config.clients import ConsumerConfig, ProducerConfig, QueueConfig
from logstore.config.store import StoreConfig
from logstore.config.topic import TopicConfig

__all__ = ["BrokerConfig", "ConsumerConfig", "ProducerConfig", "QueueConfig", "StoreConfig", "TopicConfig"]
