"""Kafka's partitioner, held against kafka-python's and aiokafka's, and numbers that Kafka's own tests contain."""

import random

import pytest
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from kafka.partitioner.default import murmur2 as kafka_python_murmur2

from logstore.client.partitioner import murmur2, partition_for_key
from logstore.errors import InvalidArgument

# Signed, as Java has them: org.apache.kafka.common.utils.UtilsTest.
KAFKA_HASHES = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "signed"), KAFKA_HASHES.items())
def test_murmur2_is_the_one_of_kafkas_own_tests(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFFFFFF


def test_murmur2_agrees_with_two_other_clients_for_keys_of_every_length() -> None:
    source = random.Random(7)
    keys = [source.randbytes(size) for size in range(70) for _ in range(20)] + [b"\xff" * 300, b"\0" * 33]
    for key in keys:
        assert murmur2(key) == kafka_python_murmur2(key) & 0xFFFFFFFF == aiokafka_murmur2(key) & 0xFFFFFFFF


def test_a_key_goes_to_the_partition_of_the_positive_hash() -> None:
    for key, signed in KAFKA_HASHES.items():
        for count in (1, 2, 3, 7, 1000):
            assert partition_for_key(key, count) == (signed & 0x7FFFFFFF) % count


def test_keys_are_spread_over_all_partitions() -> None:
    assert {partition_for_key(b"key %d" % number, 7) for number in range(200)} == set(range(7))


@pytest.mark.parametrize("count", [0, -1])
def test_a_topic_without_partitions_is_refused(count: int) -> None:
    with pytest.raises(InvalidArgument):
        partition_for_key(b"key", count)
