"""The commits of a cluster's consumer: what it has consumed, and nothing else, when it says so or the time has come."""

import logging
import time
from collections.abc import Mapping

from confluent_kafka import Consumer as LibConsumer
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as LibPartition

from logstore.client.kafka.admin import Admin
from logstore.client.kafka.assigned import committed_offsets
from logstore.client.kafka.errors import Facts
from logstore.client.kafka.groups import as_place, check_committed
from logstore.client.kafka.reading import Reading
from logstore.config import ConsumerConfig
from logstore.errors import LogstoreError
from logstore.format.filename import TopicPartition
from logstore.groups.requests import OffsetAndMetadata

logger = logging.getLogger("logstore.client")


class Commits:
    """For the thread whose turn it is.

    librdkafka gives a commit that waits no time-out of its own: where the group's broker is gone, it takes
    session.timeout.ms. An automatic one is not worth that: it is left out unless the broker has just answered."""

    def __init__(
        self, admin: Admin, client: LibConsumer, group: str | None, config: ConsumerConfig, reading: Reading
    ) -> None:
        self._admin, self._client, self._group, self._config = admin, client, group, config
        self._reading = reading
        self._is_automatic = group is not None and config.enable_auto_commit
        self._interval_s = config.auto_commit_interval_ms / 1000
        self._next_s = time.monotonic() + self._interval_s

    def consumed(self) -> dict[TopicPartition, OffsetAndMetadata]:
        assigned = self._reading.assigned.items()
        return {
            partition: OffsetAndMetadata(state.consumed) for partition, state in assigned if state.consumed is not None
        }

    def wait_for(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Returns when the cluster has them."""
        if not offsets:
            return
        places = [as_place(partition, committed) for partition, committed in offsets.items()]
        what, facts = f"commit offsets of group {self._group!r}", self.facts()
        facts.note_metadata(committed.metadata for committed in offsets.values())
        done = self._admin.asking(what, lambda: self._client.commit(offsets=places, asynchronous=False), facts)
        check_committed(done or (), what, facts)

    def if_due(self) -> None:
        """Without waiting: one that fails is told of in the log, and the next one covers it."""
        now = time.monotonic()
        if not self._is_automatic or now < self._next_s:
            return
        self._next_s = now + self._interval_s
        places = [as_place(partition, committed) for partition, committed in self.consumed().items()]
        if places:
            try:
                self._client.commit(offsets=places, asynchronous=True)
            except KafkaException as error:
                note_commit(error.args[0], places)

    def now_if_automatic(self) -> bool:
        """Before partitions go, what is not committed yet: one that fails means that others read some records again.
        False where it fails."""
        consumed = self.consumed() if self._is_automatic else {}
        try:
            known = committed_offsets(self._admin, self._client, consumed) if consumed else {}
            offsets = {partition: place.offset for partition, place in known.items()}
            self.wait_for({p: moved for p, moved in consumed.items() if moved.offset != offsets.get(p)})
        except LogstoreError as error:
            logger.warning("group %r: an automatic commit failed: %s", self._group, error)
            return False
        return True

    def facts(self) -> Facts:
        return Facts(
            group=self._group or "",
            member_id=self._client.memberid() or "",
            instance_id=self._config.group_instance_id,
            interval_ms=self._config.max_poll_interval_ms,
        )


def note_commit(error: KafkaError | None, places: list[LibPartition]) -> None:
    """What librdkafka tells of a commit that nobody waited for."""
    if error is not None and error.code() != KafkaError._NO_OFFSET:
        logger.warning("an automatic commit failed: %s", error.str())
