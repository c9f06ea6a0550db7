"""The store as a program meets it."""

from pathlib import Path
from typing import Any

import pytest

import logstore
from logstore import Durability
from logstore.storage.segment_list import SegmentList


def test_settings_are_stored_and_applied_at_once(tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store:
        store.create_topic("t", 2, **{"segment.bytes": "500", "retention_ms": 60_000})
        log = store.log("t", 1)
        for _ in range(10):
            log.append([b"x" * 100])
        assert len(log.view.segments) > 1
        count = len(log.view.segments)
        altered = store.alter_topic("t", {"segment.bytes": 1 << 20, "retention.ms": None, "max.message.bytes": 300})
        assert (altered.config.segment_bytes, altered.config.retention_ms) == (1 << 20, 604_800_000)
        log.append([b"x" * 100] * 2)
        log.append([b"x" * 100])
        assert len(log.view.segments) == count
        with pytest.raises(logstore.RecordTooLarge):
            log.append([b"x" * 300])
    with logstore.open(tmp_path) as store:
        assert store.topic("t") == altered
        assert store.topics() == [altered]
        assert store.log("t", 1).config == altered.config


def test_partitions_can_only_become_more(tmp_path: Path) -> None:
    with logstore.open(tmp_path, num_partitions=2) as store:
        assert store.create_topic("t").partitions == 2
        store.log("t", 1).append([b"x"])
        with pytest.raises(logstore.UnknownPartition, match="partitions 0 to 1, not 2"):
            store.log("t", 2)
        assert store.alter_topic("t", partitions=4).partitions == 4
        assert store.log("t", 3).append([b"y"]).base_offset == 0
        assert [record.value for record in store.log("t", 1).records(0)] == [b"x"]
        for count in (3, 0, -1, True, 2.0, "5"):
            with pytest.raises(logstore.InvalidArgument, match="partitions"):
                store.alter_topic("t", partitions=count)  # type: ignore[arg-type]
    with logstore.open(tmp_path) as store:
        assert [record.value for record in store.log("t", 3).records(0)] == [b"y"]


@pytest.mark.parametrize(
    "settings",
    [{"retention_mss": 1}, {"retention.ms": "soon"}, {"segment_bytes": 0}, {"cleanup_policy": "consumed"}],
)
def test_a_wrong_setting_of_a_topic_is_refused_and_changes_nothing(settings: dict[str, Any], tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store:
        before = store.create_topic("t", retention_ms=1_000)
        with pytest.raises(logstore.InvalidSetting):
            store.create_topic("u", **settings)
        with pytest.raises(logstore.InvalidSetting):
            store.alter_topic("t", settings)
        assert store.topics() == [before]
        assert not list(tmp_path.glob("u_*"))


@pytest.mark.parametrize("read_only", [False, True])
def test_an_unknown_setting_of_the_store_is_refused_with_a_hint(read_only: bool, tmp_path: Path) -> None:
    logstore.open(tmp_path).close()
    with pytest.raises(logstore.InvalidSetting, match=r"did you mean num\.partitions"):
        logstore.open(tmp_path, read_only=read_only, num_partition=3)


def test_a_topic_is_created_once_and_what_is_not_there_is_said(tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store:
        store.create_topic("t")
        with pytest.raises(logstore.TopicAlreadyExists, match="topic 't' already exists"):
            store.create_topic("t", 7)
        for call in (store.topic, store.log, store.delete_topic, store.alter_topic):
            with pytest.raises(logstore.UnknownTopic, match="no topic 'u'; create it first"):
                call("u")
        for partition in (1, -1, "0", None, True):
            with pytest.raises(logstore.UnknownPartition):
                store.log("t", partition)  # type: ignore[arg-type]
        assert store.topic("t").partitions == 1


def test_who_still_holds_a_deleted_topics_log_is_told(tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store:
        store.create_topic("t")
        log = store.log("t")
        log.append([b"x"])
        store.delete_topic("t")
        with pytest.raises(logstore.UnknownTopic):
            log.append([b"y"])
        with pytest.raises(logstore.UnknownTopic):
            store.log("t")
        assert store.topics() == []


def test_who_waits_for_the_disk_while_the_topic_is_deleted_is_told_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync_from = SegmentList.sync_from  # what it syncs it opens by name where it is not open

    def delete_first(segments: SegmentList, offset: int) -> None:
        monkeypatch.undo()
        store.delete_topic("t")
        sync_from(segments, offset)

    with logstore.open(tmp_path) as store:
        store.create_topic("t")
        store.log("t").append([b"x"])
        monkeypatch.setattr(SegmentList, "sync_from", delete_first)
        with pytest.raises(logstore.UnknownTopic):
            store.log("t").append([b"x"], durability="fsync")


def test_a_flush_passes_over_a_topic_that_is_deleted_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with logstore.open(tmp_path) as store:
        for name in ("a", "b"):
            store.create_topic(name)
            store.log(name).append([b"x"])
        logs = store._data_dir.logs()
        monkeypatch.setattr(store._data_dir, "logs", lambda: logs)
        store.delete_topic("a")
        store.flush()
        assert store.log("b").synced_offset == 1
        monkeypatch.undo()


def test_a_closed_store_says_so_to_every_call(tmp_path: Path) -> None:
    store = logstore.open(tmp_path)
    store.create_topic("t")
    log = store.log("t")
    log.append([b"x"])
    store.close()
    calls: list[Any] = [
        lambda: store.create_topic("u"),
        lambda: store.alter_topic("t", {"retention.ms": 5}),
        lambda: store.delete_topic("t"),
        lambda: store.log("t"),
        lambda: store.advance_log_start("t", 0, 1),
        lambda: log.append([b"y"]),
        lambda: log.view,
    ]
    for call in calls:
        with pytest.raises(logstore.Closed, match="is closed; open it again"):
            call()
    with logstore.open(tmp_path, read_only=True) as reader:
        assert [topic.name for topic in reader.topics()] == ["t"]
    with pytest.raises(logstore.Closed):
        reader.topics()


def test_a_read_only_store_changes_nothing_and_says_so(tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store:
        store.create_topic("t")
        store.log("t").append([b"x"])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with logstore.open(tmp_path, read_only=True) as reader:
        calls: list[Any] = [
            lambda: reader.create_topic("u"),
            lambda: reader.alter_topic("t", {"retention.ms": 5}),
            lambda: reader.delete_topic("t"),
            lambda: reader.advance_log_start("t", 0, 1),
        ]
        for call in calls:
            with pytest.raises(logstore.ReadOnly, match="open it without read_only"):
                call()
        assert [record.value for record in reader.log("t").records(0)] == [b"x"]
        with pytest.raises(logstore.UnknownPartition):
            reader.log("t", 1)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_deleted_records_cannot_be_read_and_the_start_never_moves_back(tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store:
        store.create_topic("t")
        log = store.log("t")
        log.append([b"%d" % n for n in range(10)])
        assert store.advance_log_start("t", 0, 4) == 4
        assert store.advance_log_start("t", 0, 2) == 4
        for offset in (11, -1):
            with pytest.raises(logstore.OffsetOutOfRange, match="the log holds 4 to 10"):
                store.advance_log_start("t", 0, offset)
        with pytest.raises(logstore.OffsetOutOfRange):
            log.read(3)
        assert [record.offset for record in log.records(4)] == [4, 5, 6, 7, 8, 9]
    with logstore.open(tmp_path, read_only=True) as reader:
        assert reader.log("t").log_start_offset == 4


def test_a_flush_puts_every_partition_on_the_disk(tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store:
        store.create_topic("t", 3)
        for partition in range(3):
            assert store.log("t", partition).append([b"x"]).durability is Durability.OS
        store.flush()
        assert [store.log("t", partition).synced_offset for partition in range(3)] == [1, 1, 1]


def test_an_error_inside_the_with_block_still_closes_cleanly(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), logstore.open(tmp_path):
        raise ZeroDivisionError
    with logstore.open(tmp_path) as store:
        assert store._data_dir.was_clean


NO_PARTITIONS: list[Any] = ["0", "0/../t_0", -1, 1, True, False, 0.0, None, [], "../t_0"]


@pytest.mark.parametrize("read_only", [False, True])
def test_a_partition_is_a_number_that_the_topic_has(read_only: bool, tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store:
        store.create_topic("t")
        store.log("t").append([b"x"])
    (tmp_path / "t_1").mkdir()
    with logstore.open(tmp_path, read_only=read_only) as opened:
        for partition in NO_PARTITIONS:
            with pytest.raises(logstore.UnknownPartition):
                opened.log("t", partition)
        assert next(iter(opened.log("t", 0).records(0))).value == b"x"


@pytest.mark.parametrize("read_only", [False, True])
def test_a_topic_that_is_no_name_is_unknown(read_only: bool, tmp_path: Path) -> None:
    logstore.open(tmp_path).close()
    topics: list[Any] = [[], {}, None, 5, b"t"]
    with logstore.open(tmp_path, read_only=read_only) as opened:
        for topic in topics:
            for call in (opened.log, opened.topic):
                with pytest.raises(logstore.UnknownTopic):
                    call(topic)


@pytest.mark.parametrize("settings", [[], "", "retention.ms", [("retention.ms", 5)], 5, {5: 5}])
def test_settings_that_are_no_mapping_are_refused(settings: Any, tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store:
        before = store.create_topic("t")
        with pytest.raises(logstore.InvalidArgument, match="a mapping of names to values"):
            store.alter_topic("t", settings)
        assert store.topic("t") == before


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("path", [None, 5, b"data", "a\0b", "\ud800", ["data"]])
def test_what_is_no_path_is_refused(path: Any, read_only: bool) -> None:
    with pytest.raises(logstore.InvalidArgument, match="it is no path"):
        logstore.open(path, read_only=read_only)
