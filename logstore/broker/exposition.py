"""What a broker counts and what its store holds, as text for Prometheus (exposition format 0.0.4).

::

    # HELP logstore_log_size_bytes Bytes of a partition's segments.
    # TYPE logstore_log_size_bytes gauge
    logstore_log_size_bytes{topic="orders",partition="0"} 4711

Each family has its samples together. Sizes, offsets and groups are looked up when they are asked for, so this goes
through all partitions: it is for another thread than the event loop's.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import accumulate

from logstore.broker.metrics import BUCKETS_S, Histogram, Metrics
from logstore.errors import LogstoreError
from logstore.store import TopicStore
from logstore.wire.api import ApiKey
from logstore.wire.error_codes import ErrorCode

Labels = Mapping[str, object]
Samples = list[tuple[Labels, float]]
_NONE: Labels = {}


def expose(metrics: Metrics, store: TopicStore) -> bytes:
    """All families. What cannot be looked up, such as groups whose log cannot be read, is left out."""
    families = [*_server(metrics), *_requests(metrics), *_topics(metrics, store), *_partitions(store), *_groups(store)]
    return "".join(families).encode()


def _server(metrics: Metrics) -> Iterator[str]:
    accepted, refused, closed = metrics.connections_accepted, metrics.connections_refused, metrics.connections_closed
    yield _family("connections", "gauge", "Connections that are open.", [(_NONE, accepted - closed)])
    yield _family("connections_accepted_total", "counter", "Connections accepted.", [(_NONE, accepted)])
    yield _family("connections_refused_total", "counter", "Connections over the limits.", [(_NONE, refused)])
    yield _family("received_bytes_total", "counter", "Bytes of requests.", [(_NONE, metrics.bytes_in)])
    yield _family("sent_bytes_total", "counter", "Bytes of responses.", [(_NONE, metrics.bytes_out)])
    flushes = [(_NONE, metrics.flushes)]
    yield _histograms("flush_duration_seconds", "How long syncs of logs took that requests waited for.", flushes)


def _requests(metrics: Metrics) -> Iterator[str]:
    served: list[tuple[Labels, Histogram]] = [
        ({"api": _api_name(key)}, histogram) for key, histogram in sorted(metrics.requests.items())
    ]
    text = "How long requests took, from the whole request to its response; those that wait for data included."
    yield _histograms("request_duration_seconds", text, served)
    errors: Samples = [
        ({"api": _api_name(error.api_key), "error": _error_name(error.code)}, count)
        for error, count in sorted(metrics.errors.items())
    ]
    yield _family(
        "request_errors_total", "counter", "Errors told in responses, or in partitions, groups and other parts.", errors
    )


def _topics(metrics: Metrics, store: TopicStore) -> Iterator[str]:
    existing = {topic.name for topic in store.topics()}
    metrics.forget_topics(existing)
    counted = sorted(metrics.topics.items(), key=lambda item: item[0])
    for name, help_text in (
        ("produced_records", "Records appended by producers."),
        ("produced_bytes", "Bytes of batches appended by producers."),
        ("fetched_bytes", "Bytes of batches sent to consumers."),
    ):
        samples: Samples = [({"topic": topic}, getattr(counts, name)) for topic, counts in counted]
        yield _family(f"topic_{name}_total", "counter", help_text, samples)


def _partitions(store: TopicStore) -> Iterator[str]:
    sizes: Samples = []
    starts: Samples = []
    ends: Samples = []
    segments: Samples = []
    offline: Samples = []
    for topic in store.topics():
        for number in range(topic.partitions):
            labels = {"topic": topic.name, "partition": number}
            try:
                log = store.opened_log(topic.name, number)
                view = log.view
            except LogstoreError:  # deleted meanwhile, or one that cannot be opened
                offline.append((labels, 1))
                continue
            offline.append((labels, 0 if log.offline_reason is None else 1))
            sizes.append((labels, view.size))
            starts.append((labels, view.log_start_offset))
            ends.append((labels, view.log_end_offset))
            segments.append((labels, len(view.segments)))
    yield _family("log_size_bytes", "gauge", "Bytes of a partition's segments.", sizes)
    yield _family("log_start_offset", "gauge", "The first offset of a partition.", starts)
    yield _family("log_end_offset", "gauge", "The offset of a partition's next record.", ends)
    yield _family("log_segments", "gauge", "Segments of a partition.", segments)
    yield _family("partition_offline", "gauge", "1 for a partition that takes no writes after a failure.", offline)


def _groups(store: TopicStore) -> Iterator[str]:
    members: Samples = []
    committed: Samples = []
    behind: Samples = []
    try:
        groups = store.groups
        for group in groups.summaries():
            members.append(({"group": group.group, "state": group.state}, group.member_count))
            for (topic, number), commit in sorted(groups.committed(group.group).items()):
                labels = {"group": group.group, "topic": topic, "partition": number}
                committed.append((labels, commit.offset))
                with suppress(LogstoreError):  # deleted meanwhile, or one that cannot be opened
                    end_offset = store.opened_log(topic, number).log_end_offset
                    behind.append((labels, max(0, end_offset - commit.offset)))
    except LogstoreError:
        return
    yield _family("group_members", "gauge", "Members of a group.", members)
    yield _family("group_committed_offset", "gauge", "The offset that a group has committed of a partition.", committed)
    yield _family("group_lag", "gauge", "Offsets from what a group has committed to the partition's end.", behind)


# ---------------------------------------------------------------------------------------------------------------- text


def _family(name: str, kind: str, help_text: str, samples: Samples) -> str:
    lines = [f"logstore_{name}{_braced(labels)} {_number(value)}\n" for labels, value in samples]
    return _head(name, kind, help_text) + "".join(lines)


def _histograms(name: str, help_text: str, samples: Iterable[tuple[Labels, Histogram]]) -> str:
    lines = [_head(name, "histogram", help_text)]
    for labels, histogram in samples:
        totals = list(accumulate(histogram.counts))
        for bound, total in zip((*BUCKETS_S, "+Inf"), totals, strict=True):
            lines.append(f"logstore_{name}_bucket{_braced({**labels, 'le': bound})} {total}\n")
        lines.append(f"logstore_{name}_sum{_braced(labels)} {histogram.sum_s!r}\n")
        lines.append(f"logstore_{name}_count{_braced(labels)} {totals[-1]}\n")
    return "".join(lines)


def _head(name: str, kind: str, help_text: str) -> str:
    return f"# HELP logstore_{name} {help_text}\n# TYPE logstore_{name} {kind}\n"


def _braced(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join([f'{name}="{_escaped(str(value))}"' for name, value in labels.items()]) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(value)


def _api_name(key: int) -> str:
    """Kafka's, as in ``ApiVersions``."""
    try:
        return ApiKey(key).name.title().replace("_", "")
    except ValueError:
        return str(key)


def _error_name(code: int) -> str:
    try:
        return ErrorCode(code).name
    except ValueError:
        return str(code)
