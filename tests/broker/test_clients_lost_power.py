"""A real consumer that has read what a power cut took is told, and misses nothing that comes in its place."""

import os
import shutil
from pathlib import Path

import confluent_kafka

import logstore.testing
from crash_explorer import boot
from logstore.format import filename

COUNT = 10


def read(consumer: confluent_kafka.Consumer, count: int) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    while len(found) < count:
        message = consumer.poll(20)
        assert message is not None, f"{len(found)} records after 20 s"
        if not message.error():  # told of a truncated log, and of a broker that is away
            found.append((message.offset(), message.value()))
    return found


def produce(address: str, value: bytes) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": address, "linger.ms": 0, "acks": 1})
    for _ in range(COUNT):
        producer.produce("t", value)
        assert producer.flush(20) == 0


def test_a_consumer_that_has_read_what_a_power_cut_took_reads_what_came_in_its_place(tmp_path: Path) -> None:
    path, left = tmp_path / "data", tmp_path / "left"
    with boot("before"), logstore.testing.broker(path, topics=["t"]) as broker:
        settings = {"bootstrap.servers": broker.bootstrap, "group.id": "g", "auto.offset.reset": "earliest"}
        consumer = confluent_kafka.Consumer(
            settings | {"enable.auto.commit": False, "reconnect.backoff.max.ms": 100, "log_level": 0}
        )
        consumer.subscribe(["t"])
        produce(broker.bootstrap, b"old")
        assert read(consumer, COUNT) == [(offset, b"old") for offset in range(COUNT)]
        shutil.copytree(path, left)
        broker.stop()
        shutil.rmtree(path)
        left.rename(path)
        log = path / "t_0" / filename.log_name(0)
        os.truncate(log, log.stat().st_size // 2)
        with boot("after"):
            broker.start()
            produce(broker.bootstrap, b"new")
            found = read(consumer, COUNT)
            assert {(offset, b"new") for offset in range(COUNT // 2, COUNT)} <= set(found), found
        consumer.close()
