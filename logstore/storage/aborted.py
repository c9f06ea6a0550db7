"""Which transactions between two offsets were aborted: what a reader of committed records leaves out.

A marker further on in the log tells of each, and the log decides: Kafka's ``.txnindex``, which follows from it, is not
read. Most logs hold no transaction at all. So where none can be is kept in mind, as far as it was walked through or
written by this process, and not looked for again.
"""

from typing import NamedTuple

from logstore.errors import CorruptBatch, DamagedLog, OffsetGap
from logstore.format.batch import TRANSACTIONAL
from logstore.format.control_record import control_type
from logstore.storage.log_view import LogView


class AbortedTransaction(NamedTuple):
    """Its records are those of the producer from ``first_offset`` up to the marker. One that began before the offsets
    that were asked for may be given the first of its offsets there."""

    producer_id: int
    first_offset: int
    marker_offset: int


class Aborted:
    """Of one log. The one who writes it calls ``note_written`` and ``note_cut``; anybody may call the rest."""

    def __init__(self, log_end_offset: int) -> None:
        self._plain_from = log_end_offset  # none from here on
        self._walked = (log_end_offset, log_end_offset)  # and none from the first of these up to the second

    def note_written(self, next_offset: int) -> None:
        """Batches of transactions have been appended, up to ``next_offset``."""
        self._plain_from = next_offset

    def note_cut(self, end_offset: int) -> None:
        first, end = self._walked
        self._walked = min(first, end_offset), min(end, end_offset)

    def may_be(self, from_offset: int, to_offset: int) -> bool:
        """Whether a batch of a transaction may lie there, so that ``find`` has to look. Never waits."""
        first, end = self._walked
        return from_offset < min(to_offset, self._plain_from) and not first <= from_offset <= to_offset <= end

    def find(self, view: LogView, from_offset: int, to_offset: int) -> list[AbortedTransaction]:
        """Those that have records from ``from_offset`` up to ``to_offset``, in the order of their markers. It reads
        headers up to the last of these. ``to_offset`` is not above the last stable offset, or markers may be missing.
        Raises OffsetOutOfRange, StorageFailure."""
        if not self.may_be(from_offset, to_offset):
            return []
        open_since: dict[int, int] = {}
        aborted: list[AbortedTransaction] = []
        is_plain = True
        offset = from_offset
        while offset < view.log_end_offset and (offset < to_offset or open_since):
            try:
                for segment, (position, header) in view.headers(offset):
                    if header.base_offset >= to_offset and not open_since:
                        break
                    offset = header.next_offset
                    if not header.attributes & TRANSACTIONAL:
                        continue
                    is_plain = False
                    if not header.is_control:
                        if header.base_offset < to_offset:
                            open_since.setdefault(header.producer_id, header.base_offset)
                    elif header.producer_id in open_since:
                        marker = next(segment.batches(position)).records()[0]
                        first_offset = open_since.pop(header.producer_id)
                        if control_type(marker) == "ABORT":
                            aborted.append(AbortedTransaction(header.producer_id, first_offset, header.base_offset))
                else:
                    break
            except OffsetGap as error:
                offset = error.last_offset + 1
            except DamagedLog as error:  # who reads there is told
                if error.next_offset is None or error.next_offset <= offset:
                    break
                offset = error.next_offset
            except (CorruptBatch, IndexError):
                continue  # a marker that tells nothing
        if is_plain:
            self._note_walked(from_offset, min(offset, to_offset))
        return aborted

    def _note_walked(self, from_offset: int, to_offset: int) -> None:
        first, end = self._walked
        if first <= from_offset <= end or first <= to_offset <= end:
            self._walked = min(first, from_offset), max(end, to_offset)
        else:
            self._walked = from_offset, to_offset
