"""Small requests cost little, whatever they ask for: their answers, and the work for them, are bounded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from logstore.wire.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from logstore.wire.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from logstore.wire.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from logstore.wire.messages.describe_groups import DescribeGroupsRequest
from logstore.wire.messages.describe_producers import DescribeProducersRequest, TopicRequest
from logstore.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from logstore.wire.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from logstore.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from logstore.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from logstore.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from logstore.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from logstore.wire.primitives import REQUEST_ELEMENTS_MAX
from loop_broker import LoopBroker, frame_of, is_closed, loop_broker, read_frame

TIMES = 10_000


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopBroker]:
    with loop_broker(tmp_path_factory.mktemp("amplification") / "data", {"offsets_topic_num_partitions": 1}) as broker:
        broker.store.create_topic("orders", 3)
        broker.store.groups.commit("g", {("orders", 0): 5})
        yield broker


def named(topic: str) -> MetadataRequestTopic:
    return MetadataRequestTopic(name=topic)


@pytest.mark.parametrize(
    ("request_", "version"),
    [
        (MetadataRequest(topics=[named("orders")] * TIMES), 12),
        (DescribeGroupsRequest(groups=["g"] * TIMES), 5),
        (ConsumerGroupDescribeRequest(group_ids=["g"] * TIMES), 1),
        (DescribeConfigsRequest(resources=[DescribeConfigsResource(2, "orders")] * TIMES), 4),
        (DescribeConfigsRequest(resources=[DescribeConfigsResource(4, "0" * n) for n in range(30)]), 4),
        (DescribeProducersRequest(topics=[TopicRequest("orders", [0] * TIMES)] * 2), 0),
        (OffsetFetchRequest(group_id="g", topics=[OffsetFetchRequestTopic("orders", [0] * TIMES)]), 7),
        (OffsetFetchRequest(groups=[OffsetFetchRequestGroup("g", topics=None)] * TIMES), 9),
        (
            OffsetFetchRequest(
                groups=[
                    OffsetFetchRequestGroup(
                        "g", topics=[OffsetFetchRequestTopics("orders", partition_indexes=[0] * TIMES)]
                    )
                ]
            ),
            9,
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, int) else f"v{value}",
)
def test_what_is_asked_for_thousands_of_times_is_answered_once(broker: LoopBroker, request_: Any, version: int) -> None:
    frame = frame_of(request_, version)
    with broker.connect() as peer:
        peer.sendall(frame)
        assert len(read_frame(peer)) < 20_000


def test_a_refusal_does_not_say_again_all_that_was_said(broker: LoopBroker) -> None:
    """It would not fit the response."""
    [found] = broker.ask(CreateTopicsRequest(topics=[creatable("x" * 32767)]), 2).topics
    assert (found.error_code, found.name) == (ErrorCode.INVALID_TOPIC_EXCEPTION, "x" * 32767)
    assert len(found.error_message) < 1_100
    configs = [CreatableTopicConfig("x" * 32767, "1")]
    [found] = broker.ask(CreateTopicsRequest(topics=[creatable("u", configs=configs)]), 2).topics
    assert found.error_code == ErrorCode.INVALID_CONFIG
    assert len(found.error_message) < 1_100


def test_a_partition_that_is_asked_for_twice_is_not_searched_as_in_kafka(broker: LoopBroker) -> None:
    asked = [ListOffsetsPartition(partition_index=number, timestamp=0) for number in (0, 1, 1)]
    request = ListOffsetsRequest(topics=[ListOffsetsTopic("orders", asked)])
    [topic] = broker.ask(request, 9).topics
    assert [each.error_code for each in topic.partitions] == [0, *[ErrorCode.INVALID_REQUEST] * 2]


def creatable(name: str, **fields: Any) -> CreatableTopic:
    return CreatableTopic(name=name, **{"replication_factor": -1, "num_partitions": -1, **fields})


@pytest.mark.parametrize(
    "topics",
    [
        [creatable("a", num_partitions=10_001)],
        [creatable("a", num_partitions=100_000)],
        [creatable("a", num_partitions=9_999), creatable("b", num_partitions=2)],
        [creatable(f"t{number}") for number in range(10_001)],
        [creatable("a", assignments=[CreatableReplicaAssignment(number, [0]) for number in range(10_001)])],
    ],
    ids=["one more", "many", "of two topics", "many topics", "assigned"],
)
@pytest.mark.parametrize("validate_only", [False, True])
def test_no_request_makes_more_than_kafkas_10000_partitions(
    broker: LoopBroker, topics: list[CreatableTopic], validate_only: bool
) -> None:
    found = broker.ask(CreateTopicsRequest(topics=topics, validate_only=validate_only), 7).topics
    assert {(each.error_code, each.error_message) for each in found} == {
        (ErrorCode.POLICY_VIOLATION, "Excessively large number of partitions per request.")
    }
    assert not {topic.name for topic in topics} & {topic.name for topic in broker.store.topics()}


def test_no_request_adds_more_than_10000_partitions(broker: LoopBroker) -> None:
    request = CreatePartitionsRequest(topics=[CreatePartitionsTopic("orders", 10_004, None)])
    [found] = broker.ask(request, 3).results
    assert found.error_code == ErrorCode.POLICY_VIOLATION
    assert broker.store.topic("orders").partitions == 3


def test_of_many_topics_that_metadata_asks_for_a_hundred_are_made_at_once_and_the_others_when_asked_again(
    tmp_path: Path,
) -> None:
    with loop_broker(tmp_path / "data") as broker:
        request = MetadataRequest(topics=[named(f"t{number}") for number in range(130)])
        codes = [topic.error_code for topic in broker.ask(request, 12).topics]
        assert codes == [0] * 100 + [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION] * 30
        assert len(broker.store.topics()) == 100
        assert {topic.error_code for topic in broker.ask(request, 12).topics} == {0}


def test_unknown_ids_of_topics_cost_no_look_at_all_topics(broker: LoopBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(broker.store), "topics", None)
    request = MetadataRequest(topics=[MetadataRequestTopic(name=None, topic_id=UUID(int=n)) for n in range(1, 1000)])
    assert {each.error_code for each in broker.ask(request, 12).topics} == {ErrorCode.UNKNOWN_TOPIC_ID}


@pytest.mark.parametrize("name", ["9" * 5000, "007", "-1", "\u0661"])
def test_a_number_that_is_no_brokers_is_refused(broker: LoopBroker, name: str) -> None:
    [found] = broker.ask(DescribeConfigsRequest(resources=[DescribeConfigsResource(4, name)]), 4).results
    assert found.error_code == ErrorCode.INVALID_REQUEST


def fetch(count: int) -> FetchRequest:
    partitions = [FetchPartition(partition=number, partition_max_bytes=1) for number in range(count)]
    return FetchRequest(topics=[FetchTopic(topic="none", partitions=partitions)], max_bytes=1)


def produce(count: int) -> ProduceRequest:
    partitions = [PartitionProduceData(index=number, records=None) for number in range(count)]
    return ProduceRequest(acks=1, topic_data=[TopicProduceData(name="none", partition_data=partitions)])


def commit(count: int) -> OffsetCommitRequest:
    partitions = [OffsetCommitRequestPartition(number, 5) for number in range(count)]
    return OffsetCommitRequest("g", topics=[OffsetCommitRequestTopic("none", partitions=partitions)])


@pytest.mark.parametrize(("request_of", "version"), [(fetch, 11), (produce, 8), (commit, 8)])
def test_a_request_that_names_more_than_one_may_ends_its_connection(
    broker: LoopBroker, request_of: Any, version: int
) -> None:
    with broker.connect() as peer:
        peer.sendall(frame_of(request_of(REQUEST_ELEMENTS_MAX - 1), version))  # and the topic
        read_frame(peer)
        peer.sendall(frame_of(request_of(REQUEST_ELEMENTS_MAX), version))
        assert is_closed(peer)


def test_a_request_may_name_10000_partitions_of_as_many_topics_with_their_replicas(broker: LoopBroker) -> None:
    assigned = [CreatableReplicaAssignment(0, [0])]
    topics = [creatable(f"t{number}", assignments=assigned) for number in range(10_000)]
    found = broker.ask(CreateTopicsRequest(topics=topics, validate_only=True), 4).topics
    assert {each.error_code for each in found} == {0}
