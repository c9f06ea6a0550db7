"""``logstore reindex``: make indexes anew."""

import contextlib
from pathlib import Path

import click

from logstore.cli.dump_json import json_finding
from logstore.cli.main import DAMAGE_FOUND
from logstore.cli.options import data_option, emit_json, json_option, path_argument, progress_bar, resolve
from logstore.cli.repair import DEFAULT_INDEX_INTERVAL, index_intervals, lock_data_dir
from logstore.storage.findings import Severity, damage_finding
from logstore.storage.reindex import reindex as reindex_log
from logstore.storage.survey import survey


@click.command()
@path_argument
@click.option(
    "--index-interval",
    type=click.IntRange(min=0),
    show_default=f"the topic's index.interval.bytes, {DEFAULT_INDEX_INTERVAL} where that is not known",
    metavar="BYTES",
    help="Bytes of the log between two entries.",
)
@json_option("One JSON object a line for each log: path, entries of both indexes, damage.")
@data_option
def reindex(path: str | None, index_interval: int | None, as_json: bool, data: Path) -> int:
    """Make the indexes of logs anew.

    PATH is a .log file, a partition's directory or a data directory, which no process may have open; without one it is
    the data directory. The .index and .timeindex of each log are replaced by what the log says. Damage in a log is
    gone around and reported, and the exit status is 1.

    \b
    Examples:
      logstore reindex data/orders_0
      logstore reindex --data /var/lib/app/data
    """
    found = survey(resolve(path, data))
    damage_count = 0
    with contextlib.ExitStack() as stack:
        if found.data_dir is not None:
            stack.callback(lock_data_dir(found.data_dir).close)
        intervals = {}
        if found.data_dir is not None and index_interval is None:
            intervals = index_intervals(found.data_dir)
        logs = [
            (log, log is partition.logs[-1], intervals.get(partition.topic_partition[0], DEFAULT_INDEX_INTERVAL))
            for partition in found.partitions
            for log in partition.logs
        ]
        progress = stack.enter_context(progress_bar("reindex", sum(log.size for log, _, _ in logs), hidden=as_json))
        for log, is_last, topics_interval in logs:
            segment, damages = reindex_log(log, topics_interval if index_interval is None else index_interval)
            progress(log.size)
            findings = [damage_finding(log.path, damage, is_last) for damage in damages]
            damage_count += sum(finding.severity is Severity.DAMAGE for finding in findings)
            counts = {"index_entries": len(segment.offset_index), "time_index_entries": len(segment.time_index)}
            if as_json:
                emit_json({"path": str(log.path), **counts, "damages": [json_finding(item) for item in findings]})
                continue
            click.echo(f"{log.path}: {counts['index_entries']} offset entries, {counts['time_index_entries']} times")
            for finding in findings:
                click.echo(f"  {finding.severity.upper()} at position {finding.position}: {finding.reason}")
    return DAMAGE_FOUND if damage_count else 0
