"""What streams and members of groups told, as the history that the judge of ``history`` looks at."""

from collections.abc import Sequence, Set

from history import Entry, History
from kafka_clients.agent import Member, Stream
from kafka_clients.records import Received


def history_of(
    streams: Sequence[tuple[Stream, int]], members: Sequence[Member], logs: dict[int, list[Received]]
) -> History:
    """``streams`` with how many records each has sent in all; ``logs``: each partition from its start to its end, read
    when all was quiet."""
    history = History()
    for stream, count in streams:
        for number in range(count):
            log = str(number % stream.partition_count)
            append = history.begin(log, stream.name, number, [stream.value(number)])
            if number in stream.acked:
                partition, offset = stream.acked[number]
                assert str(partition) == log
                history.acknowledge(append, offset)
    read = {member.name: {(record.partition, record.offset) for record in member.records} for member in members}
    for member in members:
        by_others = set().union(*(places for name, places in read.items() if name != member.name))
        for run in runs(member, by_others):
            _note(history, member.name, run)
    for partition, records in logs.items():
        log = str(partition)
        entries = [Entry(record.offset, record.key, record.value) for record in records]
        history.poll(log, "all", 0, entries, len(entries), acked_end=history.acked_end(log), is_whole=True)
    return history


def runs(member: Member, by_others: Set[tuple[int, int]]) -> list[list[Received]]:
    """What it read of each partition, cut where the partition may have been another's meanwhile, or where it went back
    to what was committed: within a run nothing may be left out. That a partition comes and goes between two looks at
    the assignment shows only in that all that is left out was read by others."""
    found: list[list[Received]] = []
    latest: dict[int, tuple[int, list[Received]]] = {}
    for generation, record in zip(member.generations, member.records, strict=True):
        known, run = latest.get(record.partition, (-1, []))
        left_out = {(record.partition, offset) for offset in range(run[-1].offset + 1, record.offset)} if run else set()
        if known != generation or record.offset <= run[-1].offset or (left_out and left_out <= by_others):
            run = []
            found.append(run)
        run.append(record)
        latest[record.partition] = generation, run
    return found


def _note(history: History, reader: str, run: list[Received]) -> None:
    entries = [Entry(record.offset, record.key, record.value) for record in run]
    history.poll(str(run[0].partition), reader, run[0].offset, entries, run[-1].offset + 1)
