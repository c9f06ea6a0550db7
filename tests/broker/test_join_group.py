"""Joining a group over the wire: who is told what, in which version."""

import time

import pytest

from logstore.wire.error_codes import ErrorCode
from wire_members import GroupBroker, WireMember, protocol


@pytest.mark.parametrize("version", range(4))
def test_before_version_4_a_new_member_is_taken_in_at_once(group_broker: GroupBroker, version: int) -> None:
    member = group_broker.member()
    joined = member.join(version)
    assert (joined.error_code, joined.generation_id, joined.protocol_name) == (0, 1, "range")
    assert joined.member_id == joined.leader and joined.member_id.startswith("a member-")
    assert [one.member_id for one in joined.members] == [joined.member_id]


@pytest.mark.parametrize("version", range(4, 10))
def test_from_version_4_on_a_new_member_is_told_its_id_and_comes_again(group_broker: GroupBroker, version: int) -> None:
    member = group_broker.member()
    told = member.client.ask(member.join_request(), version)
    assert told.error_code == ErrorCode.MEMBER_ID_REQUIRED and told.member_id.startswith("a member-")
    assert (told.generation_id, told.leader, told.members) == (-1, "", ())
    assert told.protocol_name == (None if version >= 7 else "")
    joined = member.client.ask(member.join_request(member_id=told.member_id), version)
    assert (joined.error_code, joined.member_id, joined.leader) == (0, told.member_id, told.member_id)
    assert bytes(joined.members[0].metadata) == bytes(protocol().metadata)
    assert joined.protocol_type == ("consumer" if version >= 7 else None)


@pytest.mark.parametrize("version", [0, 5, 9])
def test_every_error_is_told_with_the_id_that_was_sent(group_broker: GroupBroker, version: int) -> None:
    member = group_broker.member()

    def ask(**fields: object) -> tuple[int, str, int]:
        told = member.client.ask(member.join_request(**fields), version)
        return told.error_code, told.member_id, told.generation_id

    assert ask(group_id="") == (ErrorCode.INVALID_GROUP_ID, "", -1)
    assert ask(session_timeout_ms=99) == (ErrorCode.INVALID_SESSION_TIMEOUT, "", -1)
    assert ask(session_timeout_ms=1_800_001) == (ErrorCode.INVALID_SESSION_TIMEOUT, "", -1)
    assert ask(member_id="a stranger") == (ErrorCode.UNKNOWN_MEMBER_ID, "a stranger", -1)
    assert ask(protocols=[]) == (ErrorCode.INCONSISTENT_GROUP_PROTOCOL, "", -1)
    assert ask(protocol_type="") == (ErrorCode.INCONSISTENT_GROUP_PROTOCOL, "", -1)
    group_broker.member().enter()
    assert ask(protocols=[protocol("roundrobin")]) == (ErrorCode.INCONSISTENT_GROUP_PROTOCOL, "", -1)
    assert ask(protocol_type="connect") == (ErrorCode.INCONSISTENT_GROUP_PROTOCOL, "", -1)


def test_a_static_instance_that_is_back_fences_its_former_self(group_broker: GroupBroker) -> None:
    former = group_broker.member(instance_id="i").enter()
    assert former.member_id.startswith("i-")
    back = group_broker.member(instance_id="i")
    joined = back.join()
    assert (joined.error_code, joined.generation_id, joined.skip_assignment) == (0, 1, True)
    assert joined.leader == joined.member_id != former.member_id
    assert [one.group_instance_id for one in joined.members] == ["i"]
    assert bytes(back.sync().assignment) == b"all"
    told = former.client.ask(former.join_request(), 9)
    assert (told.error_code, told.member_id) == (ErrorCode.FENCED_INSTANCE_ID, former.member_id)
    assert former.heartbeat() == former.sync().error_code == ErrorCode.FENCED_INSTANCE_ID
    assert former.leave() == ErrorCode.FENCED_INSTANCE_ID


@pytest.mark.parametrize("version", [5, 8])
def test_a_static_leader_of_before_version_9_is_told_that_its_former_self_leads(
    group_broker: GroupBroker, version: int
) -> None:
    former = group_broker.member(instance_id="i").enter()
    back = group_broker.member(instance_id="i")
    joined = back.join(version)
    assert (joined.error_code, joined.leader, joined.members) == (0, former.member_id, ())
    assert bytes(back.sync(version=3).assignment) == b"all"


@pytest.mark.parametrize("group_settings", [{"group_max_size": 1}])
def test_a_full_group_takes_nobody_in(group_broker: GroupBroker) -> None:
    group_broker.member().enter()
    late = group_broker.member()
    told = late.client.ask(late.join_request(), 3)
    assert (told.error_code, told.member_id) == (ErrorCode.GROUP_MAX_SIZE_REACHED, "")


def test_a_rebalance_waits_for_all_members_and_tells_the_leader_of_each(group_broker: GroupBroker) -> None:
    first = group_broker.member().enter()
    second = group_broker.member()
    second.ask_to_join()
    wait_until_rebalancing(first)
    first.ask_to_join()
    led, followed = first.joined(), second.joined()
    assert led.generation_id == followed.generation_id == 2
    assert {one.member_id for one in led.members} == {first.member_id, second.member_id}
    assert followed.members == () and followed.leader == first.member_id
    second.ask_to_sync()
    synced = first.sync({first.member_id: b"one", second.member_id: b"two"})
    assert (bytes(synced.assignment), bytes(second.client.receive().assignment)) == (b"one", b"two")
    assert (synced.protocol_type, synced.protocol_name) == ("consumer", "range")


def test_a_member_whose_connection_ends_while_it_joins_does_not_keep_the_others_from_going_on(
    group_broker: GroupBroker,
) -> None:
    first = group_broker.member(rebalance_timeout_ms=300, session_timeout_ms=300).enter()
    gone = group_broker.member(rebalance_timeout_ms=300, session_timeout_ms=300)
    gone.ask_to_join()
    wait_until_rebalancing(first)
    gone.close()
    assert first.join().generation_id == 2
    assert first.sync({first.member_id: b"all"}).error_code == ErrorCode.NONE
    while (code := first.heartbeat()) == ErrorCode.NONE:  # until the other one, which does not sync, is taken out
        time.sleep(0.02)
    assert code == ErrorCode.REBALANCE_IN_PROGRESS
    assert [one.member_id for one in first.join().members] == [first.member_id]


def wait_until_rebalancing(member: WireMember) -> None:
    while (code := member.heartbeat()) == ErrorCode.NONE:
        time.sleep(0.01)
    assert code == ErrorCode.REBALANCE_IN_PROGRESS
