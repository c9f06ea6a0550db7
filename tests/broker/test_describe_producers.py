"""What partitions know of their producers, over the wire. What is said of ``admin`` holds for Kafka too."""

import time
from typing import Any

from kafka_brokers import fresh_name
from logstore.format.batch import encode_batch
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.describe_producers import DescribeProducersRequest, TopicRequest
from logstore.wire.messages.init_producer_id import InitProducerIdRequest
from wire_admin import WireAdmin


def describe(admin: WireAdmin, wanted: dict[str, list[int]]) -> dict[tuple[str, int], Any]:
    request = DescribeProducersRequest([TopicRequest(*item) for item in wanted.items()])
    return {
        (topic.name, one.partition_index): one for topic in admin.ask(request, 0).topics for one in topic.partitions
    }


def test_an_idempotent_producer_is_told_with_its_last_sequence(admin: WireAdmin) -> None:
    name, now_ms = admin.topic(2), int(time.time() * 1000)
    init = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000)
    while (producer_id := admin.ask(init, 4).producer_id) < 0:
        pass  # Kafka has no ids to give when it has just begun
    batch = encode_batch(
        [b"a", b"b", b"c"], timestamps_ms=now_ms, producer_id=producer_id, producer_epoch=0, base_sequence=0
    )
    admin.send(name, 1, batch)
    found = describe(admin, {name: [0, 1]})
    assert (found[name, 0].error_code, found[name, 0].active_producers) == (ErrorCode.NONE, ())
    (producer,) = found[name, 1].active_producers
    assert (producer.producer_id, producer.producer_epoch, producer.last_sequence) == (producer_id, 0, 2)
    assert (producer.coordinator_epoch, producer.current_txn_start_offset) == (-1, -1)
    assert producer.last_timestamp == now_ms


def test_a_partition_that_is_not_there_is_told_so(admin: WireAdmin) -> None:
    name, missing = admin.topic(), fresh_name("missing")
    admin.produce(name, 1)
    found = describe(admin, {name: [0, 7], missing: [0], "a/b": [0]})
    assert {place: one.error_code for place, one in found.items()} == {
        (name, 0): ErrorCode.NONE,
        (name, 7): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        (missing, 0): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ("a/b", 0): ErrorCode.INVALID_TOPIC_EXCEPTION,
    }
