"""A Ctrl-C that is survived: whatever call it ended in the middle, the group and its other members go on."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import logstore
from ctrl_c import everywhere
from logstore.client.embedded.consumer.consumer import EmbeddedConsumer
from logstore.client.embedded.store import Store

LONG_S = 20.0  # what never takes that long


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with logstore.open(tmp_path / "data", group_initial_rebalance_delay_ms=0) as opened:
        opened.create_topic("orders", partitions=3)
        yield opened


def member(store: Store, group: str, **settings: Any) -> EmbeddedConsumer:
    return store.consumer("orders", group=group, auto_offset_reset="earliest", **settings)


def until(is_so: Callable[[], object], place: str, *members: EmbeddedConsumer) -> None:
    deadline_s = time.monotonic() + LONG_S
    while not is_so():
        assert time.monotonic() < deadline_s, place
        for one in members:
            one.poll(0.01)


def is_empty(store: Store, group: str) -> bool:
    return store.groups.describe(group).state == "Empty"


def in_other_thread(action: Callable[[], object]) -> list[object]:
    """What it gives; nothing where it hangs."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(action()), daemon=True)
    thread.start()
    thread.join(LONG_S)
    return results


def test_a_ctrl_c_anywhere_in_a_call_of_a_group_leaves_it_open_to_other_threads(store: Store) -> None:
    """Also while the error is still being dealt with, which holds on to all the frames it has come through."""
    store.groups.commit("g", {("orders", 0): logstore.OffsetAndMetadata(0)})
    for ctrl_c in everywhere():
        ctrl_c.run(lambda: store.groups.committed("g"))
        assert in_other_thread(lambda: store.groups.committed("g")), ctrl_c.place


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_a_ctrl_c_anywhere_in_a_rebalance_leaves_every_partition_with_one_member(store: Store, strategy: str) -> None:
    first_at = 3
    for ctrl_c in everywhere(step=61, first=first_at):
        group = f"g{ctrl_c.number}"
        with member(store, group, partition_assignment_strategy=strategy) as one, member(store, group) as other:
            until(lambda: len(one.assignment()) == 3, "", one)

            def rebalance() -> None:
                for _ in range(6):
                    other.poll(0.01)
                    one.poll(0.01)

            def is_shared() -> bool:
                held, others = one.assignment(), other.assignment()
                return bool(held and others) and not held & others and len(held | others) == 3

            ctrl_c.run(rebalance)
            until(is_shared, ctrl_c.place, one, other)


def test_a_member_that_a_ctrl_c_kept_from_leaving_leaves_when_it_is_closed_again(store: Store) -> None:
    for ctrl_c in everywhere(step=13):
        group = f"g{ctrl_c.number}"
        one = member(store, group)
        until(one.assignment, "", one)
        ctrl_c.run(one.close)
        one.close()
        until(partial(is_empty, store, group), ctrl_c.place)


def test_a_cooperative_member_that_a_ctrl_c_interrupts_while_it_gives_up_a_partition_joins_again_for_others_to_get_it(
    store: Store,
) -> None:
    class Interrupted(logstore.RebalanceListener):
        def on_partitions_revoked(self, partitions: list[Any]) -> None:
            raise KeyboardInterrupt

    with member(store, "g", partition_assignment_strategy="cooperative-sticky") as one, member(store, "g") as other:
        one.subscribe("orders", listener=Interrupted())
        until(lambda: len(one.assignment()) == 3, "", one)
        with pytest.raises(KeyboardInterrupt):
            until(lambda: False, "", other, one)
        until(other.assignment, "", other, one)
        one.subscribe("orders")
