"""ConsumerGroupDescribe: groups whose partitions this broker hands out (KIP-848), their members, and what each has, and
is to have."""

from collections.abc import Mapping
from uuid import UUID

from logstore.broker.authorized_operations import GROUP_OPERATIONS, NOT_ASKED
from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.broker.group_calls import group_error_code, numbers_by_topic
from logstore.broker.refusal import told
from logstore.errors import LogstoreError
from logstore.format.group_records import Partitions
from logstore.groups.requests import ConsumerMemberDescription
from logstore.wire.messages.consumer_group_describe import (
    Assignment,
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
    DescribedGroup,
    Member,
    TopicPartitions,
)

_OF_CONSUMER_PROTOCOL = 1


def handle(
    broker: Broker, request: ConsumerGroupDescribeRequest, context: RequestContext
) -> ConsumerGroupDescribeResponse:
    operations = GROUP_OPERATIONS if request.include_authorized_operations else NOT_ASKED
    names = {topic.topic_id: topic.name for topic in broker.store.topics()}
    return ConsumerGroupDescribeResponse(
        groups=[_describe(broker, group, operations, names) for group in dict.fromkeys(request.group_ids)]
    )


def _describe(broker: Broker, group: str, operations: int, names: Mapping[UUID, str]) -> DescribedGroup:
    try:
        described = broker.groups.describe_consumer_group(group)
    except LogstoreError as error:
        return DescribedGroup(error_code=group_error_code(error), error_message=told(error), group_id=group)
    return DescribedGroup(
        error_message=None,
        group_id=group,
        group_state=described.state,
        group_epoch=described.epoch,
        assignment_epoch=described.assignment_epoch,
        assignor_name=described.assignor,
        members=[_member(member, names) for member in described.members],
        authorized_operations=operations,
    )


def _member(described: ConsumerMemberDescription, names: Mapping[UUID, str]) -> Member:
    metadata = described.metadata
    return Member(
        member_id=described.member_id,
        instance_id=metadata.instance_id,
        rack_id=metadata.rack_id,
        member_epoch=described.current.epoch,
        client_id=metadata.client_id,
        client_host=metadata.client_host,
        subscribed_topic_names=metadata.topics,
        subscribed_topic_regex=metadata.regex,
        assignment=_assignment(described.current.assigned, names),
        target_assignment=_assignment(described.target, names),
        member_type=_OF_CONSUMER_PROTOCOL,
    )


def _assignment(partitions: Partitions, names: Mapping[UUID, str]) -> Assignment:
    """Partitions of topics that are no more are left out."""
    return Assignment(
        topic_partitions=[
            TopicPartitions(topic_id=topic_id, topic_name=names[topic_id], partitions=numbers)
            for topic_id, numbers in numbers_by_topic(partitions).items()
            if topic_id in names
        ]
    )
