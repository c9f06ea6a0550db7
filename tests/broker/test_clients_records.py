"""Records of real clients: what each writes, it and each other client reads, byte by byte."""

import itertools
import time
from typing import Any

import pytest

from kafka_brokers import MakeTopic, Start
from kafka_clients.agent import Agent, AgentFailed
from kafka_clients.kcat import Kcat
from kafka_clients.programs import CODECS, PROGRAMS
from kafka_clients.records import Headers, Received, Sent

START_MS = 1_700_000_000_000
HEADERS: Headers = (("a", b"1"), ("a", b"2"), ("empty", b""), ("none", None), ("ümlaut", b"\xff\x00"))


# One codec for each client by default, and all of them where slow tests run.
_ONE_EACH = set(zip(PROGRAMS, itertools.cycle(CODECS)))
EACH_WITH_EACH_CODEC: list[Any] = [
    pytest.param(client, codec, marks=() if (client, codec) in _ONE_EACH else pytest.mark.slow)
    for client in PROGRAMS
    for codec in CODECS
]


def all_kinds(topic: str, partition: int, writer: str) -> list[Sent]:
    """Keys, values and headers that are there, empty, null, binary and long, as far as ``writer`` can send them; times
    in no order."""
    headers = HEADERS if PROGRAMS[writer].sends_null_headers else tuple(pair for pair in HEADERS if pair[1] is not None)
    return [
        Sent(topic, partition, b"value", b"key", headers, START_MS),
        Sent(topic, partition, None, b"key", (), START_MS + 5),
        Sent(topic, partition, b"", b"", (("h", b"v"),), START_MS - 5),
        Sent(topic, partition, bytes(range(256)), None, (), START_MS + 1),
        Sent(topic, partition, b"compressible " * 2000, b"k" * 300, (), START_MS + 2),
        *(Sent(topic, partition, b"%d" % number, b"%d" % (number % 7), (), START_MS + number) for number in range(50)),
    ]


def as_sent(records: list[Received]) -> list[Sent]:
    return [Sent(r.topic, r.partition, r.value, r.key, r.headers, r.timestamp_ms) for r in records]


# ------------------------------------------------------------------------------------------------- what one client does


@pytest.mark.parametrize(("client", "codec"), EACH_WITH_EACH_CODEC)
def test_records_come_back_as_they_were_sent(agents: Start, topic: MakeTopic, client: str, codec: str) -> None:
    agent, name = agents(client), topic(2)
    sent = all_kinds(name, 1, agent.name)
    assert agent.produce(sent, codec=codec) == list(range(len(sent)))
    records = agent.read(name, 1, 0, len(sent))
    assert as_sent(records) == sent
    assert [record.offset for record in records] == list(range(len(sent)))
    assert agent.read(name, 1, 50, len(sent) - 50) == records[50:]
    assert agent.call("ends", topic=name, partition=0) == [0, 0]
    assert agent.call("ends", topic=name, partition=1) == [0, len(sent)]


def test_records_get_the_time_when_they_are_sent(agent: Agent, topic: MakeTopic) -> None:
    name = topic()
    before_ms = int(time.time() * 1000)
    agent.produce([Sent(name, 0, b"x")])
    (record,) = agent.read(name, 0, 0, 1)
    assert before_ms <= record.timestamp_ms <= time.time() * 1000


@pytest.mark.parametrize("acks", [pytest.param("1", marks=pytest.mark.slow), "0"])
def test_records_are_there_whatever_acks_are(agent: Agent, topic: MakeTopic, acks: str) -> None:
    name = topic()
    sent = [Sent(name, 0, b"%d" % number) for number in range(20)]
    agent.produce(sent, acks=acks)
    assert [record.value for record in agent.read(name, 0, 0, 20)] == [record.value for record in sent]


def test_an_idempotent_producer_sends_batch_after_batch(agent: Agent, topic: MakeTopic) -> None:
    name = topic(3)
    sent = [Sent(name, number % 3, b"%d" % number * 40) for number in range(1500)]
    offsets = agent.produce(sent, idempotent=True, codec="gzip")
    for partition in range(3):
        assert offsets[partition::3] == list(range(500))
        values = [record.value for record in agent.read(name, partition, 0, 500)]
        assert values == [record.value for record in sent[partition::3]]


def test_a_record_over_the_topics_limit_is_refused_and_the_next_is_stored(agent: Agent, topic: MakeTopic) -> None:
    name = topic(**{"max.message.bytes": "2000"})
    with pytest.raises(AgentFailed, match=r"(?i)too.?large|MSG_SIZE|larger than the max|error code 10"):
        agent.produce([Sent(name, 0, bytes(6000))])
    assert agent.produce([Sent(name, 0, bytes(1000))]) == [0]


@pytest.mark.parametrize("codec", ["none", pytest.param("zstd", marks=pytest.mark.slow)])
def test_a_record_of_10_mb_goes_through_where_all_limits_allow_it(agent: Agent, topic: MakeTopic, codec: str) -> None:
    name = topic(**{"max.message.bytes": "11000000"})
    value = bytes(range(256)) * 40_000
    sent = [Sent(name, 0, b"before"), Sent(name, 0, value, b"k"), Sent(name, 0, b"after")]
    for record in sent:
        agent.produce([record], codec=codec, max_bytes=11_000_000)
    records = agent.read(name, 0, 0, 3, max_bytes=11_000_000)
    assert [(record.key, record.value) for record in records] == [(record.key, record.value) for record in sent]
    # More than a client asks for in one go: at least one batch is given.
    assert len(agent.read(name, 0, 0, 3)) == 3


def test_many_records_are_read_over_many_fetches(agent: Agent, topic: MakeTopic) -> None:
    name = topic(**{"segment.bytes": "1048576"})
    sent = [Sent(name, 0, b"%06d " % number * 100) for number in range(5000)]
    for first in range(0, 5000, 1000):  # kafkajs makes one batch of what it is given
        agent.produce(sent[first : first + 1000])
    records = agent.read(name, 0, 0, 5000)
    assert [record.value for record in records] == [record.value for record in sent]
    assert [record.offset for record in records] == list(range(5000))


# ------------------------------------------------------------------------------------------------------ each with each


@pytest.mark.parametrize(("writer", "codec"), EACH_WITH_EACH_CODEC)
def test_what_a_client_writes_each_other_reads(
    agents: Start,
    broker_address: str,
    topic: MakeTopic,
    writer: str,
    codec: str,
) -> None:
    name = topic()
    sent = all_kinds(name, 0, writer)
    agents(writer).produce(sent, codec=codec)
    for reader in PROGRAMS:
        if reader != writer:
            assert as_sent(agents(reader).read(name, 0, 0, len(sent))) == sent, reader
    for record, seen in zip(sent, Kcat(broker_address).read(name, 0, 0, len(sent)), strict=True):
        assert (seen.key, seen.value, seen.timestamp_ms) == (record.key, record.value, record.timestamp_ms)


@pytest.mark.parametrize("codec", ["none", *(pytest.param(codec, marks=pytest.mark.slow) for codec in CODECS[1:])])
def test_what_kcat_writes_each_client_reads(
    agents: Start,
    broker_address: str,
    topic: MakeTopic,
    codec: str,
) -> None:
    name = topic()
    pairs = [(b"key", b"value"), (None, b"\xff\x00\n"), (b"key", None), (b"k" * 300, b"compressible " * 2000)]
    headers: Headers = (("a", b"1"), ("b", b""), ("a", b"2"))
    kcat = Kcat(broker_address)
    kcat.produce(name, 0, pairs, codec=codec, headers=headers)
    assert [(record.key, record.value) for record in kcat.read(name, 0, 0, 4)] == pairs
    for reader, program in PROGRAMS.items():
        records = agents(reader).read(name, 0, 0, 4)
        assert [(record.key, record.value) for record in records] == pairs, reader
        assert [record.offset for record in records] == [0, 1, 2, 3], reader
        wanted = headers if program.keeps_headers_order else (headers[0], headers[2], headers[1])
        assert records[0].headers == wanted, reader
