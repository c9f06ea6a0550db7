"""An agent of confluent-kafka (librdkafka): python -m kafka_clients.confluent ADDRESS"""

import sys
import uuid
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
)

from kafka_clients.records import Received, Sent
from kafka_clients.serving import serve

WAIT_S = 30
# It asks again at once instead of after 100 ms to 10 s: what a broker that restarts makes it wait for.
BRISK = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200, "topic.metadata.refresh.interval.ms": 1000}
PASSING = {KafkaError._PARTITION_EOF, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE}


class Confluent:
    def __init__(self, address: str) -> None:
        self._shared = {"bootstrap.servers": address, "client.id": "confluent-kafka", "log_level": 3, **BRISK}
        self._admin = AdminClient(self._shared)

    # ---------------------------------------------------------------------------------------------- records

    def produce(self, records: list[Sent], settings: dict[str, Any]) -> list[int]:
        producer = self._producer(settings)
        offsets: dict[int, int] = {}
        errors: list[str] = []
        for index, record in enumerate(records):

            def done(error: Any, message: Any, index: int = index) -> None:
                if error is None:
                    offsets[index] = message.offset()
                else:
                    errors.append(str(error))

            time = {} if record.timestamp_ms is None else {"timestamp": record.timestamp_ms}
            producer.produce(
                record.topic,
                record.value,
                record.key,
                record.partition,
                headers=list(record.headers),
                on_delivery=done,
                **time,
            )
        producer.flush(WAIT_S)
        if errors or len(offsets) < len(records):
            raise RuntimeError(f"{len(offsets)} of {len(records)} delivered: {errors[:1]}")
        return [offsets[index] for index in range(len(records))]

    def streaming_producer(self, settings: dict[str, Any]) -> "_Streaming":
        return _Streaming(self._producer({"idempotent": True, **settings}))

    def _producer(self, settings: dict[str, Any]) -> Any:
        own = {
            "linger.ms": 5,
            "compression.type": settings.get("codec", "none"),
            "acks": settings.get("acks", "all"),
            "enable.idempotence": settings.get("idempotent", False),
        }
        if "max_bytes" in settings:
            own["message.max.bytes"] = settings["max_bytes"]
        return Producer(self._shared | own)

    def consumer(self, group: str | None, settings: dict[str, Any]) -> "_Consumer":
        own = {
            "group.id": group or f"nobody-{uuid.uuid4()}",
            "auto.offset.reset": settings.get("reset", "earliest"),
            "enable.auto.commit": settings.get("auto_commit", False),
            "auto.commit.interval.ms": 100,
            "session.timeout.ms": settings.get("session_timeout_ms", 45_000),
            "heartbeat.interval.ms": settings.get("heartbeat_interval_ms", 200),
            "fetch.error.backoff.ms": 20,
        }
        for setting, key in (
            ("assignor", "partition.assignment.strategy"),
            ("instance_id", "group.instance.id"),
            ("max_bytes", "max.partition.fetch.bytes"),
            ("isolation", "isolation.level"),
        ):
            if setting in settings:
                own[key] = settings[setting]
        if "group_protocol" in settings:
            own = {key: own[key] for key in own if key not in ("session.timeout.ms", "heartbeat.interval.ms")}
            own["group.protocol"] = settings["group_protocol"]
        if "max_bytes" in settings:
            own |= {"fetch.max.bytes": settings["max_bytes"], "receive.message.max.bytes": 2 * settings["max_bytes"]}
        return _Consumer(Consumer(self._shared | own))

    # ---------------------------------------------------------------------------------------------- admin

    def create_topic(self, name: str, partitions: int, configs: dict[str, str]) -> None:
        _result(self._admin.create_topics([NewTopic(name, partitions, 1, config=configs)]))

    def delete_topic(self, name: str) -> None:
        _result(self._admin.delete_topics([name]))

    def create_topics(self, names: list[str]) -> None:
        """Of one partition each, by one request."""
        for future in self._admin.create_topics([NewTopic(name, 1, 1) for name in names]).values():
            future.result(WAIT_S)

    def delete_topics(self, names: list[str]) -> None:
        for future in self._admin.delete_topics(names).values():
            future.result(WAIT_S)

    def create_partitions(self, topic: str, count: int) -> None:
        _result(self._admin.create_partitions([NewPartitions(topic, count)]))

    def topics(self) -> dict[str, int]:
        found = self._admin.list_topics(timeout=WAIT_S).topics.values()
        return {topic.topic: len(topic.partitions) for topic in found}

    def configs(self, topic: str) -> dict[str, str]:
        entries = _result(self._admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)]))
        return {entry.name: entry.value for entry in entries.values()}

    def set_config(self, topic: str, name: str, value: str) -> None:
        change = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[change])
        _result(self._admin.incremental_alter_configs([resource]))

    def groups(self) -> list[str]:
        return [group.group_id for group in self._admin.list_consumer_groups().result(WAIT_S).valid]

    def group_state(self, group: str) -> list[Any]:
        described = _result(self._admin.describe_consumer_groups([group]))
        return [described.state.name.replace("_", "").lower(), len(described.members)]

    def delete_group(self, group: str) -> None:
        _result(self._admin.delete_consumer_groups([group]))

    def committed(self, group: str, topic: str, partitions: int) -> list[int]:
        consumer = Consumer(self._shared | {"group.id": group})
        found = consumer.committed([TopicPartition(topic, number) for number in range(partitions)], WAIT_S)
        consumer.close()
        return [max(place.offset, -1) for place in found]

    def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int:
        """Of the first record of that time or later; -1 if there is none."""
        consumer = Consumer(self._shared | {"group.id": "nobody"})
        (found,) = consumer.offsets_for_times([TopicPartition(topic, partition, timestamp_ms)], WAIT_S)
        consumer.close()
        return int(found.offset)

    def ends(self, topic: str, partition: int) -> list[int]:
        """The first offset, and the next."""
        consumer = Consumer(self._shared | {"group.id": "nobody"})
        ends = consumer.get_watermark_offsets(TopicPartition(topic, partition), WAIT_S)
        consumer.close()
        return list(ends)


def _result(futures: dict[Any, Any]) -> Any:
    (future,) = futures.values()
    return future.result(WAIT_S)


class _Streaming:
    def __init__(self, producer: Any) -> None:
        self._producer = producer

    def send(self, topic: str, partition: int, value: bytes, done: Callable[[int, str | None], None]) -> None:
        def delivered(error: Any, message: Any) -> None:
            done(-1 if error else message.offset(), str(error) if error else None)

        self._producer.produce(topic, value, partition=partition, on_delivery=delivered)

    def work(self) -> None:
        self._producer.poll(0.001)

    def close(self) -> None:
        self._producer.flush(60)


class _Consumer:
    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer

    def assign(self, topic: str, partition: int, offset: int) -> None:
        self._consumer.assign([TopicPartition(topic, partition, offset)])

    def subscribe(self, topics: list[str]) -> None:
        self._consumer.subscribe(topics)

    def poll(self, timeout_s: float) -> list[Received]:
        records = []
        for message in [first, *self._consumer.consume(500, 0)] if (first := self._consumer.poll(timeout_s)) else []:
            if error := message.error():
                if error.code() not in PASSING and not error.retriable():
                    raise KafkaException(error)
                continue
            headers = tuple(message.headers() or ())
            time_ms = message.timestamp()[1]
            records.append(
                Received(
                    message.topic(),
                    message.partition(),
                    message.offset(),
                    message.value(),
                    message.key(),
                    headers,
                    time_ms,
                )
            )
        return records

    def assignment(self) -> list[tuple[str, int]]:
        return [(place.topic, place.partition) for place in self._consumer.assignment()]

    def commit(self) -> list[tuple[str, int, int]]:
        try:
            done = self._consumer.commit(asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() == KafkaError._NO_OFFSET:
                return []
            raise
        for place in done:
            if place.error:
                raise KafkaException(place.error)
        return [(place.topic, place.partition, place.offset) for place in done]

    def pause(self, topic: str, partition: int) -> None:
        self._consumer.pause([TopicPartition(topic, partition)])

    def resume(self, topic: str, partition: int) -> None:
        self._consumer.resume([TopicPartition(topic, partition)])

    def seek(self, topic: str, partition: int, offset: int) -> None:
        self._consumer.seek(TopicPartition(topic, partition, offset))

    def close(self) -> None:
        self._consumer.close()


if __name__ == "__main__":
    serve(Confluent(sys.argv[1]))
