"""Members of a consumer group (KIP-848) as clients are, and a clock: what drives a ``ConsumerGroup`` as a coordinator
would. What is stored is kept as a log has it, for each key the last record."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from logstore.config import StoreConfig
from logstore.errors import LogstoreError
from logstore.format.group_records import GroupKey, GroupRecord, GroupValue, KnownTopic, Partitions
from logstore.groups.consumer.consumer_group import ConsumerGroup
from logstore.groups.requests import (
    JOINING_EPOCH,
    LEAVING_EPOCH,
    STATIC_LEAVING_EPOCH,
    ConsumerHeartbeat,
    ConsumerReply,
)

SESSION_MS, REBALANCE_MS = 45_000, 60_000


class Client:
    """``holds``: what it owns; ``told``: what it was last told to. It gives up at once, but only says so by its next
    heartbeat, and takes what is new then."""

    def __init__(self, member_id: str, instance_id: str | None, topics: tuple[str, ...]) -> None:
        self.member_id, self.instance_id, self.topics = member_id, instance_id, topics
        self.epoch = JOINING_EPOCH
        self.holds: Partitions = frozenset()
        self.told: Partitions = frozenset()
        self.is_slow = False  # holds on to what it is to give up

    def take(self, reply: ConsumerReply) -> None:
        self.epoch = reply.epoch
        if reply.assigned is not None:
            self.told = reply.assigned
        self.holds |= self.told
        self.give_up()

    def give_up(self) -> None:
        if not self.is_slow:
            self.holds &= self.told


class ConsumerGroupDriver:
    def __init__(self, topics: dict[str, int] | None = None, **settings: Any) -> None:
        self.config = StoreConfig(**settings)
        self.group = ConsumerGroup("g", self.config)
        self.now_ms = 1_000
        self.clients: dict[str, Client] = {}
        self.log: dict[GroupKey, GroupValue] = {}
        self.batches: list[list[GroupRecord]] = []
        self.topics: dict[str, KnownTopic] = {}
        self._topic_count = 0
        for name, count in (topics or {"orders": 4}).items():
            self.set_topic(name, count)

    def set_topic(self, name: str, partition_count: int) -> None:
        self._topic_count += 1
        known = self.topics.get(name)
        topic_id = UUID(int=self._topic_count) if known is None else known.topic_id
        self.topics = {**self.topics, name: KnownTopic(topic_id, name, partition_count)}

    def delete_topic(self, name: str) -> None:
        self.topics = {other: topic for other, topic in self.topics.items() if other != name}

    def part(self, *numbers: int, topic: str = "orders") -> Partitions:
        return frozenset((self.topics[topic].topic_id, number) for number in numbers)

    # -------------------------------------------------------------------------------------------------------- requests

    def join(self, name: str, *topics: str, instance_id: str | None = None, **fields: Any) -> ConsumerReply:
        client = self.clients.setdefault(name, Client(f"id of {name}", instance_id, topics or ("orders",)))
        client.epoch, client.holds, client.told = JOINING_EPOCH, frozenset(), frozenset()
        return self.beat(name, **fields)

    def beat(self, name: str, *, is_lost: bool = False, **fields: Any) -> ConsumerReply:
        """``is_lost``: the reply does not arrive."""
        client = self.clients[name]
        client.give_up()
        full: dict[str, Any] = {}
        if client.epoch == JOINING_EPOCH:
            full = {"rebalance_timeout_ms": REBALANCE_MS, "topics": client.topics}
        request = ConsumerHeartbeat(
            "g",
            client.member_id,
            client.epoch,
            **{"instance_id": client.instance_id, "owned": client.holds, **full, **fields},
        )
        reply = self.send(request)
        if not is_lost:
            client.take(reply)
        return reply

    def leave(self, name: str, *, for_a_while: bool = False) -> None:
        client = self.clients.pop(name)
        epoch = STATIC_LEAVING_EPOCH if for_a_while else LEAVING_EPOCH
        self.send(ConsumerHeartbeat("g", client.member_id, epoch, client.instance_id))

    def send(self, request: ConsumerHeartbeat) -> ConsumerReply:
        reply, records = self.group.heartbeat(request, self.topics)
        self.store(records)
        self.group.heard(reply.member_id, self.now_ms)
        return reply

    def refused(self, ask: Callable[[], object]) -> type[LogstoreError] | None:
        before = self.group.describe()
        try:
            ask()
        except LogstoreError as error:
            assert self.group.describe() == before
            return type(error)
        return None

    def settle(self, *names: str) -> None:
        """All heartbeat until nothing is new."""
        while True:
            before = len(self.batches)
            for name in names or tuple(self.clients):
                self.beat(name)
            if len(self.batches) == before:
                return

    # ---------------------------------------------------------------------------------------------- the clock, the log

    def pass_ms(self, time_ms: int) -> None:
        end_ms = self.now_ms + time_ms
        while (deadline_ms := self.group.next_deadline_ms) is not None and deadline_ms <= end_ms:
            self.now_ms = max(self.now_ms, deadline_ms)
            late = self.group.late(self.now_ms)
            assert late
            self.store(self.group.without(late, self.topics))
        self.now_ms = end_ms

    def store(self, records: list[GroupRecord]) -> None:
        if not records:
            return
        self.batches.append(records)
        self.group.apply(records)
        for key, value in records:
            self.log.pop(key, None)
            if value is not None:
                self.log[key] = value

    def reload(self) -> None:
        """As after a crash."""
        before = self.group.describe()
        self.group = ConsumerGroup("g", self.config)
        self.group.apply(sorted(self.log.items(), key=lambda record: record[0].kind))
        self.group.begin_sessions(self.now_ms)
        after = self.group.describe()
        assert after._replace(members=()) == before._replace(members=())
        assert set(after.members) == set(before.members)

    def held(self) -> dict[str, Partitions]:
        return {name: client.holds for name, client in self.clients.items()}
