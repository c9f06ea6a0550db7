"""What became of a transaction, found by its marker further on in the log: what reading committed records only needs.

Apache Kafka's producers write transactions, and a directory or a copied log may hold theirs. Every batch of one is
followed by a marker of the same producer, which says whether it was committed. The log decides, so the ``.txnindex``,
which follows from it, is not read.

A marker that was lost to damage cannot be told from one that has not come yet: then the producer's next marker decides.
The damage itself is reported when reading comes to it.
"""

from collections import defaultdict, deque

from logstore.errors import DamagedLog, OffsetGap
from logstore.format.batch import BatchHeader
from logstore.format.control_record import control_type
from logstore.storage.log_view import LogView


class Transactions:
    """Of one partition, for one reader that goes forward. Each batch is looked ahead at once."""

    def __init__(self, offset: int) -> None:
        self.seen_until = offset
        self._markers: dict[int, deque[tuple[int, bool]]] = defaultdict(deque)

    def is_committed(self, header: BatchHeader, view: LogView) -> bool | None:
        """Whether a transactional batch is to be seen; None where its transaction is not finished yet. Batches are
        asked for in the order of the log."""
        markers = self._markers[header.producer_id]
        while markers and markers[0][0] < header.base_offset:
            markers.popleft()
        if not markers:
            self._look_ahead(header, view)
        return markers[0][1] if markers else None

    def _look_ahead(self, header: BatchHeader, view: LogView) -> None:
        """Up to the next marker of this producer, or the end."""
        self.seen_until = max(self.seen_until, header.next_offset)
        while self.seen_until < view.log_end_offset:
            try:
                for batch in view.batches(self.seen_until):
                    self.seen_until = batch.header.next_offset
                    if batch.header.is_control and (kind := control_type(batch.records()[0])) is not None:
                        marker = (batch.header.base_offset, kind == "COMMIT")
                        self._markers[batch.header.producer_id].append(marker)
                        if batch.header.producer_id == header.producer_id:
                            return
                self.seen_until = view.log_end_offset
            except DamagedLog as error:
                self.seen_until = view.log_end_offset if error.next_offset is None else error.next_offset
            except OffsetGap as error:
                self.seen_until = error.last_offset + 1
