"""What is committed, when, and by whom; and that nothing is lost, or read twice without need."""

import random
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import logstore
from logstore.client.consumer import RebalanceListener
from logstore.client.embedded.consumer import feed, fetcher, holdings, membership, offsets, transactions
from logstore.client.embedded.consumer.consumer import EmbeddedConsumer
from logstore.client.embedded.store import Store
from logstore.errors import InvalidArgument, NoCommittedOffset, NotAssigned, OffsetMetadataTooLarge, UnknownMember
from logstore.format.filename import TopicPartition
from logstore.groups.requests import OffsetAndMetadata
from waits import wait_until

LONG_S = 20.0  # what never takes that long


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with logstore.open(tmp_path / "data", group_min_session_timeout_ms=1) as opened:
        opened.create_topic("orders", partitions=2)
        yield opened


def consumer(store: Store, **settings: Any) -> EmbeddedConsumer:
    return store.consumer("orders", group="g", **{"auto_offset_reset": "earliest", **settings})


def fill(store: Store, count: int, partition: int = 0) -> None:
    log = store.log("orders", partition)
    log.append([b"%d" % number for number in range(log.log_end_offset, log.log_end_offset + count)])


def committed(store: Store, partition: int = 0) -> int | None:
    found = store.groups.committed("g").get(TopicPartition("orders", partition))
    return None if found is None else found.offset


def poll(member: EmbeddedConsumer, count: int) -> list[int]:
    """The offsets of so many records, by one poll."""
    records = member.poll(LONG_S, max_records=count)
    assert len(records) == count
    return [record.offset for record in records]


# ------------------------------------------------------------------------------------------------------------- commits


def test_commit_records_the_positions_and_the_next_member_goes_on_there(store: Store) -> None:
    fill(store, 10)
    with consumer(store, enable_auto_commit=False) as member:
        assert poll(member, 4) == [0, 1, 2, 3]
        assert member.committed("orders", 0) is None
        member.commit()
        assert member.committed("orders", 0) == OffsetAndMetadata(4)
        poll(member, 3)
    with consumer(store) as member:
        assert poll(member, 6) == [4, 5, 6, 7, 8, 9]


def test_a_commit_is_there_after_the_store_was_opened_again(tmp_path: Path) -> None:
    with logstore.open(tmp_path / "data") as store:
        store.create_topic("orders", partitions=2)
        fill(store, 10)
        with consumer(store) as member:
            poll(member, 4)
            member.commit({("orders", 0): 2, ("orders", 1): OffsetAndMetadata(0, "why")})
            member.poll(0, max_records=1)
            member._offsets.identity = member._offsets.identity._replace(generation=99)  # close cannot commit
    with logstore.open(tmp_path / "data") as store, consumer(store) as member:
        assert poll(member, 1) == [2]
        assert member.committed("orders", 1) == OffsetAndMetadata(0, "why")


def test_only_what_is_assigned_can_be_committed_and_only_for_a_group(store: Store) -> None:
    with consumer(store) as member:
        with pytest.raises(NotAssigned):
            member.commit({("orders", 0): 1})
        member.poll(0.01)
        with pytest.raises(NotAssigned):
            member.commit({("orders", 7): 1})
        for offsets in ({("orders", 0): -1}, {("orders", 0): "1"}, {"orders": 1}):
            with pytest.raises(InvalidArgument):
                member.commit(offsets)  # type: ignore[arg-type]
        with pytest.raises(OffsetMetadataTooLarge):
            member.commit({("orders", 0): OffsetAndMetadata(1, "x" * 5000)})
    with store.consumer("orders") as alone:
        for call in (alone.commit, lambda: alone.committed("orders", 0)):
            with pytest.raises(InvalidArgument):
                call()


def test_partitions_that_were_assigned_by_hand_can_be_committed_while_the_group_has_no_members(store: Store) -> None:
    fill(store, 10)
    with store.consumer(group="g", assignment=[("orders", 0)], auto_offset_reset="earliest") as by_hand:
        poll(by_hand, 5)
        by_hand.commit()
        poll(by_hand, 1)
        assert committed(store) == 5
    assert committed(store) == 6, "what was polled before it was closed"
    with consumer(store) as member, store.consumer(group="g", assignment=[("orders", 0)]) as by_hand:
        assert poll(member, 4) == [6, 7, 8, 9]
        with pytest.raises(UnknownMember):
            by_hand.commit()


def test_without_a_committed_offset_and_without_reset_a_poll_says_so_until_somebody_seeks(store: Store) -> None:
    fill(store, 3)
    with consumer(store, auto_offset_reset="none") as member:
        for _ in range(2):
            with pytest.raises(NoCommittedOffset, match="orders-"):
                member.poll(LONG_S)
        with pytest.raises(NoCommittedOffset):
            member.position("orders", 0)
        member.seek_to_end()
        member.seek("orders", 0, 1)
        assert poll(member, 2) == [1, 2]
        member.commit()
    with consumer(store, auto_offset_reset="none") as member:
        assert member.poll(0.01) == []


def test_a_committed_offset_that_is_gone_leads_to_the_reset(store: Store) -> None:
    fill(store, 10)
    with consumer(store) as member:
        poll(member, 2)
    store.advance_log_start("orders", 0, 6)
    with consumer(store, auto_offset_reset="none") as member, pytest.raises(NoCommittedOffset):
        member.poll(LONG_S)
    with consumer(store) as member:
        assert poll(member, 4) == [6, 7, 8, 9]


# --------------------------------------------------------------------------------------------------- automatic commits


def test_a_poll_commits_what_the_polls_before_it_have_returned_when_it_is_time(store: Store) -> None:
    fill(store, 10)
    with consumer(store, auto_commit_interval_ms=0) as member:
        poll(member, 3)
        assert committed(store) == 0, "the beginning was"
        poll(member, 3)
        assert committed(store) == 3
        member.poll(0, max_records=1)
        assert committed(store) == 6


def test_a_poll_that_waits_commits_when_it_is_time(store: Store) -> None:
    fill(store, 10)
    with consumer(store, auto_commit_interval_ms=100) as member:
        poll(member, 10)
        waiting = threading.Thread(target=member.poll)
        waiting.start()
        wait_until(lambda: committed(store) == 10)
        member.wakeup()
        waiting.join()


def test_nothing_is_committed_before_it_is_time_nor_without_need(store: Store) -> None:
    fill(store, 10)
    with consumer(store, auto_commit_interval_ms=60_000) as member:
        for _ in range(5):
            poll(member, 2)
        assert committed(store) is None
    assert committed(store) == 10
    end_offset = store.log("__consumer_offsets").log_end_offset
    with consumer(store, auto_commit_interval_ms=0) as member:
        for _ in range(5):
            member.poll(0.005)
        records = list(store.log("__consumer_offsets").records(end_offset))
        assert len(records) <= 2, "the generation, and no offsets"


def test_closing_commits_what_was_polled_unless_that_is_switched_off(store: Store) -> None:
    fill(store, 10)
    with consumer(store) as member:
        poll(member, 4)
    assert committed(store) == 4
    with consumer(store, enable_auto_commit=False) as member:
        poll(member, 4)
    assert committed(store) == 4


def test_an_error_in_the_with_block_leaves_what_the_last_poll_returned_uncommitted(store: Store) -> None:
    fill(store, 10)

    def fail_after_two_polls() -> None:
        with consumer(store) as member:
            poll(member, 3)
            poll(member, 3)
            raise ZeroDivisionError

    def fail_in_an_iteration() -> None:
        with consumer(store) as member:
            for record in member:
                if record.offset == 7:
                    raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_two_polls()
    assert committed(store) == 3
    with pytest.raises(ZeroDivisionError):
        fail_in_an_iteration()
    assert committed(store) == 7


def test_neither_commit_nor_close_covers_the_record_that_the_body_of_an_iteration_is_at(store: Store) -> None:
    fill(store, 10)
    with consumer(store) as member:
        for record in member:
            if record.offset == 3:
                member.commit()
                assert committed(store) == 3
            if record.offset == 5:
                break
    assert committed(store) == 5


def test_an_iteration_commits_as_time_goes_by(store: Store) -> None:
    fill(store, 10)
    with consumer(store, auto_commit_interval_ms=20) as member:
        for record in member:
            time.sleep(0.05)
            if record.offset == 5:
                assert committed(store) == 5
                break


def test_partitions_are_committed_before_they_are_given_up(store: Store) -> None:
    fill(store, 10)
    fill(store, 10, partition=1)
    at_revocation = []

    class Listener(RebalanceListener):
        def on_partitions_revoked(self, partitions: list[TopicPartition]) -> None:
            at_revocation.append(sum(committed(store, partition) or 0 for partition in (0, 1)))

    first, second = consumer(store, listener=Listener()), consumer(store)
    assert len(first.poll(LONG_S, max_records=7)) == 7
    second.poll(0)
    wait_until(lambda: bool(first._membership and first._membership._inbox))  # it was told to join again
    rest = []
    deadline_s = time.monotonic() + LONG_S
    while len(rest) < 13:
        assert time.monotonic() < deadline_s
        rest += first.poll(0.005) + second.poll(0.005)
    assert at_revocation == [7]
    assert first.poll(0) == second.poll(0) == []
    first.close()
    second.close()


def test_a_listener_may_commit_what_it_is_about_to_lose(store: Store) -> None:
    fill(store, 10)

    class Listener(RebalanceListener):
        def on_partitions_revoked(self, partitions: list[TopicPartition]) -> None:
            member.commit({("orders", 0): OffsetAndMetadata(2, "mine")})

    member = store.consumer(group="g", auto_offset_reset="earliest", enable_auto_commit=False)
    member.subscribe("orders", listener=Listener())
    poll(member, 5)
    member.close()
    assert store.groups.committed("g") == {TopicPartition("orders", 0): OffsetAndMetadata(2, "mine")}


def test_a_cooperative_member_that_leaves_in_the_middle_of_a_rebalance_commits_what_it_has_read(store: Store) -> None:
    members = [consumer(store, partition_assignment_strategy="cooperative-sticky") for _ in range(2)]
    leader, leaving = members
    deadline_s = time.monotonic() + LONG_S
    while [len(member.assignment()) for member in members] != [1, 1]:
        assert time.monotonic() < deadline_s
        for member in members:
            member.poll(0.005)
    [(_, partition)] = leaving.assignment()
    fill(store, 5, partition)
    assert poll(leaving, 5) == [0, 1, 2, 3, 4]
    third = consumer(store, partition_assignment_strategy="cooperative-sticky")
    third.poll(0)
    wait_until(lambda: bool(leader._membership and leader._membership._inbox))
    leader.poll(0)
    wait_until(lambda: bool(leaving._membership and leaving._membership._inbox))
    leaving.poll(0)  # now all have joined, and wait for the leader
    assert store.groups.describe("g").state == "CompletingRebalance"
    timer = threading.Timer(0.1, leader.poll, [0])
    timer.start()
    leaving.close()
    timer.join()
    assert committed(store, partition) == 5


# -------------------------------------------------------------------------------------------------------------- Ctrl-C

INTERRUPTED_FILES = {module.__file__ for module in (feed, fetcher, holdings, membership, offsets, transactions)}


class Interrupt:
    """Raises KeyboardInterrupt at the k-th line that is run of the consumer's modules, in this thread."""

    def __init__(self, at_line: int) -> None:
        self._left = at_line
        self.has_come = False

    def __enter__(self) -> "Interrupt":
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in INTERRUPTED_FILES:
            return None
        if event == "line":
            self._left -= 1
            if self._left == 0:
                sys.settrace(None)
                self.has_come = True
                raise KeyboardInterrupt
        return self._trace


@pytest.mark.parametrize("group", [None, "g"])
def test_ctrl_c_anywhere_in_poll_loses_no_record_and_leaves_nothing_locked(store: Store, group: str | None) -> None:
    store.create_topic("few", partitions=2)
    for partition in (0, 1):
        for _ in range(3):
            store.log("few", partition).append([b"x"] * 4)
    expected = {(partition, offset) for partition in (0, 1) for offset in range(12)}
    at_line, has_come = 0, True
    while has_come:
        at_line += 3 if group is None else 5
        name = group and f"g{at_line}"
        seen = []
        with store.consumer("few", group=name, auto_offset_reset="earliest", max_poll_records=5) as member:
            has_come = False
            try:
                with Interrupt(at_line) as interrupt:
                    while len(seen) < 24:
                        seen += [(record.partition, record.offset) for record in member.poll(0.02)]
            except KeyboardInterrupt:
                has_come = interrupt.has_come
            deadline_s = time.monotonic() + LONG_S
            while len(seen) < 24:
                assert time.monotonic() < deadline_s, (at_line, sorted(expected.difference(seen)))
                seen += [(record.partition, record.offset) for record in member.poll(0.05)]
            assert sorted(seen) == sorted(expected), at_line
    assert at_line > 300


# ------------------------------------------------------------------------------------------------------- all together


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
@pytest.mark.parametrize("iterates", [False, True])
def test_members_that_come_and_go_read_every_record_once_and_in_order(
    tmp_path: Path, strategy: str, iterates: bool
) -> None:
    """As long as they leave cleanly. Everything that was handed out is taken down, with who owned the partition."""
    partition_count, record_count, seed = 6, 6000, random.Random(5)
    seen: dict[int, list[int]] = defaultdict(list)
    owners: dict[int, EmbeddedConsumer] = {}
    failures: list[BaseException] = []

    with logstore.open(tmp_path / "data") as store:
        store.create_topic("load", partitions=partition_count)

        class Owner(RebalanceListener):
            def __init__(self, member: EmbeddedConsumer) -> None:
                self.member = member

            def on_partitions_assigned(self, partitions: list[TopicPartition]) -> None:
                for _, partition in partitions:
                    assert owners.setdefault(partition, self.member) is self.member

            def on_partitions_revoked(self, partitions: list[TopicPartition]) -> None:
                for _, partition in partitions:
                    assert owners.pop(partition) is self.member

        def work(member: EmbeddedConsumer) -> None:
            try:
                if iterates:
                    for record in member:
                        seen[record.partition].append(record.offset)
                else:
                    while not member._is_closing:
                        for record in member.poll():
                            seen[record.partition].append(record.offset)
            except logstore.Closed:
                pass
            except BaseException as failure:  # noqa: BLE001  # the test looks at it
                failures.append(failure)

        def start() -> tuple[EmbeddedConsumer, threading.Thread]:
            member = store.consumer(
                group="g",
                auto_offset_reset="earliest",
                max_poll_records=20,
                partition_assignment_strategy=strategy,
            )
            member.subscribe("load", listener=Owner(member))
            thread = threading.Thread(target=work, args=(member,))
            thread.start()
            return member, thread

        def produce() -> None:
            for number in range(record_count):
                store.log("load", number % partition_count).append([b"%d" % number])
                if number % 100 == 0:
                    time.sleep(0.01)

        producing = threading.Thread(target=produce)
        producing.start()
        members = [start() for _ in range(3)]
        while producing.is_alive():
            time.sleep(0.02)
            if len(members) < 2 or (len(members) < 8 and seed.random() < 0.5):
                members.append(start())
            else:
                stop(*members.pop(seed.randrange(len(members))), iterates)
        producing.join()
        wait_until(lambda: sum(map(len, seen.values())) >= record_count or bool(failures))
        for member, thread in members:
            stop(member, thread, iterates)
        assert store.groups.describe("g").state == "Empty"
        generation = store.groups.describe("g").generation
    assert not failures, failures
    assert generation > 10
    for partition in range(partition_count):
        assert seen[partition] == list(range(record_count // partition_count))


def stop(member: EmbeddedConsumer, thread: threading.Thread, iterates: bool) -> None:
    """Cleanly: an iteration's last record counts as consumed only if the loop asks for the next, so it is woken."""
    if iterates:
        member.wakeup()
        thread.join()
    member.close()
    thread.join()
