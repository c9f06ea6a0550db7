"""Settings changed one by one over the wire. What is said of ``admin`` holds for Kafka too."""

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from waits import wait_until
from wire_admin import BROKER, TOPIC, OwnBroker, WireAdmin, new_topic

SET, DELETE, APPEND, SUBTRACT = range(4)
Change = tuple[str, int, str | None]


def alter(
    admin: WireAdmin, kind: int, name: str, *changes: Change, version: int = 1, validate_only: bool = False
) -> tuple[int, str | None]:
    resource = AlterConfigsResource(
        resource_type=kind, resource_name=name, configs=[AlterableConfig(*change) for change in changes]
    )
    request = IncrementalAlterConfigsRequest(resources=[resource], validate_only=validate_only)
    (response,) = admin.ask(request, version).responses
    assert (response.resource_type, response.resource_name) == (kind, name)
    return response.error_code, response.error_message


@pytest.mark.parametrize("version", range(2))
def test_settings_are_set_and_taken_away_and_the_others_stay(admin: WireAdmin, version: int) -> None:
    name = admin.topic(**{"retention.ms": "5000", "segment.ms": "6000", "flush.ms": "7000"})
    changes = (("retention.ms", SET, "1000"), ("segment.ms", DELETE, None), ("preallocate", SET, "true"))
    assert alter(admin, TOPIC, name, *changes, version=version) == (ErrorCode.NONE, None)
    admin.wait_for_overrides(name, {"retention.ms": "1000", "flush.ms": "7000", "preallocate": "true"})


def test_a_setting_may_be_set_to_its_default(admin: WireAdmin) -> None:
    name = admin.topic()
    assert alter(admin, TOPIC, name, ("max.message.bytes", SET, "1048588")) == (ErrorCode.NONE, None)
    admin.wait_for_overrides(name, {"max.message.bytes": "1048588"})


def test_taking_away_what_is_not_set_is_no_error(admin: WireAdmin) -> None:
    name = admin.topic()
    assert alter(admin, TOPIC, name, ("retention.ms", DELETE, None)) == (ErrorCode.NONE, None)


@pytest.mark.parametrize(
    ("before", "operation", "value", "after"),
    [
        ("delete", APPEND, "compact", "delete,compact"),
        ("delete", APPEND, "delete", "delete"),
        (None, APPEND, "compact", "delete,compact"),
        ("compact,delete", SUBTRACT, "compact", "delete"),
        ("delete", SUBTRACT, "compact", "delete"),
        (None, SUBTRACT, "compact", "delete"),
    ],
)
def test_lists_are_added_to_and_taken_from(
    admin: WireAdmin, before: str | None, operation: int, value: str, after: str
) -> None:
    name = admin.topic(**({} if before is None else {"cleanup.policy": before}))
    assert alter(admin, TOPIC, name, ("cleanup.policy", operation, value)) == (ErrorCode.NONE, None)
    admin.wait_for_overrides(name, {"cleanup.policy": after})


def test_what_is_only_validated_changes_nothing(admin: WireAdmin) -> None:
    name = admin.topic(**{"retention.ms": "5000"})
    assert alter(admin, TOPIC, name, ("retention.ms", SET, "1000"), validate_only=True) == (ErrorCode.NONE, None)
    assert admin.overrides(name) == {"retention.ms": "5000"}


@pytest.mark.parametrize("validate_only", [False, True])
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ([("retention.ms", SET, "soon")], ErrorCode.INVALID_CONFIG),
        ([("retention.ms", SET, "-2")], ErrorCode.INVALID_CONFIG),
        ([("retention.ms", SET, None)], ErrorCode.INVALID_REQUEST),
        ([("retention.s", SET, "5")], ErrorCode.INVALID_CONFIG),
        ([("retention_ms", SET, "5")], ErrorCode.INVALID_CONFIG),
        ([("retention.ms", APPEND, "5")], ErrorCode.INVALID_CONFIG),
        ([("retention.ms", SUBTRACT, "5")], ErrorCode.INVALID_CONFIG),
        ([("cleanup.policy", APPEND, "remove")], ErrorCode.INVALID_CONFIG),
        ([("retention.ms", SET, "5"), ("retention.ms", SET, "6")], ErrorCode.INVALID_REQUEST),
        ([("min.compaction.lag.ms", SET, "9"), ("max.compaction.lag.ms", SET, "8")], ErrorCode.INVALID_CONFIG),
        ([("flush.ms", SET, "5"), ("retention.ms", SET, "soon")], ErrorCode.INVALID_CONFIG),
    ],
    ids=str,
)
def test_a_change_that_is_refused_changes_nothing(
    admin: WireAdmin, changes: list[Change], code: ErrorCode, validate_only: bool
) -> None:
    name = admin.topic(**{"segment.ms": "5000"})
    found, message = alter(admin, TOPIC, name, *changes, validate_only=validate_only)
    assert (found, bool(message)) == (code, True)
    assert admin.overrides(name) == {"segment.ms": "5000"}


def test_an_operation_that_there_is_not_is_refused(own: OwnBroker) -> None:
    assert alter(own, TOPIC, own.topic(), ("retention.ms", 9, "5"))[0] == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        (TOPIC, "missing", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (BROKER, "99", ErrorCode.INVALID_REQUEST),
        (BROKER, "one", ErrorCode.INVALID_REQUEST),
        (77, "x", ErrorCode.INVALID_REQUEST),
    ],
)
def test_what_is_not_there_cannot_be_changed(admin: WireAdmin, kind: int, name: str, code: ErrorCode) -> None:
    assert alter(admin, kind, name, ("retention.ms", SET, "5"))[0] == code


def test_a_resource_that_is_named_twice_stays_as_it_is_and_the_others_are_changed(admin: WireAdmin) -> None:
    twice, other = admin.topic(), admin.topic()
    resources = [
        AlterConfigsResource(TOPIC, name, [AlterableConfig("flush.ms", SET, value)])
        for name, value in ((twice, "1"), (other, "2"), (twice, "3"))
    ]
    responses = admin.ask(IncrementalAlterConfigsRequest(resources=resources), 1).responses
    assert {(one.resource_name, one.error_code) for one in responses} == {
        (twice, ErrorCode.INVALID_REQUEST),
        (other, ErrorCode.NONE),
    }
    admin.wait_for_overrides(other, {"flush.ms": "2"})
    assert admin.overrides(twice) == {}


def test_of_two_changes_at_once_neither_is_lost(own: OwnBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    name, alter_topic = own.topic(), own.store.alter_topic
    both_are_planned = threading.Barrier(2)

    def late(*arguments: Any, **named: Any) -> object:
        with contextlib.suppress(threading.BrokenBarrierError):
            both_are_planned.wait(0.5)
        return alter_topic(*arguments, **named)

    monkeypatch.setattr(own.store, "alter_topic", late)

    def add(group: str) -> int:
        with contextlib.closing(WireAdmin(own.address)) as admin:
            return alter(admin, TOPIC, name, ("consumed.groups", APPEND, group))[0]

    with ThreadPoolExecutor() as threads:
        assert list(threads.map(add, ("a", "b"))) == [ErrorCode.NONE] * 2
    assert set(own.overrides(name)["consumed.groups"].split(",")) == {"a", "b"}


# ------------------------------------------------------------------------------------------------------------ brokers


@pytest.fixture
def broker(admin: WireAdmin) -> Iterator[str]:
    """The number of the broker; whatever a test changes of it is taken back."""
    number = str(admin.node_id)
    yield number
    for name in (number, ""):
        for setting in ("log.retention.ms", "message.max.bytes", "log.cleanup.policy"):
            alter(admin, BROKER, name, (setting, DELETE, None))


def test_a_default_of_topics_counts_for_all_that_do_not_set_it(admin: WireAdmin, broker: str) -> None:
    name, own = admin.topic(), admin.topic(**{"max.message.bytes": "5000"})

    def until(expected: tuple[str | None, int]) -> None:
        while (entry := admin.entries(TOPIC, name)["max.message.bytes"]) and expected != (
            entry.value,
            entry.config_source,
        ):
            pass

    for scope, value, expected in [
        ("", "2000", ("2000", 3)),
        (broker, "3000", ("3000", 2)),
        ("", "2500", ("3000", 2)),
        (broker, None, ("2500", 3)),
        ("", None, ("1048588", 5)),
    ]:
        operation = DELETE if value is None else SET
        assert alter(admin, BROKER, scope, ("message.max.bytes", operation, value)) == (ErrorCode.NONE, None)
        until(expected)
        assert admin.entries(TOPIC, own)["max.message.bytes"].value == "5000"


def test_what_was_changed_of_all_brokers_is_told(admin: WireAdmin, broker: str) -> None:
    alter(admin, BROKER, "", ("log.cleanup.policy", APPEND, "compact"))
    wait_until(lambda: "log.cleanup.policy" in admin.entries(BROKER, ""))
    entry = admin.entries(BROKER, "")["log.cleanup.policy"]
    assert (entry.value, entry.config_source, entry.read_only) == ("delete,compact", 3, False)


@pytest.mark.parametrize(
    "change",
    [
        ("log.retention.hours", SET, "5"),
        ("offsets.topic.num.partitions", SET, "5"),
        ("auto.create.topics.enable", SET, "true"),
        ("socket.request.max.bytes", SET, "100"),
        ("message.max.bytes", SET, "-1"),
        ("message.max.bytes", SET, "many"),
    ],
    ids=str,
)
def test_what_a_running_broker_cannot_change_is_refused(admin: WireAdmin, broker: str, change: Change) -> None:
    for name in (broker, ""):
        code, message = alter(admin, BROKER, name, change)
        assert (code, bool(message)) == (ErrorCode.INVALID_REQUEST, True)


def test_what_cannot_be_changed_says_where_it_is_set(own: OwnBroker) -> None:
    for name in ("num.partitions", "socket.request.max.bytes"):
        _, message = alter(own, BROKER, "", (name, SET, "5"))
        assert "set it in the server's own configuration and restart" in (message or "")


def test_a_change_of_the_brokers_is_there_after_a_restart(own: OwnBroker) -> None:
    own.create(new_topic("t"))
    alter(own, BROKER, "", ("log.retention.ms", SET, "5000"))
    own.restart(log_retention_ms=7)
    assert own.described("t").config.retention_ms == 5000
    entry = own.entries(TOPIC, "t")["retention.ms"]
    assert [(synonym.name, synonym.value, synonym.source) for synonym in entry.synonyms] == [
        ("log.retention.ms", "5000", 3),
        ("log.retention.ms", "7", 4),
        ("log.retention.hours", "168", 5),
    ]
    alter(own, BROKER, "", ("log.retention.ms", DELETE, None))
    assert own.described("t").config.retention_ms == 7


def test_a_default_that_does_not_go_with_what_a_topic_sets_is_refused(own: OwnBroker) -> None:
    own.create(new_topic("t", configs={"min.compaction.lag.ms": "10"}))
    code, message = alter(own, BROKER, "", ("log.cleaner.max.compaction.lag.ms", SET, "5"))
    assert (code, "topic 't'" in (message or "")) == (ErrorCode.INVALID_REQUEST, True)
