"""Thousands of topics, and a thousand connections at once."""

import asyncio
import resource
from typing import Any

import pytest

from kafka_brokers import MakeTopic, Start, fresh_name
from kafka_clients.agent import wait_until
from kafka_clients.records import Sent
from logstore.wire.api import APIS, ApiKey
from logstore.wire.header import RequestHeader, decode_response_header
from logstore.wire.messages.api_versions import ApiVersionsRequest
from logstore.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from logstore.wire.schema import Message

TOPICS = 2000
CONNECTIONS = 1000
_VERSIONS = {ApiKey.API_VERSIONS: 0, ApiKey.METADATA: 5}


@pytest.mark.slow
def test_a_producer_and_a_consumer_over_2000_topics(agents: Start) -> None:
    prefix = fresh_name("many")
    names = [f"{prefix}-{number}" for number in range(TOPICS)]
    agent = agents("confluent")
    for first in range(0, TOPICS, 500):
        agent.call("create_topics", names=names[first : first + 500])
    try:
        offsets = agent.produce([Sent(name, 0, name.encode()) for name in names], idempotent=True)
        assert offsets == [0] * TOPICS
        member = agent.join(fresh_name("member"), fresh_name("group"), names)
        wait_until(lambda: len(member.records) >= TOPICS, "a record of each", 60)
        assert sorted(record.value or b"" for record in member.records) == sorted(map(str.encode, names))
        assert len(member.assignment) == TOPICS
        member.commit()
        member.leave()
    finally:
        for first in range(0, TOPICS, 500):
            agent.call("delete_topics", names=names[first : first + 500])


def test_a_thousand_connections_each_ask_something_at_once(broker_address: str, topic: MakeTopic) -> None:
    name = topic()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * CONNECTIONS:
        pytest.skip(f"only {hard} descriptors a process")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * CONNECTIONS), hard))
    try:
        assert asyncio.run(_ask_all(broker_address, name)) == CONNECTIONS
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _ask_all(address: str, topic: str) -> int:
    """All are open before the first asks; then all ask, twice; how many were answered."""
    host, port = address.rsplit(":", 1)
    async with asyncio.timeout(60):
        connections = []
        for _ in range(CONNECTIONS // 50):  # no more at once than a backlog takes
            connections += await asyncio.gather(*(asyncio.open_connection(host, int(port)) for _ in range(50)))
        answers = await asyncio.gather(*(_ask(*connection, topic) for connection in connections))
        for _, writer in connections:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in connections))
    return sum(answers)


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, topic: str) -> bool:
    versions = await _call(reader, writer, ApiKey.API_VERSIONS, ApiVersionsRequest())
    metadata = await _call(reader, writer, ApiKey.METADATA, MetadataRequest(topics=[MetadataRequestTopic(name=topic)]))
    return versions.error_code == 0 and [found.error_code for found in metadata.topics] == [0]


async def _call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: ApiKey, request: Message) -> Any:
    version = _VERSIONS[key]
    frame = RequestHeader(key, version, 1, "one of many").encode() + request.encode(version)
    writer.write(len(frame).to_bytes(4, "big") + frame)
    response = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
    correlation_id, position = decode_response_header(response, key, version)
    assert correlation_id == 1
    return APIS[key].response.decode(response, version, position)
