"""What a producer is, whatever stands behind it: a directory of this process, or a Kafka cluster."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, NamedTuple, Self

from logstore.config import ProducerConfig
from logstore.storage.durability import Durability

Serializer = Callable[[Any], bytes | None]


class Receipt(NamedTuple):
    """Where a record is, and what is promised of it. With acks=0 the offset is -1 and the durability None."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    durability: Durability | None


class Producer(ABC):
    """Sends records in the background, in batches of a partition. Safe to use from many threads."""

    config: ProducerConfig

    @abstractmethod
    def send(
        self,
        topic: str,
        value: Any,
        *,
        key: Any = None,
        partition: int | None = None,
        headers: Mapping[str, bytes | None] | Iterable[tuple[str, bytes | None]] | None = None,
        timestamp_ms: int | None = None,
        on_delivery: Callable[[Receipt | None, BaseException | None], None] | None = None,
        block: bool = True,
    ) -> "Future[Receipt]":
        """Take a record in, and return a future of its receipt.

        Without ``partition`` it goes where Kafka's hash of ``key`` says; without a key to one partition after the
        other, a batch each. ``on_delivery`` is called, in the sending thread, with the receipt or the error. Whatever
        is wrong with the record itself is raised here: InvalidRecord, RecordTooLarge, UnknownTopic, UnknownPartition,
        SerializationFailed; BufferFull where there was no room for max.block.ms, or, without ``block``, there is none;
        Closed. What goes wrong later is the future's.
        """

    @abstractmethod
    def flush(self, timeout: float | None = None) -> None:
        """Wait until all that was sent before is stored or has failed. Raises TimedOut."""

    @abstractmethod
    def close(self, timeout: float | None = None) -> None:
        """Store what was sent, and stop. What is not stored in time fails with TimedOut. Closing twice is no error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
