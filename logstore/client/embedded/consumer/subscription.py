"""What a consumer subscribes to: topics by name, or all that match a pattern, those to come included."""

import re
from collections.abc import Callable, Iterable

from logstore.client.arguments import as_subscription
from logstore.errors import DamagedTopic, UnknownTopic
from logstore.format.filename import TopicPartition
from logstore.storage.data_dir import DataDir

INTERNAL_PREFIX = "__"  # of topics that are not for consumers, unless they are named


class Subscription:
    """See the module. ``has_changed`` is set, and ``on_change`` called, in the thread that creates, alters or deletes a
    topic, from ``listen`` to ``stop``."""

    def __init__(
        self,
        data_dir: DataDir,
        topics: Iterable[str] | str,
        pattern: str | re.Pattern[str] | None,
        on_change: Callable[[], None],
    ) -> None:
        self._names, self._pattern = as_subscription(topics, pattern)
        self._data_dir = data_dir
        self._on_change = on_change
        self.has_changed = False
        self._known_counts = {topic.name: topic.partitions for topic in data_dir.topics()}

    def listen(self) -> None:
        self._data_dir.topic_listeners.append(self._topic_changed)

    def stop(self) -> None:
        if self._topic_changed in self._data_dir.topic_listeners:
            self._data_dir.topic_listeners.remove(self._topic_changed)

    def _topic_changed(self, name: str) -> None:
        if name not in self.counts([name]):
            self._known_counts.pop(name, None)  # one of that name that is made later is another
        self.has_changed = True
        self._on_change()

    @property
    def is_pattern(self) -> bool:
        return self._pattern is not None

    def topics(self) -> frozenset[str]:
        """The topics that are meant, whether they exist or not; with a pattern those that do."""
        if self._pattern is None:
            return self._names
        names = [topic.name for topic in self._data_dir.topics()]
        return frozenset(n for n in names if self._pattern.fullmatch(n) and not n.startswith(INTERNAL_PREFIX))

    def counts(self, topics: Iterable[str]) -> dict[str, int]:
        """How many partitions those of the topics have that exist."""
        counts = {}
        for name in topics:
            try:
                counts[name] = self._data_dir.topic(name).partitions
            except (UnknownTopic, DamagedTopic):
                continue
        return counts

    def partitions(self) -> frozenset[TopicPartition]:
        """All partitions that there are of what is subscribed to."""
        counts = self.counts(self.topics())
        return frozenset(TopicPartition(topic, number) for topic, count in counts.items() for number in range(count))

    def is_younger(self, partition: TopicPartition) -> bool:
        """Whether a partition came into being after the subscription: then all its records did."""
        return partition.partition >= self._known_counts.get(partition.topic, 0)
