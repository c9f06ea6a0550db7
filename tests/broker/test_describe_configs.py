"""Settings described over the wire. What is said of ``admin`` holds for Kafka too."""

import pytest

from logstore.config import BrokerConfig, StoreConfig, TopicConfig
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from wire_admin import BROKER, TOPIC, OwnBroker, WireAdmin, new_topic

DYNAMIC_TOPIC, STATIC_BROKER, DEFAULT = 1, 4, 5
BOOLEAN, STRING, INT, LONG, DOUBLE, LIST = 1, 2, 3, 5, 6, 7
OURS_ALONE = {"consumed.groups", "unconsumed.retention.ms"}


@pytest.mark.parametrize("version", range(1, 5))
def test_a_topics_settings_are_those_that_it_sets_and_the_defaults(admin: WireAdmin, version: int) -> None:
    name = admin.topic(**{"retention.ms": "604800000", "cleanup.policy": "delete"})
    result = admin.describe(TOPIC, name, version=version)
    assert (result.error_code, result.resource_type, result.resource_name) == (ErrorCode.NONE, TOPIC, name)
    entries = {entry.name: entry for entry in result.configs}
    own = {name for name, entry in entries.items() if entry.config_source == DYNAMIC_TOPIC}
    assert own == {"retention.ms", "cleanup.policy"}, "what is set stays set, though it is the default"
    assert entries["flush.ms"].config_source == DEFAULT
    assert not any(entry.read_only or entry.is_sensitive for entry in entries.values())
    assert bool(entries["flush.messages"].documentation) == (version >= 3)


def test_kafkas_settings_of_topics_are_all_there_with_their_types_and_defaults(admin: WireAdmin) -> None:
    """As this machine's Kafka 4.1 has them; what its own server sets otherwise is left out."""
    entries = admin.entries(TOPIC, admin.topic())
    assert entries.keys() - OURS_ALONE == {row.name for row in TopicConfig.rows()} - OURS_ALONE
    types = {name: entry.config_type for name, entry in entries.items() if name not in OURS_ALONE}
    assert {name for name, kind in types.items() if kind == BOOLEAN} == {
        *("preallocate", "unclean.leader.election.enable", "remote.storage.enable"),
        *("remote.log.copy.disable", "remote.log.delete.on.disable"),
    }
    assert {name for name, kind in types.items() if kind == LIST} == {
        *("cleanup.policy", "leader.replication.throttled.replicas", "follower.replication.throttled.replicas")
    }
    assert {name for name, kind in types.items() if kind == STRING} == {"compression.type", "message.timestamp.type"}
    assert {name for name, kind in types.items() if kind == DOUBLE} == {"min.cleanable.dirty.ratio"}
    assert {name for name, kind in types.items() if kind == INT} == {
        *("segment.bytes", "segment.index.bytes", "index.interval.bytes", "max.message.bytes", "min.insync.replicas"),
        *("compression.gzip.level", "compression.lz4.level", "compression.zstd.level"),
    }
    defaults = dict(TopicConfig().items())
    for name in entries.keys() - OURS_ALONE - {"retention.ms", "segment.index.bytes"}:
        assert entries[name].value == defaults[name], name


def test_the_synonyms_say_what_would_count_without_the_value_in_effect(admin: WireAdmin) -> None:
    entries = admin.entries(TOPIC, admin.topic(**{"max.message.bytes": "5000"}))

    def candidates(name: str) -> list[tuple[str, str | None, int]]:
        return [(synonym.name, synonym.value, synonym.source) for synonym in entries[name].synonyms]

    assert candidates("max.message.bytes") == [
        ("max.message.bytes", "5000", DYNAMIC_TOPIC),
        ("message.max.bytes", "1048588", DEFAULT),
    ]
    assert candidates("cleanup.policy") == [("log.cleanup.policy", "delete", DEFAULT)]
    assert candidates("compression.type") == [("compression.type", "producer", DEFAULT)]
    assert candidates("retention.ms")[-1] == ("log.retention.hours", "168", DEFAULT)
    assert candidates("remote.storage.enable") == []


def test_only_the_settings_that_are_asked_for_are_told(admin: WireAdmin) -> None:
    name = admin.topic()
    assert admin.entries(TOPIC, name, "segment.bytes", "nothing").keys() == {"segment.bytes"}


def test_nothing_is_told_of_synonyms_and_documentation_that_is_not_asked_for(admin: WireAdmin) -> None:
    resource = DescribeConfigsResource(resource_type=TOPIC, resource_name=admin.topic(), configuration_keys=None)
    (result,) = admin.ask(DescribeConfigsRequest([resource]), 4).results
    assert not any(entry.synonyms or entry.documentation for entry in result.configs)


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        (TOPIC, "missing", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (TOPIC, "a/b", ErrorCode.INVALID_TOPIC_EXCEPTION),
        (BROKER, "99", ErrorCode.INVALID_REQUEST),
        (BROKER, "one", ErrorCode.INVALID_REQUEST),
        (0, "", ErrorCode.INVALID_REQUEST),
        (77, "", ErrorCode.INVALID_REQUEST),
    ],
)
def test_what_is_not_there_has_no_settings(admin: WireAdmin, kind: int, name: str, code: ErrorCode) -> None:
    result = admin.describe(kind, name)
    assert (result.error_code, result.configs) == (code, ())


def test_the_brokers_settings_are_told_under_its_own_number(admin: WireAdmin) -> None:
    entries = admin.entries(BROKER, str(admin.node_id))
    offsets = entries["offsets.topic.num.partitions"]
    assert (offsets.value, offsets.read_only) == ("1", True)
    sizes = entries["message.max.bytes"]
    assert (sizes.value, sizes.config_source, sizes.read_only, sizes.config_type) == ("1048588", DEFAULT, False, INT)
    assert entries["log.retention.minutes"].value is None
    assert (entries["log.retention.hours"].value, entries["log.retention.hours"].read_only) == ("168", True)


def test_of_all_brokers_only_what_was_changed_is_told(own: OwnBroker) -> None:
    assert own.entries(BROKER, "") == {}


def test_each_of_our_settings_is_told_with_its_documentation(own: OwnBroker) -> None:
    entries = own.entries(BROKER, str(own.node_id))
    rows = {row.name: row for row in [*BrokerConfig.rows(), *StoreConfig.rows()]}
    assert {name: entry.documentation for name, entry in entries.items()} == {n: row.doc for n, row in rows.items()}
    assert {name for name, entry in entries.items() if not entry.read_only} == {
        name for name, row in rows.items() if row.is_dynamic
    }


def test_what_the_server_is_started_with_is_what_topics_have_by_default(own: OwnBroker) -> None:
    own.create(new_topic("t", configs={"segment.ms": "5"}))
    own.restart(log_retention_minutes=2, log_segment_bytes=4096)
    entries = own.entries(TOPIC, "t")
    assert (entries["retention.ms"].value, entries["retention.ms"].config_source) == ("120000", STATIC_BROKER)
    assert [(synonym.name, synonym.value) for synonym in entries["retention.ms"].synonyms] == [
        ("log.retention.minutes", "2"),
        ("log.retention.hours", "168"),
    ]
    assert (entries["segment.bytes"].value, entries["segment.bytes"].config_source) == ("4096", STATIC_BROKER)
    assert (entries["segment.ms"].value, entries["segment.ms"].config_source) == ("5", DYNAMIC_TOPIC)
    assert own.described("t").config.retention_ms == 120_000
