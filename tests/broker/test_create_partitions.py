"""Partitions added over the wire. What is said of ``admin`` holds for Kafka too."""

import pytest

from kafka_brokers import fresh_name
from logstore.groups.offsets_log import OFFSETS_TOPIC
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.create_partitions import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from wire_admin import OwnBroker, WireAdmin, new_topic


def create(
    admin: WireAdmin,
    name: str,
    count: int,
    assignments: list[list[int]] | None = None,
    *,
    version: int = 3,
    validate_only: bool = False,
) -> tuple[int, str | None]:
    placed = None if assignments is None else [CreatePartitionsAssignment(ids) for ids in assignments]
    topic = CreatePartitionsTopic(name=name, count=count, assignments=placed)
    request = CreatePartitionsRequest(topics=[topic], timeout_ms=30_000, validate_only=validate_only)
    (result,) = admin.ask(request, version).results
    assert result.name == name
    return result.error_code, result.error_message


@pytest.mark.parametrize("version", range(4))
def test_a_topic_has_as_many_partitions_as_asked_for(admin: WireAdmin, version: int) -> None:
    name = admin.topic(1)
    assert create(admin, name, 3, version=version) == (ErrorCode.NONE, None)
    admin.wait_for(name, 3)


def test_partitions_that_are_only_validated_are_not_made(admin: WireAdmin) -> None:
    name = admin.topic(1)
    assert create(admin, name, 3, validate_only=True) == (ErrorCode.NONE, None)
    assert admin.partitions(name) == 1


def test_partitions_may_be_placed_by_hand_on_this_node(admin: WireAdmin) -> None:
    name, own = admin.topic(1), admin.node_id
    assert create(admin, name, 3, [[own], [own]]) == (ErrorCode.NONE, None)


@pytest.mark.parametrize("validate_only", [False, True])
@pytest.mark.parametrize(
    ("count", "assignments", "code"),
    [
        (2, None, ErrorCode.INVALID_PARTITIONS),
        (1, None, ErrorCode.INVALID_PARTITIONS),
        (0, None, ErrorCode.INVALID_PARTITIONS),
        (-1, None, ErrorCode.INVALID_PARTITIONS),
        (4, [[99]], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (3, [[99]], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (3, [[]], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    ],
)
def test_what_cannot_be_is_refused_with_kafkas_code_and_a_reason(
    admin: WireAdmin, count: int, assignments: list[list[int]] | None, code: ErrorCode, validate_only: bool
) -> None:
    name = admin.topic(2)
    found, message = create(admin, name, count, assignments, validate_only=validate_only)
    assert (found, bool(message)) == (code, True)
    assert admin.partitions(name) == 2


def test_a_topic_that_is_not_there_gets_no_partitions(admin: WireAdmin) -> None:
    assert create(admin, fresh_name("missing"), 3)[0] == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_a_topic_that_is_named_twice_gets_no_partitions(admin: WireAdmin) -> None:
    twice, other = admin.topic(), admin.topic()
    topics = [
        CreatePartitionsTopic(name=name, count=count, assignments=None)
        for name, count in ((twice, 2), (twice, 3), (other, 4))
    ]
    results = admin.ask(CreatePartitionsRequest(topics=topics, timeout_ms=30_000), 3).results
    assert {result.name: result.error_code for result in results} == {
        twice: ErrorCode.INVALID_REQUEST,
        other: ErrorCode.NONE,
    }
    assert admin.partitions(twice) == 1


def test_partitions_beyond_the_limit_are_refused(own: OwnBroker) -> None:
    own.create(new_topic("t"))
    code, message = create(own, "t", 100_001)
    assert (code, message) == (ErrorCode.INVALID_PARTITIONS, "a topic has at most 100000 partitions")


def test_groups_are_looked_for_in_the_partitions_that_there_were(own: OwnBroker) -> None:
    own.create(new_topic(OFFSETS_TOPIC))
    code, message = create(own, OFFSETS_TOPIC, 2)
    assert (code, "looked for in the wrong ones" in (message or "")) == (ErrorCode.INVALID_REQUEST, True)
