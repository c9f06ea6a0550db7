"""What a cluster's consumer is subscribed to, as a member of its group or alone, and what it is told of its partitions.

librdkafka speaks the group's protocol and calls back in the thread that polls. Patterns are Python's, and are matched
here, as Java's client does it: topics are listed once in metadata.max.age.ms; what matches is subscribed to by name.
"""

import re
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from confluent_kafka import Consumer as LibConsumer
from confluent_kafka import KafkaException
from confluent_kafka import TopicPartition as LibPartition

from logstore.client.consumer import RebalanceListener
from logstore.client.kafka.admin import Admin
from logstore.client.kafka.errors import translated
from logstore.errors import UnknownTopic
from logstore.format.filename import TopicPartition

Result = TypeVar("Result")

_INTERNAL_PREFIX = "__"  # of topics that are not for consumers, unless they are named


class RebalanceHandler(Protocol):
    """What the consumer does when partitions come and go."""

    def partitions_assigned(self, partitions: list[TopicPartition]) -> None: ...
    def partitions_started(self, partitions: list[TopicPartition]) -> list[LibPartition]: ...
    def partitions_given(self, partitions: list[TopicPartition]) -> None: ...
    def partitions_revoked(self, partitions: list[TopicPartition]) -> None: ...
    def partitions_gone(self, partitions: list[TopicPartition]) -> None: ...
    def partitions_are(self, partitions: dict[TopicPartition, int | None]) -> None: ...
    def failed(self, error: BaseException) -> None: ...


class _Subscribed:
    """What both have: topics or a pattern, a listener, and a look at the cluster now and then."""

    def __init__(self, handler: RebalanceHandler, max_age_s: float) -> None:
        self._handler, self._max_age_s = handler, max_age_s
        self._listener = RebalanceListener()
        self._pattern: re.Pattern[str] | None = None
        self._next_look_s = 0.0
        self.is_member = False
        self.topics: frozenset[str] = frozenset()

    def subscribe(
        self,
        topics: frozenset[str],
        pattern: re.Pattern[str] | None,
        listener: RebalanceListener | None,
    ) -> None:
        """At the next poll."""
        self._listener = listener or RebalanceListener()
        self._pattern, self._next_look_s = pattern, 0.0
        self.topics, self.is_member = topics, True

    def _is_time_to_look(self) -> bool:
        now = time.monotonic()
        if not self.is_member or now < self._next_look_s:
            return False
        self._next_look_s = now + self._max_age_s
        return True

    def _matching(self, admin: Admin) -> frozenset[str]:
        if self._pattern is None:
            return self.topics
        names = (name for name in admin.topic_names() if not name.startswith(_INTERNAL_PREFIX))
        return frozenset(name for name in names if self._pattern.fullmatch(name))

    def _forget(self) -> None:
        self._pattern, self.topics, self.is_member = None, frozenset(), False

    def _guard(self, call: Callable[[], Result]) -> Result | None:
        """An exception must not pass through librdkafka: the poll raises it."""
        try:
            return call()
        except BaseException as error:  # noqa: BLE001
            self._handler.failed(error)
            return None


class Membership(_Subscribed):
    """In a group: librdkafka says which partitions this member has."""

    def __init__(self, handler: RebalanceHandler, client: LibConsumer, is_cooperative: bool, max_age_s: float) -> None:
        super().__init__(handler, max_age_s)
        self._client, self._is_cooperative = client, is_cooperative
        self._joined_for: frozenset[str] = frozenset()
        self._owned: set[TopicPartition] = set()

    def refresh(self, admin: Admin) -> None:
        """In a poll: join, or say what is wanted now."""
        if self._pattern is not None and self._is_time_to_look():
            self.topics = self._matching(admin)
        if self.topics == self._joined_for:
            return
        if self.topics:
            try:
                self._client.subscribe(
                    sorted(self.topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
                )
            except KafkaException as error:
                raise translated(error, f"subscribe to {', '.join(sorted(self.topics))}") from None
        else:
            self._client.unsubscribe()
        self._joined_for = self.topics

    def leave(self, timeout_s: float) -> None:
        """Give up the partitions, and leave the group."""
        self._client.unsubscribe()
        deadline = time.monotonic() + timeout_s
        while self._owned and time.monotonic() < deadline:
            self._client.poll(0.01)  # whatever comes of partitions that are given up is not wanted
        self._joined_for = frozenset()
        self._forget()

    # -------------------------------------------------------------------------------------------- librdkafka calls back

    def _assigned(self, client: LibConsumer, given: list[LibPartition]) -> None:
        partitions = _ours(given)
        self._owned.update(partitions)
        self._handler.partitions_assigned(partitions)
        if partitions:
            self._guard(lambda: self._listener.on_partitions_assigned(partitions))
        starts = self._guard(lambda: self._handler.partitions_started(partitions)) or given
        if self._is_cooperative:
            client.incremental_assign(starts)
        else:
            client.assign(starts)
        self._handler.partitions_given(partitions)

    def _revoked(self, client: LibConsumer, given: list[LibPartition]) -> None:
        self._guard(lambda: self._handler.partitions_revoked(_ours(given)))
        self._guard(lambda: self._listener.on_partitions_revoked(_ours(given)))
        self._give_up(client, given)

    def _lost(self, client: LibConsumer, given: list[LibPartition]) -> None:
        self._guard(lambda: self._listener.on_partitions_lost(_ours(given)))
        self._give_up(client, given)

    def _give_up(self, client: LibConsumer, given: list[LibPartition]) -> None:
        self._handler.partitions_gone(_ours(given))
        self._owned.difference_update(_ours(given))
        if self._is_cooperative:
            client.incremental_unassign(given)
        else:
            client.unassign()


class Alone(_Subscribed):
    """Without a group: all partitions of the topics, those to come included, which are read from their beginning."""

    def __init__(self, handler: RebalanceHandler, max_age_s: float) -> None:
        super().__init__(handler, max_age_s)
        self._held: frozenset[TopicPartition] = frozenset()
        self._has_looked = False

    def subscribe(
        self,
        topics: frozenset[str],
        pattern: re.Pattern[str] | None,
        listener: RebalanceListener | None,
    ) -> None:
        super().subscribe(topics, pattern, listener)
        self._has_looked = False

    def refresh(self, admin: Admin) -> None:
        """In a poll: see what there is now."""
        if not self._is_time_to_look():
            return
        wanted = []
        self.topics = self._matching(admin)
        for topic in sorted(self.topics):
            try:
                count = admin.partition_count(topic)
            except UnknownTopic:  # it is waited for
                continue
            wanted += [TopicPartition(topic, number) for number in range(count)]
        came, went = sorted(set(wanted) - self._held), sorted(self._held.difference(wanted))
        if came or went:
            if went:
                self._guard(lambda: self._listener.on_partitions_revoked(went))
            self._handler.partitions_are(dict.fromkeys(wanted, 0 if self._has_looked else None))
            self._held = frozenset(wanted)
            if came:
                self._guard(lambda: self._listener.on_partitions_assigned(came))
        self._has_looked = True

    def leave(self, timeout_s: float) -> None:
        held, self._held = sorted(self._held), frozenset()
        if held:
            self._guard(lambda: self._listener.on_partitions_revoked(held))
        self._forget()


def _ours(given: list[LibPartition]) -> list[TopicPartition]:
    return [TopicPartition(each.topic, each.partition) for each in given]
