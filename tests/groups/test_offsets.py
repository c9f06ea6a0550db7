"""What may be committed, and when it expires: values in, decisions out."""

from typing import Any

import pytest

from logstore.errors import InvalidArgument, InvalidGroupId, OffsetMetadataTooLarge
from logstore.format.filename import TopicPartition
from logstore.format.offsets_topic import OffsetCommitValue
from logstore.groups.offsets import check_group_id, check_offsets, check_partitions, expired, refusal
from logstore.groups.requests import OffsetAndMetadata

DAY_MS = 86_400_000
NOW = 1_700_000_000_000
WEEK_MS = 7 * DAY_MS
A, B = TopicPartition("a", 0), TopicPartition("b", 1)

# ---------------------------------------------------------------------------------------------------------- what may be


@pytest.mark.parametrize("group", ["g", "a group / of #1", "Gruppe-ä", "x" * 32_767])
def test_any_text_is_a_group_id(group: str) -> None:
    assert check_group_id(group) == group


@pytest.mark.parametrize("group", ["", None, b"g", 7, "x" * 32_768, "\ud800", "ä" * 16_384])
def test_what_is_empty_no_text_or_too_long_is_no_group_id(group: object) -> None:
    with pytest.raises(InvalidGroupId) as raised:
        check_group_id(group)
    assert len(str(raised.value)) < 600


@pytest.mark.parametrize(
    ("committed", "error"),
    [
        (OffsetAndMetadata(0), None),
        (OffsetAndMetadata(2**63 - 1, "x" * 4096, 2**31 - 1), None),
        (OffsetAndMetadata(-1), InvalidArgument),
        (OffsetAndMetadata(2**63), InvalidArgument),
        (OffsetAndMetadata(True), InvalidArgument),
        (OffsetAndMetadata("7"), InvalidArgument),  # type: ignore[arg-type]
        (OffsetAndMetadata(7, None), InvalidArgument),  # type: ignore[arg-type]
        (OffsetAndMetadata(7, "\udfff"), InvalidArgument),
        (OffsetAndMetadata(7, "", -2), InvalidArgument),
        (OffsetAndMetadata(7, "", 2**31), InvalidArgument),
        (OffsetAndMetadata(7, "x" * 4097), OffsetMetadataTooLarge),
        (OffsetAndMetadata(7, "ä" * 2049), OffsetMetadataTooLarge),
    ],
)
def test_an_offset_is_refused_for_what_the_schema_or_the_settings_do_not_allow(
    committed: OffsetAndMetadata, error: type[Exception] | None
) -> None:
    assert type(refusal(committed, 4096)) is (error or type(None))


@pytest.mark.parametrize(
    "offsets", [None, [], [(A, 1)], {A: 5.0}, {A: True}, {"a": OffsetAndMetadata(1)}, {("a", "0"): (1, "", -1)}]
)
def test_offsets_of_another_form_are_refused_as_a_whole(offsets: object) -> None:
    with pytest.raises(InvalidArgument):
        check_offsets(offsets)


@pytest.mark.parametrize("partitions", [None, 7, "ab", b"ab", ["ab"], [("a",)], [("a", True)], [(7, 0)], [["a", 0]]])
def test_partitions_of_another_form_are_refused(partitions: object) -> None:
    with pytest.raises(InvalidArgument):
        check_partitions(partitions)


def test_plain_pairs_are_partitions() -> None:
    assert check_partitions([("a", 0), B]) == [A, B]
    assert check_offsets({("a", 0): OffsetAndMetadata(3), B: 4}) == {A: OffsetAndMetadata(3), B: OffsetAndMetadata(4)}


# --------------------------------------------------------------------------------------------------------------- expiry


def commit(age_ms: int, **fields: Any) -> OffsetCommitValue:
    return OffsetCommitValue(5, commit_timestamp=NOW - age_ms, **fields)


def expire(commits: dict[TopicPartition, OffsetCommitValue], **facts: Any) -> list[TopicPartition]:
    defaults: dict[str, Any] = {
        "state": "Empty",
        "protocol_type": "consumer",
        "empty_since_ms": -1,
        "subscribed_topics": None,
    }
    return expired(commits, NOW, WEEK_MS, **{**defaults, **facts})


def test_offsets_of_a_group_that_never_had_members_expire_each_from_its_commit() -> None:
    commits = {A: commit(WEEK_MS), B: commit(WEEK_MS - 1)}
    assert expire(commits, protocol_type="") == [A]
    # The time of a state that says nothing of members says nothing of them here either.
    assert expire(commits, protocol_type="", empty_since_ms=NOW) == [A]


@pytest.mark.parametrize(("empty_for_ms", "gone"), [(WEEK_MS, [A, B]), (WEEK_MS - 1, []), (30 * DAY_MS, [A, B])])
def test_offsets_of_a_group_that_lost_its_members_expire_together_from_that_time(
    empty_for_ms: int, gone: list[TopicPartition]
) -> None:
    commits = {A: commit(40 * DAY_MS), B: commit(31 * DAY_MS)}
    assert expire(commits, empty_since_ms=NOW - empty_for_ms) == gone


def test_an_offset_that_was_committed_after_the_group_had_become_empty_stays_from_then_on() -> None:
    commits = {A: commit(DAY_MS), B: commit(8 * DAY_MS)}
    assert expire(commits, empty_since_ms=NOW - WEEK_MS) == [B]


def test_where_it_is_not_known_since_when_a_group_is_empty_the_commits_count() -> None:
    assert expire({A: commit(WEEK_MS), B: commit(DAY_MS)}) == [A]


def test_in_a_group_with_members_offsets_of_topics_that_none_is_subscribed_to_expire() -> None:
    commits = {A: commit(30 * DAY_MS), B: commit(WEEK_MS)}
    facts: dict[str, Any] = {"state": "Stable", "empty_since_ms": NOW}
    assert expire(commits, subscribed_topics=frozenset({"a"}), **facts) == [B]
    assert expire(commits, subscribed_topics=frozenset({"a", "b"}), **facts) == []
    assert expire(commits, subscribed_topics=None, **facts) == []


@pytest.mark.parametrize("state", ["PreparingRebalance", "CompletingRebalance", "Dead"])
def test_nothing_expires_while_a_group_is_about_to_have_members(state: str) -> None:
    assert expire({A: commit(30 * DAY_MS)}, state=state, subscribed_topics=frozenset()) == []


def test_in_a_group_with_members_of_another_protocol_nothing_expires() -> None:
    facts: dict[str, Any] = {"state": "Stable", "protocol_type": "connect", "subscribed_topics": frozenset()}
    assert expire({A: commit(30 * DAY_MS)}, **facts) == []


def test_a_commit_that_carries_a_time_of_its_own_expires_then() -> None:
    commits = {A: commit(30 * DAY_MS, expire_timestamp=NOW + 1), B: commit(0, expire_timestamp=NOW)}
    assert expire(commits, protocol_type="") == [B]
