"""``logstore verify``: is everything whole?"""

import time
from pathlib import Path

import click

from logstore.cli.dump_json import json_finding
from logstore.cli.main import DAMAGE_FOUND
from logstore.cli.options import data_option, emit_json, json_option, path_argument, progress_bar, resolve
from logstore.cli.text import show_size
from logstore.storage.findings import Finding, Severity, Tally
from logstore.storage.survey import survey
from logstore.storage.verify import verify as verify_files


@click.command()
@path_argument
@json_option('One JSON object a line: each finding, then a summary with "type": "summary".')
@data_option
def verify(path: str | None, as_json: bool, data: Path) -> int:
    """Check every batch, record, index entry and checkpoint.

    PATH is a file, a partition's directory or a data directory, ours or Apache Kafka's; without one it is the data
    directory. Nothing is changed, and it may run beside a live writer. Each damage is reported with file, position and
    reason, and the exit status is 1; notes are no damage.

    What may be counted on: a batch acknowledged with durability "os" survives the end of the process, also by SIGKILL;
    one acknowledged with "fsync" survives the end of power. After a power cut the others are there up to some batch,
    and none behind it. Nothing that was acknowledged is ever changed, doubled or reordered, and damage to it by a
    failing disk is reported here and to whoever reads it.

    \b
    Examples:
      logstore verify --data /var/lib/app/data
      logstore verify data/orders_0 --json
    """
    found = survey(resolve(path, data))
    tally = Tally()
    counts = {Severity.DAMAGE: 0, Severity.NOTE: 0}
    started_s = time.monotonic()
    with progress_bar("verify", sum(file.size for file in found.all_files), hidden=as_json) as progress:
        for finding in verify_files(found, tally, progress):
            counts[finding.severity] += 1
            if as_json:
                emit_json({"type": "finding", **json_finding(finding)})
            else:
                _show(finding)
    damages, notes = counts[Severity.DAMAGE], counts[Severity.NOTE]
    seconds = time.monotonic() - started_s
    if as_json:
        emit_json({"type": "summary", **vars(tally), "damages": damages, "notes": notes, "seconds": round(seconds, 3)})
    else:
        found_text = (f"{damages:,} damages" if damages else "no damage") + (f", {notes:,} notes" if notes else "")
        click.echo(
            f"{tally.files:,} files, {tally.segments:,} segments, {tally.batches:,} batches, "
            f"{tally.records:,} records, {show_size(tally.size)} in {seconds:.2f} s: {found_text}"
        )
        if damages:
            click.echo("`logstore salvage` takes bad bytes out of logs, `logstore reindex` makes indexes anew.")
    return DAMAGE_FOUND if damages else 0


def _show(finding: Finding) -> None:
    size = f", {finding.size} bytes" if finding.size else ""
    offsets = ""
    if finding.first_offset is not None:
        end = "the end" if finding.last_offset is None else finding.last_offset
        offsets = f" (offsets {finding.first_offset} to {end})"
    click.secho(finding.severity.upper(), fg="red" if finding.severity is Severity.DAMAGE else "yellow", nl=False)
    click.echo(f" {finding.path}: position {finding.position}{size}: {finding.reason}{offsets}")
