"""Whatever members of a consumer group do, no partition is two members', and in the end each is one's."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from consumer_group_driver import SESSION_MS, ConsumerGroupDriver
from logstore.errors import FencedMemberEpoch, UnknownMember, UnreleasedInstance
from logstore.groups.consumer.known_group import ConsumerGroupState
from logstore.groups.consumer.subscriptions import known_topics

NAMES = st.sampled_from("abcd")
TOPICS = st.sampled_from(["x", "y", "z"])


class Members(RuleBasedStateMachine):
    """What a member holds counts until it is fenced or its session is over: who is taken out cannot know it at once,
    as in Kafka, and gives everything up when it does."""

    @initialize(assignor=st.sampled_from(["uniform", "range"]))
    def begin(self, assignor: str) -> None:
        self.assignor = assignor
        self.driver = ConsumerGroupDriver({"x": 3, "y": 1})
        self.instance_count = 0

    @rule(name=NAMES, topics=st.sets(TOPICS, min_size=1), is_static=st.booleans(), is_lost=st.booleans())
    def join(self, name: str, topics: set[str], is_static: bool, is_lost: bool) -> None:
        if name not in self.driver.clients:
            self.instance_count += 1
            instance_id = f"instance {name} {self.instance_count}" if is_static else None
            self.driver.join(name, *sorted(topics), instance_id=instance_id, assignor=self.assignor, is_lost=is_lost)

    @rule(name=NAMES, is_lost=st.booleans(), is_slow=st.booleans(), is_whole=st.booleans())
    def beat(self, name: str, is_lost: bool, is_slow: bool, is_whole: bool) -> None:
        if name not in self.driver.clients:
            return
        client = self.driver.clients[name]
        client.is_slow = is_slow
        fields: dict[str, Any] = {"rebalance_timeout_ms": 60_000, "topics": client.topics} if is_whole else {}
        try:
            self.driver.beat(name, is_lost=is_lost, **fields)
        except (FencedMemberEpoch, UnknownMember):
            try:
                self.driver.join(name)
            except UnreleasedInstance:
                del self.driver.clients[name]

    @rule(name=NAMES, topics=st.sets(TOPICS, min_size=1))
    def subscribe(self, name: str, topics: set[str]) -> None:
        client = self.driver.clients.get(name)
        if client is not None and client.member_id in self.driver.group.members and client.epoch > 0:
            client.topics = tuple(sorted(topics))
            self.beat(name, False, client.is_slow, True)

    @rule(name=NAMES, for_a_while=st.booleans())
    def leave(self, name: str, for_a_while: bool) -> None:
        client = self.driver.clients.get(name)
        if client is None or client.member_id not in self.driver.group.members:
            return
        is_back = for_a_while and client.instance_id is not None
        self.driver.leave(name, for_a_while=is_back)
        if is_back:
            self.driver.join(f"{name}", *client.topics, instance_id=client.instance_id)

    @rule(name=NAMES)
    def crash(self, name: str) -> None:
        self.driver.clients.pop(name, None)

    @rule(topic=TOPICS, count=st.integers(1, 5))
    def add_partitions(self, topic: str, count: int) -> None:
        known = self.driver.topics.get(topic)
        if known is None or known.partition_count < count:
            self.driver.set_topic(topic, count)

    @rule(topic=TOPICS)
    def delete_topic(self, topic: str) -> None:
        self.driver.delete_topic(topic)

    @rule(time_ms=st.sampled_from([1_000, 20_000, SESSION_MS]))
    def time_passes(self, time_ms: int) -> None:
        self.driver.pass_ms(time_ms)

    @rule()
    def broker_restarts(self) -> None:
        self.driver.reload()

    @rule()
    def in_the_end_everything_is_shared_out(self) -> None:
        driver = self.driver
        driver.pass_ms(SESSION_MS)  # who crashed is out
        for _ in range(3):
            for name in list(driver.clients):
                self.beat(name, False, False, True)
        driver.settle()
        if not driver.clients:
            return
        assert driver.group.state is ConsumerGroupState.STABLE
        metadata = [member.metadata for member in driver.group.members.values()]
        wanted = known_topics(metadata, driver.topics).values()
        everything = {(topic.topic_id, number) for topic in wanted for number in range(topic.partition_count)}
        held = [partition for client in driver.clients.values() for partition in client.holds]
        assert len(held) == len(everything) and set(held) == everything
        for client in driver.clients.values():
            readable = {driver.topics[topic].topic_id for topic in client.topics if topic in driver.topics}
            assert {topic_id for topic_id, _ in client.holds} <= readable

    @invariant()
    def no_partition_is_two_members(self) -> None:
        if not hasattr(self, "driver"):
            return
        members = self.driver.group.members
        inside = [client for client in self.driver.clients.values() if client.member_id in members]
        held = [partition for client in inside for partition in client.holds]
        assert len(held) == len(set(held)), {client.member_id: client.holds for client in inside}
        assigned = [
            partition for member in members.values() for partition in member.current.assigned | member.current.revoking
        ]
        assert len(assigned) == len(set(assigned))


TestMembers = Members.TestCase
TestMembers.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
