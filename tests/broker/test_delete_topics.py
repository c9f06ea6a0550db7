"""Topics deleted over the wire. What is said of ``admin`` holds for Kafka too."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from kafka_brokers import fresh_name
from logstore.groups.offsets_log import OFFSETS_TOPIC
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from wire_admin import OwnBroker, WireAdmin, new_topic

NO_ID = UUID(int=0)


def delete(admin: WireAdmin, *topics: DeleteTopicState) -> list[Any]:
    request = DeleteTopicsRequest(topics=topics, timeout_ms=30_000)
    return list(admin.ask(request, 6).responses)


@pytest.mark.parametrize("version", range(1, 7))
def test_topics_are_gone(admin: WireAdmin, version: int) -> None:
    names = [admin.topic(2), admin.topic()]
    asked: dict[str, Any] = (
        {"topic_names": names} if version < 6 else {"topics": [DeleteTopicState(name=name) for name in names]}
    )
    results = admin.ask(DeleteTopicsRequest(**asked, timeout_ms=30_000), version).responses
    assert {result.name: result.error_code for result in results} == dict.fromkeys(names, ErrorCode.NONE)
    for name in names:
        admin.wait_for(name, 0)
        assert admin.create(new_topic(name, 5))[name].error_code == ErrorCode.NONE


def test_a_topic_may_be_named_by_its_id(admin: WireAdmin) -> None:
    name = admin.topic()
    topic_id = admin.topic_id(name)
    (result,) = delete(admin, DeleteTopicState(name=None, topic_id=topic_id))
    assert (result.name, result.topic_id, result.error_code) == (name, topic_id, ErrorCode.NONE)
    admin.wait_for(name, 0)
    (result,) = delete(admin, DeleteTopicState(name=None, topic_id=topic_id))
    assert (result.name, result.topic_id, result.error_code) == (None, topic_id, ErrorCode.UNKNOWN_TOPIC_ID)


def test_of_many_topics_each_has_its_own_outcome(admin: WireAdmin) -> None:
    good, twice, both = admin.topic(), admin.topic(), admin.topic()
    missing, unknown_id = fresh_name("missing"), uuid4()
    results = delete(
        admin,
        DeleteTopicState(name=good),
        DeleteTopicState(name=missing),
        DeleteTopicState(name=None, topic_id=unknown_id),
        DeleteTopicState(name=twice),
        DeleteTopicState(name=twice),
        DeleteTopicState(name=both, topic_id=admin.topic_id(both)),
        DeleteTopicState(name=None),
    )
    outcomes = {
        (result.name, result.topic_id if result.name is None else None): result.error_code for result in results
    }
    assert outcomes == {
        (good, None): ErrorCode.NONE,
        (missing, None): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        (None, unknown_id): ErrorCode.UNKNOWN_TOPIC_ID,
        (twice, None): ErrorCode.INVALID_REQUEST,
        (both, None): ErrorCode.INVALID_REQUEST,
        (None, NO_ID): ErrorCode.INVALID_REQUEST,
    }
    assert all(result.error_message for result in results if result.error_code)
    admin.wait_for(good, 0)
    assert (admin.partitions(twice), admin.partitions(both)) == (1, 1)


def test_a_topic_that_is_named_and_given_by_its_id_is_not_deleted(admin: WireAdmin) -> None:
    name = admin.topic()
    results = delete(admin, DeleteTopicState(name=name), DeleteTopicState(name=None, topic_id=admin.topic_id(name)))
    assert {result.error_code for result in results} == {ErrorCode.INVALID_REQUEST}
    assert admin.partitions(name) == 1


@pytest.mark.parametrize(("version", "code"), [(1, ErrorCode.INVALID_REQUEST), (3, ErrorCode.TOPIC_DELETION_DISABLED)])
def test_nothing_is_deleted_where_deletion_is_disabled(own: OwnBroker, version: int, code: ErrorCode) -> None:
    own.create(new_topic("t"))
    own.restart(delete_topic_enable=False)
    (result,) = own.ask(DeleteTopicsRequest(topic_names=["t"]), version).responses
    assert (result.name, result.error_code) == ("t", code)
    assert own.partitions("t") == 1


def test_the_topic_of_groups_offsets_stays(own: OwnBroker) -> None:
    own.create(new_topic(OFFSETS_TOPIC))
    (result,) = delete(own, DeleteTopicState(name=OFFSETS_TOPIC))
    assert (result.error_code, "delete groups instead" in result.error_message) == (ErrorCode.INVALID_REQUEST, True)
    assert own.partitions(OFFSETS_TOPIC) == 1
