"""Topics made over the wire. What is said of ``admin`` holds for Kafka too."""

from typing import Any

import pytest

from kafka_brokers import fresh_name
from logstore.groups.offsets_log import OFFSETS_TOPIC
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.create_topics import CreateTopicsRequest
from wire_admin import OwnBroker, WireAdmin, new_topic


@pytest.mark.parametrize("version", range(2, 8))
def test_a_topic_is_there_with_its_partitions_and_settings(admin: WireAdmin, version: int) -> None:
    name = fresh_name("made")
    result = admin.create(new_topic(name, 3, configs={"retention.ms": "5000"}), version=version)[name]
    assert (result.error_code, result.error_message) == (ErrorCode.NONE, None)
    admin.wait_for(name, 3)
    assert admin.overrides(name) == {"retention.ms": "5000"}
    if version >= 5:
        assert (result.num_partitions, result.replication_factor) == (3, 1)
        settings = {config.name: (config.value, config.config_source) for config in result.configs or ()}
        assert settings["retention.ms"] == ("5000", 1)
        assert settings["cleanup.policy"] == ("delete", 5)
    if version >= 7:
        assert result.topic_id == admin.topic_id(name)


def test_a_topic_has_the_default_of_what_is_not_given(admin: WireAdmin) -> None:
    name = fresh_name("made")
    result = admin.create(new_topic(name, -1, -1))[name]
    assert (result.error_code, result.num_partitions, result.replication_factor) == (ErrorCode.NONE, 1, 1)


def test_a_topic_that_is_only_validated_is_not_made(admin: WireAdmin) -> None:
    name = fresh_name("never")
    result = admin.create(new_topic(name, 3, configs={"segment.ms": "7"}), validate_only=True)[name]
    assert (result.error_code, result.num_partitions) == (ErrorCode.NONE, 3)
    assert ("segment.ms", "7") in {(config.name, config.value) for config in result.configs or ()}
    assert admin.partitions(name) == 0


@pytest.mark.parametrize("validate_only", [False, True])
@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"partitions": 0}, ErrorCode.INVALID_PARTITIONS),
        ({"partitions": -2}, ErrorCode.INVALID_PARTITIONS),
        ({"replicas": 0}, ErrorCode.INVALID_REPLICATION_FACTOR),
        ({"replicas": -2}, ErrorCode.INVALID_REPLICATION_FACTOR),
        ({"replicas": 2}, ErrorCode.INVALID_REPLICATION_FACTOR),
        ({"configs": {"retention.ms": "soon"}}, ErrorCode.INVALID_CONFIG),
        ({"configs": {"retention.ms": "-2"}}, ErrorCode.INVALID_CONFIG),
        ({"configs": {"retention.ms": None}}, ErrorCode.INVALID_CONFIG),
        ({"configs": {"retention.s": "5"}}, ErrorCode.INVALID_CONFIG),
        ({"configs": {"retention_ms": "5"}}, ErrorCode.INVALID_CONFIG),
        ({"configs": {"message.format.version": "2.8"}}, ErrorCode.INVALID_CONFIG),
        ({"configs": {"min.compaction.lag.ms": "9", "max.compaction.lag.ms": "8"}}, ErrorCode.INVALID_CONFIG),
        ({"configs": {"compression.gzip.level": "0"}}, ErrorCode.INVALID_CONFIG),
        ({"configs": {"remote.storage.enable": "true"}}, ErrorCode.INVALID_CONFIG),
        ({"partitions": -1, "replicas": -1, "assignments": {0: []}}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ({"partitions": -1, "replicas": -1, "assignments": {0: [99]}}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_with_kafkas_code_and_a_reason(
    admin: WireAdmin, asked: dict[str, Any], code: ErrorCode, validate_only: bool
) -> None:
    name = fresh_name("never")
    result = admin.create(new_topic(name, **asked), validate_only=validate_only)[name]
    assert (result.error_code, bool(result.error_message)) == (code, True)
    assert admin.partitions(name) == 0


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "ü", "x" * 250])
def test_a_bad_name_is_refused(admin: WireAdmin, name: str) -> None:
    assert admin.create(new_topic(name))[name].error_code == ErrorCode.INVALID_TOPIC_EXCEPTION


def test_the_log_of_kafkas_controllers_is_no_topic(admin: WireAdmin) -> None:
    assert admin.create(new_topic("__cluster_metadata"))["__cluster_metadata"].error_code == ErrorCode.INVALID_REQUEST


def test_a_topic_that_is_there_is_not_made_again(admin: WireAdmin) -> None:
    name = admin.topic()
    for validate_only in (False, True):
        result = admin.create(new_topic(name, 5), validate_only=validate_only)[name]
        assert (result.error_code, result.error_message) == (
            ErrorCode.TOPIC_ALREADY_EXISTS,
            f"Topic '{name}' already exists.",
        )


def test_names_that_kafkas_metrics_cannot_tell_apart_are_refused(admin: WireAdmin) -> None:
    first, second = (fresh_name("a.b") for _ in range(2))
    assert admin.create(new_topic(first))[first].error_code == ErrorCode.NONE
    other = first.replace(".", "_")
    result = admin.create(new_topic(other))[other]
    assert result.error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
    assert "collides with existing topic" in (result.error_message or "")
    assert admin.create(new_topic(second))[second].error_code == ErrorCode.NONE


def test_of_many_topics_each_has_its_own_outcome(admin: WireAdmin) -> None:
    good, bad, twice = (fresh_name("one") for _ in range(3))
    results = admin.create(new_topic(good), new_topic(bad, 0), new_topic(twice), new_topic(twice, 2))
    assert {name: result.error_code for name, result in results.items()} == {
        good: ErrorCode.NONE,
        bad: ErrorCode.INVALID_PARTITIONS,
        twice: ErrorCode.INVALID_REQUEST,
    }
    assert admin.partitions(twice) == 0


def test_no_topics_are_made_when_none_are_asked_for(admin: WireAdmin) -> None:
    assert admin.ask(CreateTopicsRequest(topics=[]), 7).topics == ()


def test_replicas_may_be_placed_by_hand_on_this_node(admin: WireAdmin) -> None:
    name, own = fresh_name("placed"), admin.node_id
    result = admin.create(new_topic(name, -1, -1, assignments={1: [own], 0: [own]}))[name]
    assert (result.error_code, result.num_partitions, result.replication_factor) == (ErrorCode.NONE, 2, 1)


@pytest.mark.parametrize(
    ("partitions", "replicas", "numbers", "code"),
    [
        (2, -1, [0, 1], ErrorCode.INVALID_REQUEST),
        (-1, 1, [0, 1], ErrorCode.INVALID_REQUEST),
        (-1, -1, [1, 2], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (-1, -1, [-1, 0], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    ],
)
def test_a_placement_that_contradicts_itself_is_refused(
    admin: WireAdmin, partitions: int, replicas: int, numbers: list[int], code: ErrorCode
) -> None:
    name, own = fresh_name("never"), admin.node_id
    result = admin.create(new_topic(name, partitions, replicas, assignments={n: [own] for n in numbers}))[name]
    assert result.error_code == code


def test_a_partition_cannot_be_placed_twice_nor_on_one_node_twice(admin: WireAdmin) -> None:
    own = admin.node_id
    twice = new_topic(fresh_name("never"), -1, -1, assignments={0: [own]})
    twice.assignments = [*twice.assignments, *twice.assignments]
    on_one = new_topic(fresh_name("never"), -1, -1, assignments={0: [own, own]})
    results = admin.create(twice, on_one)
    assert {result.error_code for result in results.values()} == {ErrorCode.INVALID_REPLICA_ASSIGNMENT}


@pytest.mark.parametrize(
    "configs",
    [
        {"min.insync.replicas": "1"},
        {"unclean.leader.election.enable": "true"},
        {"segment.jitter.ms": "5"},
        {"compression.type": "zstd", "compression.zstd.level": "9"},
        {"leader.replication.throttled.replicas": "*", "follower.replication.throttled.replicas": "0:1"},
        {"remote.storage.enable": "false", "local.retention.ms": "-2"},
        {"cleanup.policy": "compact,delete", "retention.ms": "604800000"},
    ],
    ids=str,
)
def test_settings_that_say_nothing_on_one_node_are_kept(admin: WireAdmin, configs: dict[str, str]) -> None:
    assert admin.overrides(admin.topic(**configs)) == configs


def test_a_second_replica_is_not_promised(own: OwnBroker) -> None:
    result = own.create(new_topic("t", configs={"min.insync.replicas": "2"}))["t"]
    assert result.error_code == ErrorCode.INVALID_CONFIG
    assert "there is one replica of each partition" in (result.error_message or "")


def test_partitions_beyond_the_limit_are_refused(own: OwnBroker) -> None:
    result = own.create(new_topic("t", 100_001))["t"]
    assert (result.error_code, "large number" in (result.error_message or "")) == (ErrorCode.POLICY_VIOLATION, True)


def test_the_default_count_of_partitions_is_the_servers(own: OwnBroker) -> None:
    own.restart(num_partitions=4)
    assert own.create(new_topic("t", -1, -1))["t"].num_partitions == 4


def test_the_topic_of_groups_offsets_is_what_it_must_be_whoever_makes_it(own: OwnBroker) -> None:
    own.restart(offsets_topic_num_partitions=3)
    assert own.create(new_topic(OFFSETS_TOPIC, -1, -1))[OFFSETS_TOPIC].num_partitions == 3
    assert own.overrides(OFFSETS_TOPIC)["cleanup.policy"] == "compact"


def test_a_topic_that_was_answered_is_there_after_a_crash(own: OwnBroker) -> None:
    own.create(new_topic("t", 2, configs={"retention.ms": "604800000"}))
    own.restart(log_retention_ms=7)
    assert (own.partitions("t"), own.overrides("t")) == (2, {"retention.ms": "604800000"})
