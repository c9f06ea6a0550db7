"""Where a cluster's consumer is in each of its partitions, and where it begins.

Positions are looked up here and not left to librdkafka: so they are known as soon as a partition is assigned, "latest"
means the end at that moment, and nothing is committed but what was asked for.
"""

from collections.abc import Iterable

from confluent_kafka import Consumer as LibConsumer
from confluent_kafka import TopicPartition as LibPartition

from logstore.client.kafka.admin import Admin
from logstore.client.kafka.errors import Facts, translated
from logstore.config import ConsumerConfig
from logstore.format.filename import TopicPartition


class AssignedPartition:
    """``next``: the offset to return next, ``consumed``: the one to commit; None: not known. ``has_no_start``: looked
    up, and there is none: auto.offset.reset is ``none``, and nothing was committed that the log still has.

    What librdkafka does meanwhile: ``is_stopped``: it was told to pause; ``must_seek``: it reads elsewhere;
    ``is_given_up``: it has let go of the partition, since the offset was not in the log, and takes no seek."""

    __slots__ = ("consumed", "has_no_start", "is_given_up", "is_paused", "is_stopped", "must_seek", "next")

    def __init__(self) -> None:
        self.next: int | None = None
        self.consumed: int | None = None
        self.is_paused = False
        self.is_stopped = False
        self.must_seek = False
        self.is_given_up = False
        self.has_no_start = False

    def go_to(self, offset: int | None) -> None:
        self.next = self.consumed = offset
        self.must_seek = True
        self.has_no_start = False

    @property
    def must_stop(self) -> bool:
        return self.is_paused or self.next is None

    @property
    def is_settled(self) -> bool:
        """Whether what librdkafka returns is what is wanted."""
        return self.must_stop == self.is_stopped and not (self.must_seek and not self.must_stop)


def starting_offsets(
    admin: Admin, client: LibConsumer, group: str | None, config: ConsumerConfig, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, int | None]:
    """The committed offset where it still is in the log, else what auto.offset.reset says: None for ``none``."""
    partitions = list(partitions)
    if not partitions:
        return {}
    committed = {} if group is None else committed_offsets(admin, client, partitions)
    begins = admin.beginning_offsets(committed)
    # What was committed beyond the end, of a topic made anew, is found out by the fetch.
    valid: dict[TopicPartition, int | None] = {
        partition: place.offset for partition, place in committed.items() if place.offset >= begins[partition]
    }
    return valid | reset_offsets(admin, config, [partition for partition in partitions if partition not in valid])


def reset_offsets(
    admin: Admin, config: ConsumerConfig, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, int | None]:
    """What auto.offset.reset says: None for ``none``."""
    match config.auto_offset_reset:
        case "earliest":
            return dict(admin.beginning_offsets(partitions))
        case "latest":
            is_read_committed = config.isolation_level == "read_committed"
            return dict(admin.end_offsets(partitions, read_committed=is_read_committed))
        case _:
            return dict.fromkeys(partitions, None)


def committed_offsets(
    admin: Admin, client: LibConsumer, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, LibPartition]:
    """What the group has committed, as librdkafka has it: only where there is something."""
    what = "look up committed offsets"
    wanted = [LibPartition(*partition) for partition in partitions]
    found = admin.asking(what, lambda: client.committed(wanted, timeout=admin.timeout_s))
    for place in found:
        if place.error is not None:
            raise translated(place.error, what, Facts(topic=place.topic, partition=place.partition))
    return {TopicPartition(place.topic, place.partition): place for place in found if place.offset >= 0}
