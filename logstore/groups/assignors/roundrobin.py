"""All partitions in order are dealt out to the members in turn; who is not subscribed to the topic is passed over."""

from collections.abc import Mapping

from logstore.format.filename import TopicPartition
from logstore.groups.assignors.assignor import Assignor, Member, Shares


class RoundRobinAssignor(Assignor):
    name = "roundrobin"

    def share(self, partition_counts: Mapping[str, int], members: list[Member]) -> Shares:
        shares: Shares = {member.member_id: [] for member in members}
        turn = 0
        for topic in sorted(partition_counts.keys() & frozenset[str]().union(*(member.topics for member in members))):
            for partition in range(partition_counts[topic]):
                while topic not in members[turn].topics:
                    turn = (turn + 1) % len(members)
                shares[members[turn].member_id].append(TopicPartition(topic, partition))
                turn = (turn + 1) % len(members)
        return shares
