"""Fetching committed offsets over the wire, by every version."""

import pytest

from logstore.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from wire_client import WireClient
from wire_members import GroupBroker, commit, fetch


@pytest.mark.parametrize("version", range(1, 8))
def test_before_version_8_one_group_is_asked_for(group_broker: GroupBroker, version: int) -> None:
    with WireClient(group_broker.address) as client:
        commit(client, "g", {("orders", 1): 5})
        topic = OffsetFetchRequestTopic("orders", [0, 1])
        found = client.ask(OffsetFetchRequest("g", topics=[topic], require_stable=True), version)
        assert found.error_code == 0 and [one.name for one in found.topics] == ["orders"]
        assert [
            (one.partition_index, one.committed_offset, one.committed_leader_epoch, one.metadata, one.error_code)
            for one in found.topics[0].partitions
        ] == [(0, -1, -1, "", 0), (1, 5, -1, "orders 1", 0)]
        if version >= 2:
            [everything] = client.ask(OffsetFetchRequest("g", topics=None), version).topics
            assert [(one.partition_index, one.committed_offset) for one in everything.partitions] == [(1, 5)]


@pytest.mark.parametrize("version", [8, 9])
def test_from_version_8_on_several_groups_are_asked_for(group_broker: GroupBroker, version: int) -> None:
    with WireClient(group_broker.address) as client:
        commit(client, "a", {("orders", 0): 1, ("orders", 2): 3})
        commit(client, "b", {("orders", 0): 7})
        asked = [
            OffsetFetchRequestGroup("a", topics=None),
            OffsetFetchRequestGroup("b", topics=[OffsetFetchRequestTopics("orders", partition_indexes=[0, 1])]),
            OffsetFetchRequestGroup("c", topics=None),
        ]
        found = client.ask(OffsetFetchRequest(groups=asked, require_stable=True), version)
    assert [(group.group_id, group.error_code) for group in found.groups] == [("a", 0), ("b", 0), ("c", 0)]
    assert [
        [(topic.name, one.partition_index, one.committed_offset) for topic in group.topics for one in topic.partitions]
        for group in found.groups
    ] == [[("orders", 0, 1), ("orders", 2, 3)], [("orders", 0, 7), ("orders", 1, -1)], []]


def test_a_group_or_a_topic_that_nobody_knows_has_committed_nothing_which_is_no_error(
    group_broker: GroupBroker,
) -> None:
    with WireClient(group_broker.address) as client:
        assert fetch(client, "never heard of") == {}
        assert fetch(client, "never heard of", {"nor of this": [0, 9]}) == {
            ("nor of this", 0): -1,
            ("nor of this", 9): -1,
        }
        assert fetch(client, "", {"orders": [0]}) == {("orders", 0): -1}


def test_a_topic_without_partitions_is_answered_without_any_as_in_kafka(group_broker: GroupBroker) -> None:
    asked = OffsetFetchRequestGroup("g", topics=[OffsetFetchRequestTopics("orders", partition_indexes=[])])
    with WireClient(group_broker.address) as client:
        [group] = client.ask(OffsetFetchRequest(groups=[asked]), 9).groups
        older = client.ask(OffsetFetchRequest("g", [OffsetFetchRequestTopic("orders", [])]), 7)
    assert [(topic.name, topic.partitions) for topic in (*group.topics, *older.topics)] == [("orders", ())] * 2
