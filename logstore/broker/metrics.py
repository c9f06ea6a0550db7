"""What a broker counts: requests, errors, bytes, connections, records by topic, and how long requests and syncs take.

The calls are cheap enough for every request: a look-up and an addition or two. They are for the event loop's thread;
``exposition`` reads the counts in another one, and may miss what is just being counted. Nothing is ever set back:
counts start at 0 with the process.
"""

from bisect import bisect_left
from typing import NamedTuple

# Upper bounds of the histograms' buckets: from what a small request takes to what a sync on a slow disk may.
BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Histogram:
    """How often values were up to each of the bounds; the last count is of those beyond all."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0

    def observe(self, elapsed_s: float) -> None:
        self.counts[bisect_left(BUCKETS_S, elapsed_s)] += 1
        self.sum_s += elapsed_s


class TopicCounts:
    """Of one topic: batches as they were sent and stored, so records count before, bytes after compression."""

    __slots__ = ("fetched_bytes", "produced_bytes", "produced_records")

    def __init__(self) -> None:
        self.produced_records = self.produced_bytes = self.fetched_bytes = 0


class RequestError(NamedTuple):
    api_key: int
    code: int


class Metrics:
    """The counts. The plain numbers are for the server to add to."""

    def __init__(self) -> None:
        self.bytes_in = self.bytes_out = 0
        self.connections_accepted = self.connections_refused = self.connections_closed = 0
        self.requests: dict[int, Histogram] = {}
        self.errors: dict[RequestError, int] = {}
        self.topics: dict[str, TopicCounts] = {}
        self.flushes = Histogram()

    def observe(self, api_key: int, elapsed_s: float) -> None:
        """A request was answered, ``elapsed_s`` after it was read."""
        histogram = self.requests.get(api_key)
        if histogram is None:
            histogram = self.requests[api_key] = Histogram()
        histogram.observe(elapsed_s)

    def error(self, api_key: int, code: int) -> None:
        """An answer, or a part of one such as a partition or a group, told of an error."""
        error = RequestError(api_key, code)
        self.errors[error] = self.errors.get(error, 0) + 1

    def produced(self, topic: str, record_count: int, byte_count: int) -> None:
        """Records were appended to a partition of ``topic``."""
        counts = self.topics.get(topic)
        if counts is None:
            counts = self.topics[topic] = TopicCounts()
        counts.produced_records += record_count
        counts.produced_bytes += byte_count

    def fetched(self, topic: str, byte_count: int) -> None:
        """A fetch was answered with bytes of a partition of ``topic``."""
        counts = self.topics.get(topic)
        if counts is None:
            counts = self.topics[topic] = TopicCounts()
        counts.fetched_bytes += byte_count

    def flushed(self, elapsed_s: float) -> None:
        """A log was synced."""
        self.flushes.observe(elapsed_s)

    def forget_topic(self, topic: str) -> None:
        """Let go of the counts of a topic that was deleted. (It may be called in any thread.)"""
        self.topics.pop(topic, None)

    def forget_topics(self, existing: set[str]) -> None:
        """Let go of the counts of topics that are no more, whoever has deleted them."""
        gone = [topic for topic in list(self.topics) if topic not in existing]  # a list at once: one may be added
        for topic in gone:
            self.topics.pop(topic, None)
