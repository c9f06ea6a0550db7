"""What a server's settings say counts for topics that set nothing themselves: those it was started with, and those that
were changed since."""

from collections.abc import Callable
from pathlib import Path

import pytest

import logstore
from clocks import QUIET
from logstore.config import StoreConfig
from logstore.errors import InvalidSetting, NotADataDir, StorageFailure
from logstore.format import filename
from logstore.format.properties import decode_properties
from logstore.storage import files
from logstore.storage.data_dir import DataDir
from logstore.storage.server_settings import Scope

ALL, BROKER = Scope.ALL_BROKERS, Scope.BROKER
Open = Callable[..., DataDir]


@pytest.fixture
def opened(tmp_path: Path):
    """Opens the directory again and again, each time with other settings."""
    dirs: list[DataDir] = []

    def open_again(**settings: object) -> DataDir:
        for data_dir in dirs:
            data_dir.close()
        dirs.append(DataDir(tmp_path / "data", QUIET.replace(settings)))
        return dirs[-1]

    yield open_again
    dirs[-1].close()


def retention_ms(data_dir: DataDir, topic: str) -> tuple[int, int]:
    """As the topic has it, and as its log goes by it."""
    return data_dir.topic(topic).config.retention_ms, data_dir.log(topic).config.retention_ms


# ------------------------------------------------------------------------------------------------------------- given


def test_a_topic_that_sets_nothing_goes_by_the_settings_that_the_directory_is_opened_with(opened: Open):
    data_dir = opened(log_retention_hours=1)
    data_dir.create_topic("plain")
    data_dir.create_topic("own", settings={"retention.ms": 5})
    assert (retention_ms(data_dir, "plain"), retention_ms(data_dir, "own")) == ((3_600_000, 3_600_000), (5, 5))
    data_dir = opened(log_retention_ms=7)
    assert (retention_ms(data_dir, "plain"), retention_ms(data_dir, "own")) == ((7, 7), (5, 5))
    assert data_dir.topic("plain").overrides == {}


def test_a_setting_that_a_topic_was_given_stays_its_own_though_it_is_the_default(opened: Open):
    data_dir = opened()
    data_dir.create_topic("t", settings={"retention_ms": 604_800_000})
    assert data_dir.topic("t").overrides == {"retention.ms": "604800000"}
    data_dir = opened(log_retention_ms=7)
    assert retention_ms(data_dir, "t") == (604_800_000, 604_800_000)
    data_dir.alter_topic("t", {"retention.ms": None})
    assert data_dir.topic("t").overrides == {}
    assert retention_ms(data_dir, "t") == (7, 7)


def test_a_look_at_a_directory_sees_what_its_topics_go_by(opened: Open, tmp_path: Path):
    data_dir = opened()
    data_dir.create_topic("t")
    data_dir.alter_settings(ALL, {"log.retention.ms": 9})
    with logstore.open(tmp_path / "data", read_only=True, log_segment_bytes=1000) as store:
        config = store.topic("t").config
    assert (config.retention_ms, config.segment_bytes) == (9, 1000)


def test_a_directory_is_not_opened_with_a_default_that_does_not_go_with_what_a_topic_sets(opened: Open):
    data_dir = opened()
    data_dir.create_topic("t", settings={"min.compaction.lag.ms": 10})
    data_dir.close()
    with pytest.raises(InvalidSetting, match=r"must not be above max\.compaction\.lag\.ms=5 \(topic 't'\)"):
        DataDir(data_dir.path, StoreConfig(log_cleaner_max_compaction_lag_ms=5))
    opened()  # and nothing is amiss afterwards


@pytest.mark.parametrize("settings", [{"min.insync.replicas": 2}, {"remote.storage.enable": True}])
def test_a_topic_cannot_ask_for_more_than_one_machine_has(opened: Open, settings: dict[str, object]):
    data_dir = opened()
    with pytest.raises(InvalidSetting, match=r"must be (1|false)"):
        data_dir.create_topic("t", settings=settings)
    data_dir.create_topic("t")
    with pytest.raises(InvalidSetting, match=r"must be (1|false)"):
        data_dir.alter_topic("t", settings)
    assert data_dir.topic("t").overrides == {}


# ----------------------------------------------------------------------------------------------------------- changed


def test_a_change_counts_at_once_for_all_topics_that_do_not_set_it_and_after_a_crash(opened: Open):
    data_dir = opened(log_retention_ms=1)
    data_dir.create_topic("plain")
    data_dir.create_topic("own", settings={"retention.ms": 5})
    told: list[str] = []
    data_dir.topic_listeners.append(told.append)
    data_dir.alter_settings(ALL, {"log.retention.ms": 2, "producer.id.expiration.ms": 3})
    assert (retention_ms(data_dir, "plain"), retention_ms(data_dir, "own")) == ((2, 2), (5, 5))
    assert data_dir.config.producer_id_expiration_ms == 3
    assert told == ["own", "plain"] or told == ["plain", "own"]
    data_dir.create_topic("later")
    assert retention_ms(data_dir, "later") == (2, 2)
    data_dir = opened(log_retention_ms=1)  # what was changed counts before what is given
    assert (retention_ms(data_dir, "plain"), data_dir.config.producer_id_expiration_ms) == ((2, 2), 3)


def test_a_brokers_own_setting_counts_before_that_of_all_brokers_and_what_was_given_last(opened: Open):
    data_dir = opened(log_retention_ms=1)
    data_dir.create_topic("t")
    seen = []
    for scope, value in ((BROKER, 3), (ALL, 2), (BROKER, None), (ALL, None)):
        data_dir.alter_settings(scope, {"log.retention.ms": value})
        seen.append(retention_ms(data_dir, "t"))
    assert seen == [(3, 3), (3, 3), (2, 2), (1, 1)]
    assert decode_properties((data_dir.path / filename.SERVER_PROPERTIES).read_bytes()) == {}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"log.retention.hours": 1}, "set it in the server's own configuration and restart"),
        ({"num.partitions": 3}, "set it in the server's own configuration and restart"),
        ({"log.retention.ms": "soon"}, "must be an integer"),
        ({"log.retention.s": 1}, r"did you mean log\.retention\.ms\?"),
        ({"min.insync.replicas": 2}, "there is one replica"),
        ({"log.cleaner.max.compaction.lag.ms": 5}, r"must not be above max\.compaction\.lag\.ms=5 \(topic 'slow'\)"),
        ({"log.retention.ms": 1, "log.segment.bytes": 3}, "must be an integer from 14"),
    ],
)
def test_a_change_that_is_refused_changes_nothing(opened: Open, changes: dict[str, object], reason: str):
    data_dir = opened()
    data_dir.create_topic("t")
    data_dir.create_topic("slow", settings={"min.compaction.lag.ms": 10})
    with pytest.raises(InvalidSetting, match=reason):
        data_dir.alter_settings(BROKER, changes)
    assert data_dir.config == QUIET
    assert retention_ms(data_dir, "t") == (604_800_000, 604_800_000)
    assert not (data_dir.path / filename.SERVER_PROPERTIES).exists()


def test_a_change_that_is_only_validated_changes_nothing(opened: Open):
    data_dir = opened()
    data_dir.create_topic("t")
    data_dir.alter_settings(ALL, {"log.retention.ms": 2}, validate_only=True)
    assert retention_ms(data_dir, "t") == (604_800_000, 604_800_000)
    assert not (data_dir.path / filename.SERVER_PROPERTIES).exists()


def test_a_change_that_cannot_be_stored_does_not_count(opened: Open, monkeypatch: pytest.MonkeyPatch):
    data_dir = opened()
    data_dir.create_topic("t")

    def fail(*_: object, **__: object) -> None:
        raise StorageFailure("disk", "write", 5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_file", fail)
        with pytest.raises(StorageFailure):
            data_dir.alter_settings(ALL, {"log.retention.ms": 2})
    assert retention_ms(data_dir, "t") == (604_800_000, 604_800_000)
    assert data_dir.config == QUIET


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"all.log.retention.ms=5", "ends within the line"),
        (b"log.retention.ms=5\n", "begins with neither of all, broker"),
        (b"all.log.retention.ms=soon\n", "must be an integer"),
        (b"broker.log.retention.s=1\n", "there is no such setting"),
    ],
)
def test_a_directory_whose_changed_settings_cannot_be_read_is_not_opened(opened: Open, content: bytes, reason: str):
    data_dir = opened()
    data_dir.close()
    file = data_dir.path / filename.SERVER_PROPERTIES
    file.write_bytes(content)
    with pytest.raises(NotADataDir, match=reason):
        DataDir(data_dir.path, QUIET)
    file.unlink()
    opened()


# ---------------------------------------------------------------------------------------------------- validated only


def test_a_topic_that_is_only_planned_is_not_made(opened: Open):
    data_dir = opened(num_partitions=3)
    planned = data_dir.create_topic("t", settings={"retention.ms": 5}, validate_only=True)
    assert (planned.name, planned.partitions, planned.config.retention_ms) == ("t", 3, 5)
    assert data_dir.topics() == []
    data_dir.create_topic("t", 1)
    altered = data_dir.alter_topic("t", {"retention.ms": 5}, 2, validate_only=True)
    assert (altered.partitions, altered.overrides) == (2, {"retention.ms": "5"})
    assert (data_dir.topic("t").partitions, data_dir.topic("t").overrides) == (1, {})
