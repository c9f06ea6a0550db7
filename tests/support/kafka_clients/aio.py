"""An agent of aiokafka: python -m kafka_clients.aio ADDRESS

One event loop in a thread; each operation is a coroutine there that another thread waits for.
"""

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from kafka_clients.records import Received, Sent
from kafka_clients.serving import serve

WAIT_S = 30
ASSIGNORS = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "sticky": StickyPartitionAssignor,
}
_loop = asyncio.new_event_loop()


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run_coroutine_threadsafe(coroutine, _loop).result(2 * WAIT_S)


def run_call(call: Callable[..., object], *arguments: object) -> None:
    """One that must be made in the loop."""

    async def do() -> None:
        call(*arguments)

    run(do())


class Aio:
    def __init__(self, address: str) -> None:
        self._shared: dict[str, Any] = {"bootstrap_servers": address, "client_id": "aiokafka", "retry_backoff_ms": 20}
        threading.Thread(target=_loop.run_forever, daemon=True).start()

    # ---------------------------------------------------------------------------------------------- records

    def produce(self, records: list[Sent], settings: dict[str, Any]) -> list[int]:
        async def produce() -> list[int]:
            async with self._producer(settings) as producer:
                futures = [
                    await producer.send(
                        record.topic,
                        record.value,
                        record.key,
                        record.partition,
                        record.timestamp_ms,
                        list(record.headers),
                    )
                    for record in records
                ]
                answers = [await future for future in futures]
                return [-1 if answer is None else answer.offset for answer in answers]  # None: acks=0

        offsets: list[int] = run(produce())
        return offsets

    def streaming_producer(self, settings: dict[str, Any]) -> "_Streaming":
        async def start() -> AIOKafkaProducer:
            producer = self._producer({"idempotent": True, **settings})
            await producer.start()
            return producer

        return _Streaming(run(start()))

    def _producer(self, settings: dict[str, Any]) -> AIOKafkaProducer:
        codec = settings.get("codec", "none")
        own: dict[str, Any] = {
            "linger_ms": 5,
            "compression_type": None if codec == "none" else codec,
            "acks": {"all": "all", "1": 1, "0": 0}[settings.get("acks", "all")],
            "enable_idempotence": settings.get("idempotent", False),
            "request_timeout_ms": 60_000,  # how long it tries again, too
        }
        if "max_bytes" in settings:
            own["max_request_size"] = settings["max_bytes"]
        return AIOKafkaProducer(**self._shared, **own)

    def consumer(self, group: str | None, settings: dict[str, Any]) -> "_Consumer":
        own: dict[str, Any] = {
            "group_id": group,
            "auto_offset_reset": settings.get("reset", "earliest"),
            "enable_auto_commit": settings.get("auto_commit", False),
            "auto_commit_interval_ms": 100,
            "session_timeout_ms": settings.get("session_timeout_ms", 45_000),
            "heartbeat_interval_ms": settings.get("heartbeat_interval_ms", 200),
            "metadata_max_age_ms": 1000,
        }
        if "assignor" in settings:
            own["partition_assignment_strategy"] = [ASSIGNORS[settings["assignor"]]]
        if "instance_id" in settings:
            own["group_instance_id"] = settings["instance_id"]
        if "max_bytes" in settings:
            own |= {"max_partition_fetch_bytes": settings["max_bytes"], "fetch_max_bytes": settings["max_bytes"]}

        async def start() -> AIOKafkaConsumer:
            consumer = AIOKafkaConsumer(**self._shared, **own)
            await consumer.start()
            return consumer

        return _Consumer(run(start()))

    # ---------------------------------------------------------------------------------------------- admin

    def _admin(self, ask: Callable[[AIOKafkaAdminClient], Coroutine[Any, Any, Any]]) -> Any:
        async def do() -> Any:
            admin = AIOKafkaAdminClient(**self._shared)
            await admin.start()
            try:
                return await ask(admin)
            finally:
                await admin.close()

        return run(do())

    def create_topic(self, name: str, partitions: int, configs: dict[str, str]) -> None:
        topic = NewTopic(name, partitions, 1, topic_configs=configs)
        _refuse(self._admin(lambda admin: admin.create_topics([topic])).topic_errors)

    def delete_topic(self, name: str) -> None:
        _refuse(self._admin(lambda admin: admin.delete_topics([name])).topic_error_codes)

    def create_partitions(self, topic: str, count: int) -> None:
        _refuse(self._admin(lambda admin: admin.create_partitions({topic: NewPartitions(count)})).topic_errors)

    def topics(self) -> dict[str, int]:
        described = self._admin(lambda admin: admin.describe_topics())
        return {topic["topic"]: len(topic["partitions"]) for topic in described}

    def configs(self, topic: str) -> dict[str, str]:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        (answer,) = self._admin(lambda admin: admin.describe_configs([resource]))
        ((*_, entries),) = answer.resources
        return {entry[0]: entry[1] for entry in entries}

    def set_config(self, topic: str, name: str, value: str) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs={name: value})
        (answer,) = self._admin(lambda admin: admin.alter_configs([resource]))
        _refuse([(topic, *resource[:2]) for resource in answer.resources])

    def groups(self) -> list[str]:
        return [group for group, _ in self._admin(lambda admin: admin.list_consumer_groups())]

    def group_state(self, group: str) -> list[Any]:
        (answer,) = self._admin(lambda admin: admin.describe_consumer_groups([group]))
        (described,) = answer.groups
        return [described[2].lower(), len(described[5])]

    def committed(self, group: str, topic: str, partitions: int) -> list[int]:
        found = self._admin(lambda admin: admin.list_consumer_group_offsets(group))
        places = [TopicPartition(topic, number) for number in range(partitions)]
        return [found[place].offset if place in found else -1 for place in places]

    def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int:
        consumer = self.consumer(None, {})
        place = TopicPartition(topic, partition)
        found = run(consumer.consumer.offsets_for_times({place: timestamp_ms}))[place]
        consumer.close()
        return -1 if found is None else int(found.offset)

    def ends(self, topic: str, partition: int) -> list[int]:
        consumer = self.consumer(None, {})
        places = [TopicPartition(topic, partition)]
        first = run(consumer.consumer.beginning_offsets(places))
        end = run(consumer.consumer.end_offsets(places))
        consumer.close()
        return [*first.values(), *end.values()]


def _refuse(errors: Any) -> None:
    """(name, error code, ...) of each thing that was asked for."""
    for name, code, *message in errors:
        if code:
            raise RuntimeError(f"{name}: error {code} {message}")


class _Streaming:
    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer

    def send(self, topic: str, partition: int, value: bytes, done: Callable[[int, str | None], None]) -> None:
        async def send() -> None:
            future = await self._producer.send(topic, value, partition=partition)
            future.add_done_callback(answered)

        def answered(future: "asyncio.Future[Any]") -> None:
            error = future.exception()
            done(-1 if error else future.result().offset, repr(error) if error else None)

        run(send())

    def work(self) -> None:
        run(asyncio.sleep(0.001))

    def close(self) -> None:
        run(self._producer.stop())


class _Consumer:
    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self.consumer = consumer

    def assign(self, topic: str, partition: int, offset: int) -> None:
        place = TopicPartition(topic, partition)
        run_call(self.consumer.assign, [place])
        run_call(self.consumer.seek, place, offset)

    def subscribe(self, topics: list[str]) -> None:
        run_call(self.consumer.subscribe, topics)

    def poll(self, timeout_s: float) -> list[Received]:
        found = run(self.consumer.getmany(timeout_ms=int(timeout_s * 1000)))
        return [_received(record) for records in found.values() for record in records]

    def assignment(self) -> list[tuple[str, int]]:
        return [(place.topic, place.partition) for place in self.consumer.assignment()]

    def commit(self) -> list[tuple[str, int, int]]:
        async def commit() -> dict[TopicPartition, int]:
            positions = {place: await self.consumer.position(place) for place in self.consumer.assignment()}
            if positions:
                await self.consumer.commit(positions)
            return positions

        return [(place.topic, place.partition, offset) for place, offset in run(commit()).items()]

    def pause(self, topic: str, partition: int) -> None:
        run_call(self.consumer.pause, TopicPartition(topic, partition))

    def resume(self, topic: str, partition: int) -> None:
        run_call(self.consumer.resume, TopicPartition(topic, partition))

    def seek(self, topic: str, partition: int, offset: int) -> None:
        run_call(self.consumer.seek, TopicPartition(topic, partition), offset)

    def close(self) -> None:
        run(self.consumer.stop())


def _received(record: Any) -> Received:
    return Received(
        record.topic,
        record.partition,
        record.offset,
        record.value,
        record.key,
        tuple(record.headers),
        record.timestamp,
    )


if __name__ == "__main__":
    serve(Aio(sys.argv[1]))
