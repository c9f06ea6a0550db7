import pickle
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstore.config import StoreConfig, TopicConfig
from logstore.errors import InvalidSetting
from logstore.settings import LONG_MAX, Setting, Settings

# Apache Kafka's documented defaults of the topic settings, as its DescribeConfigs prints them.
KAFKA_TOPIC_DEFAULTS = {
    "cleanup.policy": "delete",
    "compression.gzip.level": "-1",
    "compression.lz4.level": "9",
    "compression.type": "producer",
    "compression.zstd.level": "3",
    "delete.retention.ms": "86400000",
    "file.delete.delay.ms": "60000",
    "follower.replication.throttled.replicas": "",
    "flush.messages": "9223372036854775807",
    "flush.ms": "9223372036854775807",
    "index.interval.bytes": "4096",
    "leader.replication.throttled.replicas": "",
    "local.retention.bytes": "-2",
    "local.retention.ms": "-2",
    "max.compaction.lag.ms": "9223372036854775807",
    "max.message.bytes": "1048588",
    "message.timestamp.after.max.ms": "3600000",
    "message.timestamp.before.max.ms": "9223372036854775807",
    "message.timestamp.type": "CreateTime",
    "min.cleanable.dirty.ratio": "0.5",
    "min.compaction.lag.ms": "0",
    "min.insync.replicas": "1",
    "preallocate": "false",
    "remote.log.copy.disable": "false",
    "remote.log.delete.on.disable": "false",
    "remote.storage.enable": "false",
    "retention.bytes": "-1",
    "retention.ms": "604800000",
    "segment.bytes": "1073741824",
    "segment.index.bytes": "10485760",
    "segment.jitter.ms": "0",
    "segment.ms": "604800000",
    "unclean.leader.election.enable": "false",
}
NOT_IN_KAFKA = {"consumed.groups": "", "unconsumed.retention.ms": "-1"}


def test_the_topic_defaults_are_kafkas():
    assert dict(TopicConfig().items()) == KAFKA_TOPIC_DEFAULTS | NOT_IN_KAFKA


def test_defaults_override_nothing():
    assert TopicConfig().overrides() == {}
    assert StoreConfig().overrides() == {}


@pytest.mark.parametrize("config", [TopicConfig, StoreConfig])
def test_every_row_is_documented_and_takes_its_own_default(config: type[Settings]):
    rows = config.rows()
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert row.doc and row.name == row.field.replace("_", ".")
        assert row.default == getattr(config(), row.field)
        assert row.default is None or row.parse(row.default) == row.default


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("retention.ms", "123", 123),
        ("retention_ms", 123, 123),
        ("retention.ms", " -1 ", -1),
        ("flush.ms", str(LONG_MAX), LONG_MAX),
        ("segment.bytes", 14, 14),
        ("preallocate", "TRUE", True),
        ("preallocate", False, False),
        ("min.cleanable.dirty.ratio", "0.25", 0.25),
        ("min.cleanable.dirty.ratio", ".5", 0.5),
        ("min.cleanable.dirty.ratio", "1e-05", 1e-05),
        ("min.cleanable.dirty.ratio", 1, 1.0),
        ("compression.type", "zstd", "zstd"),
        ("cleanup.policy", "compact, delete", ("compact", "delete")),
        ("cleanup.policy", ["delete", "delete"], ("delete",)),
        ("consumed.groups", "", ()),
        ("consumed.groups", ("billing", "mail"), ("billing", "mail")),
    ],
)
def test_values_are_taken_as_text_or_typed(name: str, value: object, expected: object):
    field = name.replace(".", "_")
    config = TopicConfig.parse({name: value})
    assert getattr(config, field) == expected
    assert type(getattr(config, field)) is type(expected)
    assert TopicConfig(**{field: value}) == config


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("retention.ms", "7d", "must be an integer from -1 to 9223372036854775807"),
        ("retention.ms", -2, "must be an integer from -1 to"),
        ("retention.ms", "1_000", "must be an integer"),
        ("retention.ms", "٣", "must be an integer"),
        ("retention.ms", 1.0, "must be an integer"),
        ("retention.ms", True, "must be an integer"),
        ("retention.ms", "", "must be an integer"),
        ("retention.ms", 2**63, "must be an integer"),
        ("retention.ms", "9" * 5000, "must be an integer"),
        ("segment.bytes", 13, "must be an integer from 14 to 2147483647"),
        ("segment.bytes", 2**31, "must be an integer from 14 to 2147483647"),
        ("preallocate", 1, "must be true or false"),
        ("preallocate", "yes", "must be true or false"),
        ("min.cleanable.dirty.ratio", "nan", "must be a number from 0 to 1"),
        ("min.cleanable.dirty.ratio", float("nan"), "must be a number from 0 to 1"),
        ("min.cleanable.dirty.ratio", 1.01, "must be a number from 0 to 1"),
        ("min.cleanable.dirty.ratio", "0.5_0", "must be a number from 0 to 1"),
        ("compression.type", "ZSTD", "must be one of producer, uncompressed, gzip, snappy, lz4, zstd"),
        ("compression.type", b"zstd", "must be one of producer"),
        ("cleanup.policy", "remove", "must be a comma-separated list of delete, compact, consumed"),
        ("cleanup.policy", "delete,,compact", "must be a comma-separated list of"),
        ("cleanup.policy", "", "must name a policy; to keep all, set retention.ms=-1"),
        ("cleanup.policy", "consumed", "needs the groups to wait for: set consumed.groups with it"),
        ("consumed.groups", ["a,b"], "must be a comma-separated list of names"),
        ("consumed.groups", [" a"], "must be a comma-separated list of names"),
        ("consumed.groups", ["a", 1], "must be a comma-separated list of names"),
        ("consumed.groups", {"a"}, "must be a comma-separated list of names"),
    ],
)
def test_a_wrong_value_is_refused_with_what_would_be_right(name: str, value: object, reason: str):
    with pytest.raises(InvalidSetting) as raised:
        TopicConfig.parse({name: value})
    assert raised.value.name == name
    assert raised.value.reason.startswith(reason)


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"cleanup.policy": "consumed,delete", "consumed.groups": "a"}, "consumed stands alone"),
        ({"min.compaction.lag.ms": 2, "max.compaction.lag.ms": 1}, "must not be above max.compaction.lag.ms=1"),
        ({"compression.gzip.level": "0"}, "must be 1 to 9, or -1"),
        ({"retention.ms": 1, "retention_ms": 1}, "is given twice, as retention.ms and as retention_ms"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(properties: dict[str, object], reason: str):
    with pytest.raises(InvalidSetting) as raised:
        TopicConfig.parse(properties)
    assert raised.value.reason.startswith(reason)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("retentoin.ms", "did you mean retention.ms?"),
        ("retention_bites", "did you mean retention.bytes?"),
        ("segments.ms", "did you mean segment.ms?"),
        ("xyzzy", "the settings are segment.bytes, segment.ms, "),
        ("x" * 100_000, "the settings are segment.bytes, segment.ms, "),
    ],
)
def test_an_unknown_name_is_answered_with_the_closest(name: str, hint: str):
    with pytest.raises(InvalidSetting) as raised:
        TopicConfig.parse({name: "1"})
    assert raised.value.reason.startswith(f"there is no such setting; {hint}")


def test_none_takes_a_setting_back_to_its_default():
    config = TopicConfig.parse({"retention.ms": 5, "segment.bytes": 100, "preallocate": None})
    assert config.replace({"retention_ms": None}).overrides() == {"segment.bytes": "100"}


def test_replace_leaves_the_rest_and_the_original_alone():
    before = TopicConfig.parse({"retention.ms": 5, "segment.bytes": 100})
    after = before.replace({"retention.ms": "6"})
    assert (before.retention_ms, after.retention_ms, after.segment_bytes) == (5, 6, 100)


def test_a_change_is_checked_against_the_settings_that_stay():
    config = TopicConfig.parse({"cleanup.policy": "consumed", "consumed.groups": "billing"})
    with pytest.raises(InvalidSetting, match=r"set consumed\.groups with it"):
        config.replace({"consumed.groups": None})


@pytest.mark.parametrize(
    ("policy", "deletes", "compacts", "drops_consumed"),
    [
        ("delete", True, False, False),
        ("compact", False, True, False),
        ("compact,delete", True, True, False),
        ("delete,compact", True, True, False),
        ("consumed", False, False, True),
    ],
)
def test_the_cleanup_policy_says_what_cleaning_does(policy: str, deletes: bool, compacts: bool, drops_consumed: bool):
    config = TopicConfig.parse({"cleanup.policy": policy, "consumed.groups": "billing"})
    assert (config.deletes, config.compacts, config.drops_consumed) == (deletes, compacts, drops_consumed)


def test_a_config_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        TopicConfig().retention_ms = 1  # type: ignore[misc]


def test_a_config_survives_pickling():
    config = TopicConfig.parse({"retention.ms": 5})
    assert pickle.loads(pickle.dumps(config)) == config


def test_store_settings_are_parsed_like_topic_settings():
    config = StoreConfig.parse({"log.retention.check.interval.ms": "10", "max_open_files": 64})
    assert (config.log_retention_check_interval_ms, config.max_open_files) == (10, 64)
    with pytest.raises(InvalidSetting, match=r"did you mean num\.partitions"):
        StoreConfig.parse({"num.partition": 3})


@pytest.mark.parametrize(
    ("given", "retention_ms"),
    [
        ({}, 604_800_000),
        ({"log.retention.hours": "24"}, 86_400_000),
        ({"log.retention.minutes": "10", "log.retention.hours": "24"}, 600_000),
        ({"log.retention.ms": "5", "log.retention.minutes": "10", "log.retention.hours": "24"}, 5),
        ({"log.retention.ms": None, "log.retention.minutes": "10"}, 600_000),
        ({"log.retention.hours": "-1"}, -1),
        ({"log.retention.ms": "-1", "log.retention.hours": "24"}, -1),
    ],
)
def test_of_several_names_for_what_topics_have_the_finest_counts(given: dict[str, object], retention_ms: int):
    assert StoreConfig.parse(given).topic_config() == TopicConfig(retention_ms=retention_ms)


def test_every_setting_of_topics_that_kafka_has_a_servers_name_for_has_it_here():
    assert StoreConfig().topic_config() == TopicConfig()
    without = {row.name for row in TopicConfig.rows()} - {row.topic_setting for row in StoreConfig.rows()}
    assert without == NOT_IN_KAFKA.keys() | {
        *("leader.replication.throttled.replicas", "follower.replication.throttled.replicas"),
        *("remote.storage.enable", "remote.log.copy.disable", "remote.log.delete.on.disable"),
    }


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"min.insync.replicas": 2}, "must be 1: there is one replica"),
        ({"remote.storage.enable": "true"}, "must be false: there is no remote storage"),
    ],
)
def test_what_takes_more_than_one_machine_is_a_setting_of_clusters(properties: dict[str, object], reason: str):
    config = TopicConfig.parse(properties)
    with pytest.raises(InvalidSetting) as raised:
        config.check_for_one_node()
    assert raised.value.reason.startswith(reason)


def test_a_server_cannot_have_more_replicas_than_machines_by_default():
    with pytest.raises(InvalidSetting, match="must be 1: there is one replica"):
        StoreConfig.parse({"min.insync.replicas": 2})


def test_defaults_of_topics_that_do_not_go_together_are_refused():
    with pytest.raises(InvalidSetting, match=r"must not be above max\.compaction\.lag\.ms=1"):
        StoreConfig.parse({"log.cleaner.min.compaction.lag.ms": 2, "log.cleaner.max.compaction.lag.ms": 1})


def values_of(row: Setting) -> st.SearchStrategy[object]:
    names = st.text("abc_-.é ", min_size=1).filter(lambda name: name == name.strip())
    return {
        "int": lambda: st.integers(int(row.low), int(row.high)),
        "float": lambda: st.floats(row.low, row.high),
        "bool": st.booleans,
        "string": lambda: st.sampled_from(row.choices),
        "list": lambda: st.lists(st.sampled_from(row.choices) if row.choices else names),
    }[row.type]()


@given(st.fixed_dictionaries({}, optional={row.name: values_of(row) for row in TopicConfig.rows()}))
def test_what_is_stored_reads_back_as_the_same_config(properties: dict[str, object]):
    try:
        config = TopicConfig.parse(properties)
    except InvalidSetting as error:  # each value is one that Kafka takes: they do not go together
        assert error.name in ("cleanup.policy", "min.compaction.lag.ms", "compression.gzip.level")
        return
    assert TopicConfig.parse(config.overrides()) == config
    assert TopicConfig.parse(dict(config.items())) == config


@given(st.sampled_from(TopicConfig.rows() + StoreConfig.rows()), st.text() | st.integers() | st.floats() | st.binary())
def test_any_value_is_parsed_or_refused(row: Setting, value: object):
    try:
        parsed = row.parse(value)
    except InvalidSetting as error:
        assert error.reason == f"must be {row.accepts}"
        return
    assert row.parse(parsed) == parsed
