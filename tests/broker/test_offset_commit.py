"""Committing offsets over the wire: what is refused, partition by partition, and that an answer means the disk."""

import threading

import pytest

from logstore.format.filename import TopicPartition
from logstore.groups.requests import OffsetAndMetadata
from logstore.storage import files
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from logstore.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from wire_client import WireClient
from wire_members import GroupBroker, commit, fetch

P0, P1 = TopicPartition("orders", 0), TopicPartition("orders", 1)


@pytest.mark.parametrize("version", range(2, 10))
def test_offsets_are_on_the_disk_when_the_commit_is_answered(group_broker: GroupBroker, version: int) -> None:
    groups = group_broker.broker.groups
    partition = OffsetCommitRequestPartition(1, 5, 3, "why not")
    bare = OffsetCommitRequestPartition(0, 7, committed_metadata=None)
    request = OffsetCommitRequest("g", topics=[OffsetCommitRequestTopic(name="orders", partitions=[partition, bare])])
    with WireClient(group_broker.address) as client:
        answer = client.ask(request, version)
    assert [(one.partition_index, one.error_code) for one in answer.topics[0].partitions] == [(1, 0), (0, 0)]
    log = groups.log_of("g")
    assert log.synced_offset == log.log_end_offset == 2
    epoch = 3 if version >= 6 else -1
    assert groups.committed("g") == {P0: OffsetAndMetadata(7), P1: OffsetAndMetadata(5, "why not", epoch)}


def test_what_is_wrong_with_one_partition_keeps_only_that_from_being_committed(group_broker: GroupBroker) -> None:
    long_text = OffsetCommitRequestPartition(2, 1, committed_metadata="x" * 4097)
    with WireClient(group_broker.address) as client:
        wanted = {("orders", 0): 1, ("orders", 3): 1, ("never heard of", 0): 1, ("orders", -1): 1}
        assert commit(client, "g", wanted) == {
            ("orders", 0): ErrorCode.NONE,
            ("orders", 3): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            ("never heard of", 0): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            ("orders", -1): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        }
        topic = OffsetCommitRequestTopic(name="orders", partitions=[long_text])
        answer = client.ask(OffsetCommitRequest("g", topics=[topic]), 9)
        assert answer.topics[0].partitions[0].error_code == ErrorCode.OFFSET_METADATA_TOO_LARGE
    assert set(group_broker.broker.groups.committed("g")) == {P0}


def test_what_is_wrong_with_the_member_is_told_of_every_partition(group_broker: GroupBroker) -> None:
    member = group_broker.member(instance_id="i").enter()

    def codes(*who: object, group: str = "g", version: int = 9) -> set[int]:
        told = commit(member.client, group, {("orders", 0): 1, ("orders", 1): 1}, version, who)  # type: ignore[arg-type]
        assert len(told) == 2
        return set(told.values())

    assert codes(member.member_id, 1, "i") == {ErrorCode.NONE}
    assert codes(member.member_id, 0, "i") == {ErrorCode.ILLEGAL_GENERATION}
    assert codes("a stranger", 1, None) == {ErrorCode.UNKNOWN_MEMBER_ID}
    assert codes("a stranger", 1, "i") == {ErrorCode.FENCED_INSTANCE_ID}
    assert codes("", -1, None) == {ErrorCode.UNKNOWN_MEMBER_ID}
    assert codes("", -1, None, group="") == {ErrorCode.INVALID_GROUP_ID}
    assert codes("m", 1, None, group="never heard of") == {ErrorCode.GROUP_ID_NOT_FOUND}
    assert codes("m", 1, None, group="never heard of", version=8) == {ErrorCode.ILLEGAL_GENERATION}


def test_offsets_that_are_none_are_taken_since_some_clients_mean_the_ends_of_the_log_by_them(
    group_broker: GroupBroker,
) -> None:
    with WireClient(group_broker.address) as client:
        assert set(commit(client, "g", {("orders", 0): -1, ("orders", 1): -2}).values()) == {ErrorCode.NONE}
        assert fetch(client, "g") == {("orders", 0): -1, ("orders", 1): -2}


def test_nobody_commits_while_assignments_are_made(group_broker: GroupBroker) -> None:
    member = group_broker.member()
    member.join()
    assert member.commit({("orders", 0): 1}) == {("orders", 0): ErrorCode.REBALANCE_IN_PROGRESS}


@pytest.mark.parametrize("version", [2, 3, 4])
def test_old_clients_may_say_how_long_an_offset_stays(group_broker: GroupBroker, version: int) -> None:
    with WireClient(group_broker.address) as client:
        commit(client, "g", {("orders", 0): 1}, version, retention_time_ms=0)
        commit(client, "g", {("orders", 1): 1}, version)
    groups = group_broker.broker.groups
    groups.expire_offsets()
    assert set(groups.committed("g")) == {P1}


@pytest.mark.parametrize("group_settings", [{"log_flush_interval_messages": 1}])
def test_whatever_flush_messages_asks_the_event_loop_waits_for_no_sync_and_a_commit_is_answered_after_one(
    group_broker: GroupBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, synced_in = files.File.sync, set()

    def noted(file: files.File) -> None:
        synced_in.add(threading.current_thread().name)
        sync(file)

    monkeypatch.setattr(files.File, "sync", noted)
    group_broker.broker.waits_for_disk = False  # by acks.all.durability=os
    member = group_broker.member().enter()
    assert member.commit({P0: 5}) == {P0: ErrorCode.NONE}
    log = group_broker.broker.groups.log_of("g")
    assert log.synced_offset == log.log_end_offset
    joining = ConsumerGroupHeartbeatRequest("new", "m", 0, None, None, 10_000, ["orders"], topic_partitions=[])
    assert member.client.ask(joining, 1).error_code == ErrorCode.NONE
    assert member.leave() == ErrorCode.NONE
    assert synced_in and not [name for name in synced_in if name.startswith("logstore-serve")]
