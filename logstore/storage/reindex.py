"""Makes the indexes of logs anew, whatever they were. The caller holds the data directory's lock."""

from logstore.storage.cache import Caches
from logstore.storage.scan import Damage
from logstore.storage.segment import Segment
from logstore.storage.survey import KnownFile, check_segment_name


def reindex(log: KnownFile, index_interval: int = 4096) -> tuple[Segment, list[Damage]]:
    """Write both indexes of a log file, an entry every ``index_interval`` bytes; returns the segment, whose indexes can
    be looked at, and the damage in the log that entries go around. Raises InvalidArgument, StorageFailure."""
    check_segment_name(log)
    segment = Segment(log.path.parent, log.base_offset, Caches(), size=log.size, index_interval=index_interval)
    return segment, segment.rebuild_indexes()
