"""``logstore salvage``: take bad bytes out of logs."""

import contextlib
from pathlib import Path
from typing import Any

import click

from logstore.cli.main import DAMAGE_FOUND
from logstore.cli.options import data_option, emit_json, json_option, path_argument, progress_bar, resolve
from logstore.cli.repair import DEFAULT_INDEX_INTERVAL, index_intervals, lock_data_dir
from logstore.errors import InvalidArgument
from logstore.storage import salvage as storage
from logstore.storage.facts import DirFacts
from logstore.storage.survey import survey


@click.command()
@path_argument
@click.option("--write", is_flag=True, help="Do it. Without this, only what would be done is shown.")
@json_option('One JSON object a line for each bad range, then a summary with "type": "summary".')
@data_option
def salvage(path: str | None, write: bool, as_json: bool, data: Path) -> int:
    """Take damaged bytes out of logs, so that the rest can be read.

    PATH is a partition's directory or a data directory, which no process may have open; without one it is the data
    directory. Bad ranges are copied to salvaged/ in the partition's directory, the log is written anew with exactly the
    good batches, and the offsets that are lost become a gap: whoever reads there is told. A batch of which only the
    base offset, length, leader epoch or magic is wrong is put right, if that is beyond doubt. Without --write nothing
    is changed, and the exit status is 1 if there is damage; with it, it is 0 once the damage has been dealt with.

    \b
    Examples:
      logstore salvage data/orders_0
      logstore salvage --data /var/lib/app/data --write
    """
    target = resolve(path, data)
    found = survey(target)
    if found.is_file:
        raise InvalidArgument("path", str(target), "name the partition's directory: a log is salvaged as a whole")
    with contextlib.ExitStack() as stack:
        if found.data_dir is not None and write:
            stack.callback(lock_data_dir(found.data_dir).close)
        intervals = index_intervals(found.data_dir) if write and found.data_dir is not None else {}
        facts = DirFacts(found.data_dir)
        size = sum(log.size for partition in found.partitions for log in partition.logs)
        with progress_bar("look for damage", size, hidden=as_json) as progress:
            plans = [
                (plan, intervals.get(partition.topic_partition[0], DEFAULT_INDEX_INTERVAL))
                for partition in found.partitions
                for plan in storage.plan(partition, facts.of(partition), progress)
            ]
        for plan, interval in plans:
            aside: list[Path | None] = list(storage.apply(plan, interval)) if write else [None] * len(plan.bad)
            for bad, kept in zip(plan.bad, aside, strict=True):
                _show(plan.log.path, bad, kept, as_json)
    ranges = [bad for plan, _ in plans for bad in plan.bad]
    lost = sum(bad.lost[1] - bad.lost[0] + 1 for bad in ranges if bad.lost)
    if as_json:
        summary: dict[str, Any] = {"type": "summary", "written": write, "bad_ranges": len(ranges), "offsets_lost": lost}
        emit_json(summary)
    elif not ranges:
        click.echo("there is no damage to salvage")
    elif write:
        click.echo(f"{len(ranges)} bad ranges in {len(plans)} logs moved aside; {lost} offsets are lost")
    else:
        click.echo(
            f"{len(ranges)} bad ranges in {len(plans)} logs, {lost} offsets lost; nothing was changed: --write does it"
        )
    return DAMAGE_FOUND if ranges and not write else 0


def _show(log: Path, bad: storage.BadRange, kept: Path | None, as_json: bool) -> None:
    if as_json:
        first, last = bad.lost or (None, None)
        place = {"type": "bad_range", "path": str(log), "position": bad.position, "size": bad.size}
        kept_at = None if kept is None else str(kept)
        emit_json(
            {
                **place,
                "reason": bad.reason,
                "first_offset": first,
                "last_offset": last,
                "moved_to": kept_at,
                "is_mended": bool(bad.head),
            }
        )
        return
    lost = f"offsets {bad.lost[0]} to {bad.lost[1]} are lost" if bad.lost else "no offset is lost"
    if bad.head:
        lost = "the batch can be put right" if kept is None else "the batch was put right"
    click.echo(f"{log}: position {bad.position}, {bad.size} bytes: {bad.reason}; {lost}")
    if kept is not None:
        click.echo(f"  moved to {kept}")
