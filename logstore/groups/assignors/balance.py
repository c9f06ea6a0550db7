"""Partitions shared out evenly, each to a subscriber of its topic, with few of them moved.

A share-out is as even as it can be when no chain of moves leads from a member to one with at least two partitions less:
each link of the chain hands one partition on to another subscriber of its topic, so only the two ends change in size.
Hence the steps:

1. Everybody keeps what is theirs; what is nobody's goes to the subscriber who has least.
2. Chains are followed until there are none: first of partitions that are nobody's, then of all. So nobody loses a
   partition where the others can be shared out evenly without that; above all not where a share-out that was even is
   completed with what was withheld from it.
3. A partition that was moved goes home where its owner has less, or can give another for it.

Members, topics and partitions are tried in the order in which they come: equal input gives equal output.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from heapq import heapify, heapreplace

from logstore.format.filename import TopicPartition

Held = dict[str, list[int]]  # partitions by topic; no empty lists


def balanced(
    partition_counts: Mapping[str, int], topics: Mapping[str, frozenset[str]], owners: Mapping[TopicPartition, str]
) -> dict[str, list[TopicPartition]]:
    """``topics``: what each member subscribes to. ``owners``: whose a partition is; one that does not exist (any more),
    or whose owner does not subscribe to its topic, is nobody's. What no one subscribes to is given to no one."""
    homes = {
        partition: owner
        for partition, owner in owners.items()
        if 0 <= partition.partition < partition_counts.get(partition.topic, 0) and partition.topic in topics[owner]
    }
    shares = _Shares(topics, homes)
    for (topic, partition), owner in homes.items():
        shares.put(owner, topic, partition)
    shares.share_out(partition_counts)
    shares.even_out(homeless_only=True)
    shares.even_out(homeless_only=False)
    shares.send_home()
    return shares.result()


class _Shares:
    """Who has what: ``kept`` is at home, ``given`` is not."""

    def __init__(self, topics: Mapping[str, frozenset[str]], homes: Mapping[TopicPartition, str]) -> None:
        self.topics, self.homes = topics, homes
        self.kept: dict[str, Held] = {member: {} for member in topics}
        self.given: dict[str, Held] = {member: {} for member in topics}
        self.size = dict.fromkeys(topics, 0)

    def put(self, member: str, topic: str, partition: int) -> None:
        held = self.kept if self.homes.get(TopicPartition(topic, partition)) == member else self.given
        held[member].setdefault(topic, []).append(partition)
        self.size[member] += 1

    def move(self, held: dict[str, Held], giver: str, taker: str, topic: str, partition: int | None = None) -> None:
        """Out of ``held``: ``kept`` or ``given``. The last partition, where none is named."""
        partitions = held[giver].pop(topic)
        if partition is None:
            partition = partitions.pop()
        else:
            partitions.remove(partition)
        if partitions:
            held[giver][topic] = partitions  # behind the others: next time it is another topic's turn
        self.size[giver] -= 1
        self.put(taker, topic, partition)

    def share_out(self, partition_counts: Mapping[str, int]) -> None:
        """What is nobody's, to who has least: topics that few subscribe to first, since these have the least choice."""
        subscribers: dict[str, list[str]] = {topic: [] for topic in partition_counts}
        for member, topics in self.topics.items():
            for topic in topics & partition_counts.keys():
                subscribers[topic].append(member)
        order = {member: place for place, member in enumerate(self.topics)}
        for topic in sorted(filter(subscribers.get, subscribers), key=lambda topic: (len(subscribers[topic]), topic)):
            least = [(self.size[member], order[member], member) for member in subscribers[topic]]
            heapify(least)
            for partition in range(partition_counts[topic]):
                if (topic, partition) not in self.homes:
                    size, place, member = least[0]
                    self.put(member, topic, partition)
                    heapreplace(least, (size + 1, place, member))

    def even_out(self, *, homeless_only: bool) -> None:
        """From the fullest member on: who can be reached from one that no chain leads away from is settled with it,
        since all of these have at most one partition less, and whoever is yet to come has no more than it."""
        movable = (self.given,) if homeless_only else (self.given, self.kept)
        unsettled = list(self.topics)
        while unsettled:
            fullest = max(unsettled, key=self.size.__getitem__)
            chain, reached = self._chain(fullest, unsettled, movable)
            if not chain:
                unsettled = [member for member in unsettled if member not in reached]
            for giver, taker in chain:
                held = next(held for held in movable if not self.topics[taker].isdisjoint(held[giver]))
                self.move(held, giver, taker, next(topic for topic in held[giver] if topic in self.topics[taker]))

    def _chain(
        self, start: str, members: list[str], movable: tuple[dict[str, Held], ...]
    ) -> tuple[list[tuple[str, str]], Mapping[str, str]]:
        """The shortest chain (giver, taker) from ``start`` to one with two less at least, or none; and who was reached,
        by whom."""
        reached = {start: start}
        unreached = sorted((member for member in members if member != start), key=self.size.__getitem__)
        givers = deque([start])
        while givers and unreached:
            giver = givers.popleft()
            takers = []
            for taker in unreached:
                if not all(self.topics[taker].isdisjoint(held[giver]) for held in movable):
                    reached[taker] = giver
                    takers.append(taker)
                    if self.size[taker] <= self.size[start] - 2:
                        return list(_links(reached, taker)), reached
            unreached = [member for member in unreached if member not in reached]
            givers += takers
        return [], reached

    def send_home(self) -> None:
        """Sizes change places at most, so it stays even; and each time one more is at home, so it ends."""
        while [True for member, topic, partition in self._away() if self._goes_home(member, topic, partition)]:
            pass

    def _away(self) -> list[tuple[str, str, int]]:
        return [
            (member, topic, partition)
            for member, held in self.given.items()
            for topic, partitions in held.items()
            for partition in partitions
            if (topic, partition) in self.homes
        ]

    def _goes_home(self, member: str, topic: str, partition: int) -> bool:
        if partition not in self.given[member].get(topic, ()):
            return False  # it has just been given for another
        home = self.homes[TopicPartition(topic, partition)]
        if self.size[home] >= self.size[member]:
            other = next((other for other in self.given[home] if other in self.topics[member]), None)
            if other is None:
                return False
            self.move(self.given, home, member, other)
        self.move(self.given, member, home, topic, partition)
        return True

    def result(self) -> dict[str, list[TopicPartition]]:
        return {
            member: sorted(
                TopicPartition(topic, partition)
                for held in (self.kept[member], self.given[member])
                for topic, partitions in held.items()
                for partition in partitions
            )
            for member in self.topics
        }


def _links(reached: Mapping[str, str], end: str) -> Iterator[tuple[str, str]]:
    while reached[end] != end:
        yield reached[end], end
        end = reached[end]
