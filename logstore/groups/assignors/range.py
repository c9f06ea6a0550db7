"""Topic by topic, each member gets one run of partitions; so topics of equal size and subscribers are co-partitioned:
the same member gets the same partition numbers of all of them."""

from collections.abc import Mapping

from logstore.format.filename import TopicPartition
from logstore.groups.assignors.assignor import Assignor, Member, Shares


class RangeAssignor(Assignor):
    name = "range"

    def share(self, partition_counts: Mapping[str, int], members: list[Member]) -> Shares:
        shares: Shares = {member.member_id: [] for member in members}
        for topic, partition_count in sorted(partition_counts.items()):
            subscribers = [member.member_id for member in members if topic in member.topics]
            first = 0
            for index, member_id in enumerate(subscribers):
                size, extra = divmod(partition_count, len(subscribers))
                following = first + size + (index < extra)
                shares[member_id] += [TopicPartition(topic, partition) for partition in range(first, following)]
                first = following
        return shares
