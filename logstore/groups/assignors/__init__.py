"""The assignment strategies, by the names that Kafka gives them: pure functions, which the leader of a group calls."""

from collections.abc import Mapping
from types import MappingProxyType

from logstore.groups.assignors.assignor import Assignor, subscribed_topics
from logstore.groups.assignors.range import RangeAssignor
from logstore.groups.assignors.roundrobin import RoundRobinAssignor
from logstore.groups.assignors.sticky import CooperativeStickyAssignor, StickyAssignor

__all__ = ["ASSIGNORS", "Assignor", "subscribed_topics"]

ASSIGNORS: Mapping[str, Assignor] = MappingProxyType(
    {
        assignor.name: assignor
        for assignor in (RangeAssignor(), RoundRobinAssignor(), StickyAssignor(), CooperativeStickyAssignor())
    }
)
