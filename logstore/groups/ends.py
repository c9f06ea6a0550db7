"""What is asked of a partition's log from the groups' side: where it starts and ends, and what was when."""

from typing import Protocol

from logstore.storage.log_view import TimestampAndOffset


class PartitionEnds(Protocol):
    """A ``LogView`` is one; so may be what stands for a partition elsewhere."""

    @property
    def name(self) -> str: ...

    @property
    def log_start_offset(self) -> int: ...

    @property
    def log_end_offset(self) -> int: ...

    def offset_for_time(self, timestamp_ms: int, /) -> TimestampAndOffset | None: ...
