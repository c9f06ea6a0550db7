"""A consumer group of the newer kind as one of the classic kind is described, for whoever asks about any group."""

from logstore.format.consumer_protocol import Assignment, Subscription, encode_assignment, encode_subscription
from logstore.format.filename import TopicPartition
from logstore.groups.consumer.known_group import KnownGroup
from logstore.groups.requests import CONSUMER, GroupDescription, MemberDescription


def as_group_description(group: KnownGroup) -> GroupDescription:
    members = [
        MemberDescription(
            member_id,
            member.metadata.instance_id,
            member.metadata.client_id,
            member.metadata.client_host,
            encode_subscription(Subscription(tuple(group.topics_of(member_id)))),
            encode_assignment(
                Assignment(tuple([TopicPartition(*named) for named in group.names_of(member.current.assigned)]))
            ),
        )
        for member_id, member in group.members.items()
    ]
    return GroupDescription(
        group.group_id, group.state.value, group.protocol_type, group.assignor, group.epoch, tuple(members), CONSUMER
    )
