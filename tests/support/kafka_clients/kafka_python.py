"""An agent of kafka-python: python -m kafka_clients.kafka_python ADDRESS"""

import sys
import time
from collections.abc import Callable
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from kafka.errors import KafkaConnectionError

from kafka_clients.records import Received, Sent
from kafka_clients.serving import serve

WAIT_S = 30
ASSIGNORS = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "sticky": StickyPartitionAssignor,
    "cooperative-sticky": CooperativeStickyAssignor,
}
BRISK = {"reconnect_backoff_ms": 20, "reconnect_backoff_max_ms": 200, "retry_backoff_ms": 20}


class KafkaPython:
    def __init__(self, address: str) -> None:
        self._shared = {"bootstrap_servers": address, "client_id": "kafka-python", **BRISK}
        self._admin_client: KafkaAdminClient | None = None

    @property
    def _admin(self) -> KafkaAdminClient:
        if self._admin_client is None:
            self._admin_client = KafkaAdminClient(**self._shared)
        return self._admin_client

    # ---------------------------------------------------------------------------------------------- records

    def produce(self, records: list[Sent], settings: dict[str, Any]) -> list[int]:
        producer = self._producer(settings)
        futures = [
            producer.send(
                record.topic,
                record.value,
                record.key,
                list(record.headers),
                record.partition,
                record.timestamp_ms,
            )
            for record in records
        ]
        producer.flush(WAIT_S)
        offsets = [future.get(WAIT_S).offset for future in futures]
        producer.close(WAIT_S)
        return offsets

    def streaming_producer(self, settings: dict[str, Any]) -> "_Streaming":
        return _Streaming(self._producer({"idempotent": True, **settings}))

    def _producer(self, settings: dict[str, Any]) -> KafkaProducer:
        codec = settings.get("codec", "none")
        own = {
            "linger_ms": 5,
            "compression_type": None if codec == "none" else codec,
            "acks": {"all": "all", "1": 1, "0": 0}[settings.get("acks", "all")],
            "enable_idempotence": settings.get("idempotent", False),
        }
        if "max_bytes" in settings:
            own["max_request_size"] = settings["max_bytes"]
        return KafkaProducer(**self._shared, **own)

    def consumer(self, group: str | None, settings: dict[str, Any]) -> "_Consumer":
        own = {
            "group_id": group,
            "auto_offset_reset": settings.get("reset", "earliest"),
            "enable_auto_commit": settings.get("auto_commit", False) if group else False,
            "auto_commit_interval_ms": 100,
            "metadata_max_age_ms": 1000,
            "session_timeout_ms": settings.get("session_timeout_ms", 45_000),
            "heartbeat_interval_ms": settings.get("heartbeat_interval_ms", 200),
        }
        if "assignor" in settings:
            own["partition_assignment_strategy"] = [ASSIGNORS[settings["assignor"]]]
        if "instance_id" in settings:
            own["group_instance_id"] = settings["instance_id"]
        if "max_bytes" in settings:
            own |= {"max_partition_fetch_bytes": settings["max_bytes"], "fetch_max_bytes": settings["max_bytes"]}
        return _Consumer(KafkaConsumer(**self._shared, **own))

    # ---------------------------------------------------------------------------------------------- admin

    def create_topic(self, name: str, partitions: int, configs: dict[str, str]) -> None:
        self._admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])

    def delete_topic(self, name: str) -> None:
        self._admin.delete_topics([name])

    def create_partitions(self, topic: str, count: int) -> None:
        self._admin.create_partitions({topic: NewPartitions(count)})

    def topics(self) -> dict[str, int]:
        return {topic["name"]: len(topic["partitions"]) for topic in self._admin.describe_topics()}

    def configs(self, topic: str) -> dict[str, str]:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        described = self._admin.describe_configs([resource], config_filter="all")["topic"][topic]
        return {name: entry["value"] for name, entry in described.items()}

    def set_config(self, topic: str, name: str, value: str) -> None:
        self._admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs={name: value})])

    def groups(self) -> list[str]:
        return [group["group_id"] for group in self._admin.list_groups()]

    def group_state(self, group: str) -> list[Any]:
        described = self._admin.describe_groups([group])[group]
        return [described["group_state"].lower(), len(described["members"])]

    def delete_group(self, group: str) -> None:
        self._admin.delete_groups([group])

    def committed(self, group: str, topic: str, partitions: int) -> list[int]:
        consumer = KafkaConsumer(group_id=group, enable_auto_commit=False, **self._shared)
        found = [consumer.committed(TopicPartition(topic, number)) for number in range(partitions)]
        consumer.close()
        return [-1 if offset is None else offset for offset in found]

    def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int:
        consumer = KafkaConsumer(**self._shared)
        (found,) = consumer.offsets_for_times({TopicPartition(topic, partition): timestamp_ms}).values()
        consumer.close()
        return -1 if found is None else int(found.offset)

    def ends(self, topic: str, partition: int) -> list[int]:
        consumer = KafkaConsumer(**self._shared)
        places = [TopicPartition(topic, partition)]
        ends = [*consumer.beginning_offsets(places).values(), *consumer.end_offsets(places).values()]
        consumer.close()
        return ends


class _Streaming:
    def __init__(self, producer: KafkaProducer) -> None:
        self._producer = producer

    def send(self, topic: str, partition: int, value: bytes, done: Callable[[int, str | None], None]) -> None:
        future = self._producer.send(topic, value, partition=partition)
        future.add_callback(lambda metadata: done(metadata.offset, None))
        future.add_errback(lambda error: done(-1, repr(error)))

    def work(self) -> None:
        time.sleep(0.001)

    def close(self) -> None:
        self._producer.flush(60)
        self._producer.close(10)


class _Consumer:
    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer
        self._topics: list[str] = []
        self._assigned_s = 0.0

    def assign(self, topic: str, partition: int, offset: int) -> None:
        place = TopicPartition(topic, partition)
        self._consumer.assign([place])
        self._consumer.seek(place, offset)

    def subscribe(self, topics: list[str]) -> None:
        self._topics, self._assigned_s = topics, time.monotonic()
        self._consumer.subscribe(topics)

    def poll(self, timeout_s: float) -> list[Received]:
        try:
            found = self._consumer.poll(max(timeout_s, 0.2) * 1000)
        except KafkaConnectionError:  # the broker is away: whoever polls in a loop goes on
            return []
        self._join_again_if_stuck()
        return [_received(record) for records in found.values() for record in records]

    def _join_again_if_stuck(self) -> None:
        """A poll that ends between JoinGroup and the answer to SyncGroup forgets that answer: the client then takes
        itself for a member without partitions, for ever (3.0.12, with Kafka too)."""
        now_s = time.monotonic()
        if self._consumer.assignment() or not self._topics:
            self._assigned_s = now_s
        elif now_s - self._assigned_s > 5:
            self._consumer.unsubscribe()
            self._consumer.subscribe(self._topics)
            self._assigned_s = now_s

    def assignment(self) -> list[tuple[str, int]]:
        return [(place.topic, place.partition) for place in self._consumer.assignment()]

    def commit(self) -> list[tuple[str, int, int]]:
        try:
            positions = {place: self._consumer.position(place, WAIT_S * 1000) for place in self._consumer.assignment()}
            self._consumer.commit({place: OffsetAndMetadata(offset, "", -1) for place, offset in positions.items()})
        except KafkaConnectionError:  # nothing is committed: the next one will say more
            return []
        return [(place.topic, place.partition, offset) for place, offset in positions.items()]

    def pause(self, topic: str, partition: int) -> None:
        self._consumer.pause(TopicPartition(topic, partition))

    def resume(self, topic: str, partition: int) -> None:
        self._consumer.resume(TopicPartition(topic, partition))

    def seek(self, topic: str, partition: int, offset: int) -> None:
        self._consumer.seek(TopicPartition(topic, partition), offset)

    def close(self) -> None:
        self._consumer.close()


def _received(record: Any) -> Received:
    headers = tuple((name, value) for name, value in record.headers)
    return Received(record.topic, record.partition, record.offset, record.value, record.key, headers, record.timestamp)


if __name__ == "__main__":
    serve(KafkaPython(sys.argv[1]))
