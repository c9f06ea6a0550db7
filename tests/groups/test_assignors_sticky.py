"""The sticky strategies: even, as little moved as that takes, and never a partition with two owners."""

import time
from collections.abc import Callable
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from assignments import Group, Joining, Share, after, assign, groups, kept, partitions_of, subscribed, unevenness
from assignor_oracles import kafka_python
from logstore.format.consumer_protocol import Subscription, decode_subscription, encode_subscription
from logstore.format.filename import TopicPartition
from logstore.groups.assignors import ASSIGNORS, Assignor
from logstore.groups.requests import JoinedMember

STICKY, COOPERATIVE = ASSIGNORS["sticky"], ASSIGNORS["cooperative-sticky"]
BOTH = pytest.mark.parametrize("assignor", [STICKY, COOPERATIVE], ids=["sticky", "cooperative-sticky"])


def tp(topic: str, *partitions: int) -> tuple[TopicPartition, ...]:
    return tuple(TopicPartition(topic, partition) for partition in partitions)


def sizes(share: Share) -> list[int]:
    return sorted(len(partitions) for partitions in share.values())


def settled(assignor: Assignor, partition_counts: dict[str, int], members: list[Joining], generation: int = 5) -> Share:
    """As the members do it: one rebalance after the other, until none has to give anything up."""
    while True:
        share = assign(assignor, partition_counts, members)
        generation += 1
        owned = {member.member_id: set(member.owned) for member in members}
        if not assignor.is_cooperative or all(owned[member_id] <= share[member_id] for member_id in share):
            return share
        members = after(members, share, generation)


def best_unevenness(group: Group) -> int:
    """By giving the partitions out one by one, each time along the chain of moves that leads to the emptiest member."""
    held: Share = {member.member_id: set() for member in group.members}
    wanted = {member.member_id: set(member.topics) for member in group.members}
    for partition in sorted(subscribed(*group)):
        came_from: dict[str, tuple[str, TopicPartition] | None] = {
            member_id: None for member_id, topics in wanted.items() if partition.topic in topics
        }
        reached = list(came_from)
        for giver in reached:
            for taker in wanted.keys() - came_from.keys():
                for movable in held[giver]:
                    if movable.topic in wanted[taker]:
                        came_from[taker] = giver, movable
                        reached.append(taker)
                        break
        end = min(reached, key=lambda member_id: len(held[member_id]))
        while (link := came_from[end]) is not None:
            giver, movable = link
            held[giver].remove(movable)
            held[end].add(movable)
            end = giver
        held[end].add(partition)
    return unevenness(held)


# ------------------------------------------------------------------------------------------------------------ balance


@BOTH
@settings(max_examples=60)
@given(groups(equal=True))
def test_where_all_want_the_same_nobody_has_two_more_than_another(assignor: Assignor, group: Group) -> None:
    share = settled(assignor, *group)
    assert partitions_of(share) == subscribed(*group)
    assert sizes(share)[-1] - sizes(share)[0] <= 1


@BOTH
@settings(max_examples=120)
@given(groups())
def test_nothing_is_more_even_where_members_want_different_topics(assignor: Assignor, group: Group) -> None:
    share = settled(assignor, *group)
    assert partitions_of(share) == subscribed(*group)
    assert unevenness(share) == best_unevenness(group)


def test_a_chain_of_moves_is_found() -> None:
    members = [
        Joining("m0", ("a",), tp("a", 0, 1, 2, 3), 1),
        Joining("m1", ("a", "b"), tp("b", 0, 1), 1),
        Joining("m2", ("b", "c"), (), 1),
    ]
    assert sizes(assign(STICKY, {"a": 4, "b": 2, "c": 0}, members)) == [2, 2, 2]


# --------------------------------------------------------------------------------------------------------- stickiness


@BOTH
@settings(max_examples=60)
@given(groups())
def test_an_assignment_that_was_made_is_made_again(assignor: Assignor, group: Group) -> None:
    share = settled(assignor, *group)
    assert assign(assignor, group.partition_counts, after(group.members, share, 9)) == share


@BOTH
@settings(max_examples=60)
@given(groups(equal=True), st.integers(0, 5))
def test_when_a_member_leaves_only_its_partitions_move(assignor: Assignor, group: Group, index: int) -> None:
    share = settled(assignor, *group)
    members = after(group.members, share, 9)
    members.pop(index % len(members))
    now = assign(assignor, group.partition_counts, members)
    assert all(share[member_id] <= partitions for member_id, partitions in now.items())
    assert not members or partitions_of(now) == subscribed(group.partition_counts, members)


@BOTH
@settings(max_examples=60)
@given(groups(equal=True))
def test_when_a_member_joins_it_alone_gets_partitions_and_no_more_than_its_part(
    assignor: Assignor, group: Group
) -> None:
    share = settled(assignor, *group)
    members = [*after(group.members, share, 9), Joining("new", group.members[0].topics)]
    now = settled(assignor, group.partition_counts, members)
    assert all(now[member_id] <= partitions for member_id, partitions in share.items())
    assert len(now["new"]) == len(subscribed(*group)) // len(members)


@settings(max_examples=60)
@given(groups(equal=True))
def test_where_all_want_the_same_as_much_stays_as_can(group: Group) -> None:
    members = [member._replace(generation=1) for member in group.members]
    share = assign(STICKY, group.partition_counts, members)
    all_partitions = subscribed(*group)
    least, extra = divmod(len(all_partitions), len(members))
    held = sorted((len(set(member.owned) & all_partitions) for member in members), reverse=True)
    possible = sum(min(count, least + (index < extra)) for index, count in enumerate(held))
    assert kept(share, group.owned) == possible


@settings(max_examples=60)
@given(groups(equal=True))
def test_kafka_python_moves_as_much_or_more(group: Group) -> None:
    members = [member._replace(generation=1) for member in group.members]
    ours = assign(STICKY, group.partition_counts, members)
    theirs = kafka_python(StickyPartitionAssignor(), STICKY, Group(group.partition_counts, members))
    assert unevenness(ours) <= unevenness(theirs)
    assert kept(ours, group.owned) >= kept(theirs, group.owned)


def test_a_member_gives_up_as_much_of_each_topic() -> None:
    members = [Joining("m0", ("a", "b"), (*tp("a", 0, 1, 2, 3), *tp("b", 0, 1, 2, 3)), 1), Joining("m1", ("a", "b"))]
    assert assign(STICKY, {"a": 4, "b": 4}, members)["m1"] == {*tp("a", 2, 3), *tp("b", 2, 3)}


@BOTH
def test_a_new_topic_and_more_partitions_move_nothing(assignor: Assignor) -> None:
    members = [Joining(f"m{index}", ("a", "b")) for index in range(3)]
    share = assign(assignor, {"a": 6}, members)
    now = assign(assignor, {"a": 7, "b": 2}, after(members, share, 1))
    assert all(share[member_id] < partitions for member_id, partitions in now.items())


@BOTH
def test_what_does_not_exist_any_more_and_what_is_no_longer_wanted_is_not_kept(assignor: Assignor) -> None:
    members = [
        Joining("m0", ("a",), (*tp("a", 0, 9), *tp("gone", 0), *tp("b", 0)), 1),
        Joining("m1", ("b",), tp("a", 1), 1),
    ]
    share = settled(assignor, {"a": 2, "b": 1}, members)
    assert share == {"m0": set(tp("a", 0, 1)), "m1": set(tp("b", 0))}


@BOTH
def test_the_newest_generation_has_a_partition_that_two_claim(assignor: Assignor) -> None:
    for old, new in (("m0", "m1"), ("m1", "m0")):
        members = [Joining(new, ("a",), tp("a", 0, 1), 3), Joining(old, ("a",), tp("a", 0, 1, 2, 3), 2)]
        assert settled(assignor, {"a": 4}, members) == {new: set(tp("a", 0, 1)), old: set(tp("a", 2, 3))}


@BOTH
def test_a_partition_that_two_claim_in_one_generation_is_nobodys(assignor: Assignor) -> None:
    members = [Joining("m0", ("a",), tp("a", 0, 1), 3), Joining("m1", ("a",), tp("a", 1, 2), 3)]
    share = settled(assignor, {"a": 3}, members)
    assert share["m0"] >= set(tp("a", 0)) and share["m1"] >= set(tp("a", 2))
    assert partitions_of(share) == set(tp("a", 0, 1, 2))


# -------------------------------------------------------------------------------------------------- subscription bytes


def test_sticky_tells_what_it_had_as_user_data_and_owns_nothing() -> None:
    first = decode_subscription(STICKY.subscription(["b", "a"]))
    assert first == Subscription(("a", "b"))
    again = decode_subscription(STICKY.subscription(["a"], tp("a", 1, 0), 4))
    assert (again.owned, again.generation) == ((), 4)
    assert again.user_data == bytes.fromhex("00000001 000161 00000002 00000001 00000000 00000004")


def test_cooperative_sticky_tells_what_it_owns_in_the_field_for_that() -> None:
    said = decode_subscription(COOPERATIVE.subscription(["a"], tp("a", 1, 0), 4))
    assert said == Subscription(("a",), bytes.fromhex("00000004"), tp("a", 0, 1), 4)


def test_members_of_older_versions_say_their_generation_in_the_user_data() -> None:
    old, new = (Subscription(("a",), (3 + index).to_bytes(4, "big"), tp("a", 0), 3 + index) for index in range(2))
    members = [
        JoinedMember("m0", None, encode_subscription(old, 1)),
        JoinedMember("m1", None, encode_subscription(new, 1)),
    ]
    assert COOPERATIVE.assign({"a": 1}, members) == COOPERATIVE.assign({"a": 1}, [members[1], members[0]])
    assert COOPERATIVE.assign({"a": 1}, members)["m0"] == COOPERATIVE.assign({}, members)["m0"]  # nothing


@BOTH
@pytest.mark.parametrize("user_data", [b"", b"\0", b"\0\0\0\1\0", b"\xff" * 30])
def test_user_data_that_cannot_be_read_claims_nothing(assignor: Assignor, user_data: bytes) -> None:
    members = [
        JoinedMember("m0", None, encode_subscription(Subscription(("a",), user_data))),
        JoinedMember("m1", None, assignor.subscription(["a"], tp("a", 0), 1)),
    ]
    assert assignor.assign({"a": 2}, members) == {
        "m0": assignor.assign({"a": 2}, [members[0]])["m0"].replace(b"\0\0\0\2\0\0\0\0\0\0\0\1", b"\0\0\0\1\0\0\0\1"),
        "m1": assignor.assign({"a": 1}, [members[1]])["m1"],
    }


# -------------------------------------------------------------------------------------------------------- cooperative


@settings(max_examples=120)
@given(groups())
def test_nobody_is_given_what_another_still_holds_and_the_second_rebalance_ends_it(group: Group) -> None:
    members = [member._replace(generation=1) for member in group.members]
    first = assign(COOPERATIVE, group.partition_counts, members)
    for one, other in combinations(members, 2):
        assert not first[one.member_id] & set(other.owned)
        assert not first[other.member_id] & set(one.owned)
    rejoining = after(members, first, 2)
    second = assign(COOPERATIVE, group.partition_counts, rejoining)
    assert all(first[member_id] <= partitions for member_id, partitions in second.items())
    assert partitions_of(second) == subscribed(*group)
    assert assign(COOPERATIVE, group.partition_counts, after(members, second, 3)) == second


@settings(max_examples=60)
@given(groups())
def test_what_is_kept_and_where_it_ends_is_as_in_sticky(group: Group) -> None:
    at_once = assign(STICKY, *group)
    assert unevenness(settled(COOPERATIVE, *group)) == unevenness(at_once)
    first = assign(COOPERATIVE, *group)
    assert all(partitions <= at_once[member_id] for member_id, partitions in first.items())


def test_a_partition_that_moves_is_withheld_until_it_was_given_up() -> None:
    members = [Joining("m0", ("a",), tp("a", 0, 1, 2, 3), 1), Joining("m1", ("a",))]
    first = assign(COOPERATIVE, {"a": 4}, members)
    assert first == {"m0": set(tp("a", 0, 1)), "m1": set()}
    assert assign(COOPERATIVE, {"a": 4}, after(members, first, 2)) == {
        "m0": set(tp("a", 0, 1)),
        "m1": set(tp("a", 2, 3)),
    }


# -------------------------------------------------------------------------------------------------------------- speed


@pytest.mark.parametrize("equal", [True, False], ids=["equal", "different"])
def test_two_thousand_partitions_and_two_hundred_members_take_well_under_a_second(
    equal: bool, record_property: Callable[[str, object], None]
) -> None:
    counts = {f"t{index:02}": 100 for index in range(20)}
    names = sorted(counts)
    members = [
        Joining(f"m{index:03}", tuple(names if equal else names[index % 20 :] + names[: index % 10]))
        for index in range(200)
    ]
    everything = tuple(TopicPartition(topic, partition) for topic in names for partition in range(100))
    members[0] = members[0]._replace(owned=everything, generation=1, topics=tuple(names))  # all but ten have to move
    joining = [
        JoinedMember(member.member_id, None, STICKY.subscription(member.topics, member.owned, member.generation))
        for member in members
    ]
    start = time.perf_counter()
    STICKY.assign(counts, joining)
    seconds = time.perf_counter() - start
    record_property(
        f"sticky, 2000 partitions, 200 members, {'equal' if equal else 'different'} topics", f"{seconds:.3f} s"
    )
    assert seconds < 3  # a tenth of a second, but for busy machines
