import pytest
from aiokafka.coordinator.assignors.range import RangePartitionAssignor as AioRange
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor as AioRoundRobin
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from assignments import Group, Joining, Share, assign, groups, joined, kept, partitions_of, subscribed, unevenness
from assignor_oracles import Cluster, kafka_assignments, kafka_python, shares_of
from logstore.errors import CorruptData
from logstore.format.filename import TopicPartition
from logstore.groups.assignors import ASSIGNORS, subscribed_topics
from logstore.groups.requests import JoinedMember

RANGE, ROUNDROBIN = ASSIGNORS["range"], ASSIGNORS["roundrobin"]
EAGER = [assignor for assignor in ASSIGNORS.values() if not assignor.is_cooperative]
ALL = pytest.mark.parametrize("assignor", ASSIGNORS.values(), ids=ASSIGNORS)


def numbers(share: Share, topic: str) -> dict[str, list[int]]:
    return {member_id: sorted(p for t, p in partitions if t == topic) for member_id, partitions in share.items()}


# ------------------------------------------------------------------------------------------------------------ of all


def test_the_names_are_kafkas_and_one_strategy_is_cooperative() -> None:
    assert list(ASSIGNORS) == ["range", "roundrobin", "sticky", "cooperative-sticky"]
    assert [name for name, assignor in ASSIGNORS.items() if assignor.is_cooperative] == ["cooperative-sticky"]


@ALL
@given(group=groups(owning=False), seed=st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_every_partition_of_a_subscribed_topic_goes_to_one_subscriber(assignor, group: Group, seed) -> None:
    share = assign(assignor, *group)
    assert partitions_of(share) == subscribed(*group)
    shuffled = seed.sample(group.members, len(group.members))
    assert assign(assignor, group.partition_counts, shuffled) == share  # the order of joining does not matter


@ALL
def test_without_members_there_is_nothing_to_assign(assignor) -> None:
    assert assignor.assign({"a": 3}, []) == {}


@ALL
def test_surplus_members_get_an_empty_assignment(assignor) -> None:
    members = [Joining(f"m{index}", ("a",)) for index in range(5)]
    share = assign(assignor, {"a": 2}, members)
    assert sorted(len(partitions) for partitions in share.values()) == [0, 0, 0, 1, 1]


@ALL
def test_a_topic_that_does_not_exist_has_no_partitions(assignor) -> None:
    members = [Joining("m0", ("gone", "empty")), Joining("m1", ())]
    assert assign(assignor, {"empty": 0, "other": 3}, members) == {"m0": set(), "m1": set()}


@ALL
def test_static_members_keep_their_places_when_they_come_back_with_other_ids(assignor) -> None:
    before = [Joining("m1", ("a",), instance_id="y"), Joining("m2", ("a",), instance_id="x"), Joining("m0", ("a",))]
    first = numbers(assign(assignor, {"a": 6}, before), "a")
    second = numbers(assign(assignor, {"a": 6}, [before[0]._replace(member_id="zz"), *before[1:]]), "a")
    assert second["zz"] == first["m1"] and second["m2"] == first["m2"] and second["m0"] == first["m0"]


@ALL
def test_a_subscription_that_cannot_be_read_is_told_by_its_member(assignor) -> None:
    members = [JoinedMember("m0", None, assignor.subscription(["a"])), JoinedMember("m1", None, b"\0\3\1")]
    with pytest.raises(CorruptData, match="subscription of member 'm1'"):
        assignor.assign({"a": 1}, members)
    with pytest.raises(CorruptData, match="subscription of member 'm1'"):
        subscribed_topics(members)


def test_the_topics_of_a_group_are_all_that_somebody_wants() -> None:
    members = joined(RANGE, [Joining("m0", ("a", "b")), Joining("m1", ("b", "c")), Joining("m2", ())])
    assert subscribed_topics(members) == {"a", "b", "c"}


# ------------------------------------------------------------------------------------------------- range, roundrobin


def test_range_gives_runs_and_topics_of_a_size_alike() -> None:
    members = [Joining("m1", ("a", "b")), Joining("m0", ("a", "b")), Joining("m2", ("a", "b"), instance_id="i")]
    share = assign(RANGE, {"a": 7, "b": 7}, members)
    expected = {"m2": [0, 1, 2], "m0": [3, 4], "m1": [5, 6]}
    assert numbers(share, "a") == numbers(share, "b") == expected


def test_roundrobin_deals_across_topics_and_passes_over_who_is_not_subscribed() -> None:
    members = [Joining("m0", ("a",)), Joining("m1", ("a", "b")), Joining("m2", ("a", "b", "c"))]
    share = assign(ROUNDROBIN, {"a": 1, "b": 2, "c": 3}, members)
    tp = TopicPartition
    assert share == {
        "m0": {tp("a", 0)},
        "m1": {tp("b", 0)},
        "m2": {tp("b", 1), tp("c", 0), tp("c", 1), tp("c", 2)},
    }


@settings(max_examples=60)
@given(groups(equal=True, owning=False))
def test_roundrobin_is_even_where_all_want_the_same(group: Group) -> None:
    sizes = [len(partitions) for partitions in assign(ROUNDROBIN, *group).values()]
    assert max(sizes) - min(sizes) <= 1


# ------------------------------------------------------------------------------------------------------------- oracles


@pytest.mark.parametrize("index", range(40))
def test_kafka_shares_out_the_same_or_no_better(index: int) -> None:
    group, theirs = kafka_assignments()[index]
    for name in ("range", "roundrobin"):
        assert assign(ASSIGNORS[name], *group) == theirs[name]
    ours = assign(ASSIGNORS["sticky"], *group)
    assert (unevenness(ours), -kept(ours, group.owned)) <= (
        unevenness(theirs["sticky"]),
        -kept(theirs["sticky"], group.owned),
    )
    ours = assign(ASSIGNORS["cooperative-sticky"], *group)
    assert kept(ours, group.owned) >= kept(theirs["cooperative-sticky"], group.owned)


@settings(max_examples=80)
@given(groups(owning=False))
def test_kafka_pythons_range_is_the_same(group: Group) -> None:
    assert kafka_python(RangePartitionAssignor(), RANGE, group) == assign(RANGE, *group)


@settings(max_examples=80)
@given(groups(equal=True, owning=False))  # it fails where it has to pass over a member
def test_kafka_pythons_roundrobin_is_the_same(group: Group) -> None:
    assert kafka_python(RoundRobinPartitionAssignor(), ROUNDROBIN, group) == assign(ROUNDROBIN, *group)


@settings(max_examples=80)
@given(groups(owning=False))
def test_aiokafkas_range_and_roundrobin_are_the_same_without_static_members(group: Group) -> None:
    members = [member._replace(instance_id=None) for member in group.members]
    theirs = {m.member_id: ConsumerProtocolMemberMetadata(0, list(m.topics), b"") for m in members}
    for ours, aio in ((RANGE, AioRange), (ROUNDROBIN, AioRoundRobin)):
        share = assign(ours, group.partition_counts, members)
        assert shares_of(aio.assign(Cluster(group.partition_counts), theirs)) == share
