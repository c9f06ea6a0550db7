"""Settings replaced over the wire, as older clients do. What is said of ``admin`` holds for Kafka too."""

import pytest

from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.alter_configs import AlterableConfig, AlterConfigsRequest, AlterConfigsResource
from wire_admin import BROKER, TOPIC, Configs, OwnBroker, WireAdmin, new_topic


def alter(
    admin: WireAdmin, kind: int, name: str, configs: Configs, *, version: int = 2, validate_only: bool = False
) -> tuple[int, str | None]:
    resource = AlterConfigsResource(
        resource_type=kind, resource_name=name, configs=[AlterableConfig(*config) for config in configs.items()]
    )
    request = AlterConfigsRequest(resources=[resource], validate_only=validate_only)
    (response,) = admin.ask(request, version).responses
    assert (response.resource_type, response.resource_name) == (kind, name)
    return response.error_code, response.error_message


@pytest.mark.parametrize("version", range(3))
def test_a_topic_sets_what_is_given_and_no_more(admin: WireAdmin, version: int) -> None:
    name = admin.topic(**{"retention.ms": "5000", "segment.ms": "6000"})
    assert alter(admin, TOPIC, name, {"retention.ms": "1000", "flush.ms": "7"}, version=version) == (0, None)
    admin.wait_for_overrides(name, {"retention.ms": "1000", "flush.ms": "7"})
    assert alter(admin, TOPIC, name, {}, version=version) == (0, None)
    admin.wait_for_overrides(name, {})


def test_what_is_only_validated_changes_nothing(admin: WireAdmin) -> None:
    name = admin.topic(**{"retention.ms": "5000"})
    assert alter(admin, TOPIC, name, {"segment.ms": "6000"}, validate_only=True) == (ErrorCode.NONE, None)
    assert admin.overrides(name) == {"retention.ms": "5000"}


@pytest.mark.parametrize(
    ("configs", "code"),
    [
        ({"retention.ms": "soon"}, ErrorCode.INVALID_CONFIG),
        ({"retention.s": "5"}, ErrorCode.INVALID_CONFIG),
        ({"retention.ms": None}, ErrorCode.INVALID_REQUEST),
        ({"flush.ms": "5", "segment.bytes": "1"}, ErrorCode.INVALID_CONFIG),
    ],
    ids=str,
)
def test_a_change_that_is_refused_changes_nothing(admin: WireAdmin, configs: Configs, code: ErrorCode) -> None:
    name = admin.topic(**{"segment.ms": "5000"})
    found, message = alter(admin, TOPIC, name, configs)
    assert (found, bool(message)) == (code, True)
    assert admin.overrides(name) == {"segment.ms": "5000"}


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        (TOPIC, "missing", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (BROKER, "99", ErrorCode.INVALID_REQUEST),
        (77, "x", ErrorCode.INVALID_REQUEST),
    ],
)
def test_what_is_not_there_cannot_be_changed(admin: WireAdmin, kind: int, name: str, code: ErrorCode) -> None:
    assert alter(admin, kind, name, {"retention.ms": "5"})[0] == code


def test_a_setting_or_a_resource_that_is_named_twice_is_not_changed(own: OwnBroker) -> None:
    """Kafka 4.1 never answers this one."""
    name, other = own.topic(), own.topic()
    once = [AlterableConfig("flush.ms", "1")]
    resources = [
        AlterConfigsResource(TOPIC, name, once),
        AlterConfigsResource(TOPIC, name, once),
        AlterConfigsResource(TOPIC, other, once * 2),
    ]
    responses = own.ask(AlterConfigsRequest(resources=resources), 2).responses
    assert {(one.resource_name, one.error_code) for one in responses} == {
        (name, ErrorCode.INVALID_REQUEST),
        (other, ErrorCode.INVALID_REQUEST),
    }


def test_the_brokers_changes_are_what_is_given_and_no_more(own: OwnBroker) -> None:
    own.create(new_topic("t"))
    assert alter(own, BROKER, "", {"log.retention.ms": "5", "message.max.bytes": "6"}) == (0, None)
    assert alter(own, BROKER, "", {"message.max.bytes": "7"}) == (0, None)
    assert {entry.name: entry.value for entry in own.entries(BROKER, "").values()} == {"message.max.bytes": "7"}
    assert alter(own, BROKER, "", {"num.partitions": "7"})[0] == ErrorCode.INVALID_REQUEST
