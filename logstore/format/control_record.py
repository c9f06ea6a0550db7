"""Control records: what Kafka writes into a log beside the records of clients, in batches with the control attribute.

::

    key      version int16 = 0 | type int16                         4 bytes
    value    version int16 = 0 | coordinator_epoch int32            6 bytes: of a transaction marker

A transaction marker is the one record of its batch; the batch's producer is the one whose transaction ends there. Other
types are Kafka's own, with values of their own, and are let through. The batch's CRC covers them as any record. A later
version may append fields, so what follows is not looked at.
"""

from struct import Struct

from logstore.errors import CorruptBatch
from logstore.format.record import Record

CONTROL_TYPES = {0: "ABORT", 1: "COMMIT"}
_KEY = Struct(">hh")
_VALUE = Struct(">hi")
assert (_KEY.size, _VALUE.size) == (4, 6)


def encode_marker(control_type: int, coordinator_epoch: int) -> tuple[bytes, bytes]:
    """Key and value of a transaction marker, the one record of a control batch."""
    return _KEY.pack(0, control_type), _VALUE.pack(0, coordinator_epoch)


def decode_marker(record: Record) -> tuple[int, int]:
    """A transaction marker's type (see CONTROL_TYPES) and coordinator epoch. Raises CorruptBatch."""
    if record.key is None or len(record.key) < _KEY.size or record.value is None or len(record.value) < _VALUE.size:
        raise CorruptBatch("a control record's key or value is too short")
    return _KEY.unpack_from(record.key)[1], _VALUE.unpack_from(record.value)[1]


def control_type(record: Record) -> str | None:
    """ABORT or COMMIT where a control record is a transaction marker; None for another, as Kafka has them in topics of
    its own. Raises CorruptBatch for a key, or a marker, that is too short."""
    if record.key is None or len(record.key) < _KEY.size:
        raise CorruptBatch("a control record's key is too short")
    if _KEY.unpack_from(record.key)[1] not in CONTROL_TYPES:
        return None
    return CONTROL_TYPES[decode_marker(record)[0]]
