"""``logstore copy``: topics between directories and clusters."""

import re
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from logstore.cli.main import DAMAGE_FOUND
from logstore.cli.options import emit_json, json_option, open_to_write, progress_bar
from logstore.cli.text import show_size, show_table
from logstore.client.copying.cluster import ClusterSource, ClusterTarget
from logstore.client.copying.copier import Copier
from logstore.client.copying.directory import DirectorySource, DirectoryTarget
from logstore.client.copying.ends import Source, Target, show
from logstore.client.copying.offsets import Carried
from logstore.client.copying.planning import Job
from logstore.client.embedded.store import open as open_store
from logstore.client.kafka.connecting import connect
from logstore.errors import CorruptData, InvalidArgument, OffsetGap
from logstore.format.compression import Compression

_SCHEME = "kafka://"
_ADDRESS = re.compile(r"[^/,\s]+:[0-9]{1,5}(,[^/,\s]+:[0-9]{1,5})*")
_CARRIED_FIELDS = ("source_offset", "target_offset", "left")
_CODECS = [codec.name.lower() for codec in Compression]


@click.command()
@click.argument("source")
@click.argument("target")
@click.option("--topics", metavar="A,B", help="These topics. Default: all but those whose names begin with __.")
@click.option(
    "--groups",
    default="all",
    show_default=True,
    metavar="all|none|A,B",
    help="The groups whose committed offsets are carried over.",
)
@click.option(
    "--append", "appends", is_flag=True, help="Also behind records that this source's copy has not put there."
)
@click.option("--skip-damaged", is_flag=True, help="Go on behind damage in the source, and list what was left out.")
@click.option(
    "--compression",
    type=click.Choice(_CODECS),
    help="Of what is encoded anew. Default: as a source directory has it; none of what comes from a cluster.",
)
@json_option("One JSON object a line for each partition and each offset of a group, then one of the whole.")
def copy(
    source: str,
    target: str,
    topics: str | None,
    groups: str,
    appends: bool,
    skip_damaged: bool,
    compression: str | None,
    as_json: bool,
) -> int:
    """Copy topics, and the offsets that groups have committed of them, from SOURCE to TARGET.

    Each is a data directory or a Kafka cluster: kafka://HOST:PORT[,HOST:PORT...]; HOST:PORT where there is no directory
    of that name is taken for a cluster too. A source directory may be in use by another process, or be Apache Kafka's
    own. Missing topics are created with the same partitions and settings. Partitions, keys, values, headers, timestamps
    and order are kept. What was committed in transactions is copied as plain records.

    Run it again to go on after it was stopped, by whatever, or to copy what has come since: no record is doubled or
    lost. For that it keeps notes in the target, in the topic __copy, and nobody else may write to the target's
    partitions; that somebody has is found out and told. A topic with records of which there are no notes is refused.

    A group's offset becomes the one behind as many records in the target, and is committed there unless the group has
    members there, or has gone on by itself there. A queue's messages are copied as a plain topic, without what became
    of them.

    \b
    Examples:
      logstore copy data /backup/data
      logstore copy data kafka://localhost:9092 --topics orders,payments
      logstore copy kafka://broker1:9092,broker2:9092 data --groups none
    """
    began_s = time.monotonic()
    codec = None if compression is None else Compression.parse(compression)
    _check_ends(source, target)
    with ExitStack() as stack:
        try:
            copier = Copier(
                _open_source(stack, source, skip_damaged),
                _open_target(stack, target, codec),
                topics=_names(topics),
                groups=None if groups == "all" else [] if groups == "none" else _names(groups),
                appends=appends,
                skips_damage=skip_damaged,
                tell=lambda text: click.echo(text, err=True),
            )
            with progress_bar(f"copy to {target}", copier.size, hidden=as_json) as progress:
                copier.copy(progress)
            carried = list(copier.carry_over())
        except (CorruptData, OffsetGap) as error:
            click.echo(f"error: {error}", err=True)
            if not skip_damaged:
                click.echo("stopped there; --skip-damaged goes on behind it, and lists what it leaves out", err=True)
            return DAMAGE_FOUND
    jobs = copier.jobs
    _tell_of_skipped(jobs)
    _show(jobs, carried, copier.copied_size, time.monotonic() - began_s, as_json)
    return DAMAGE_FOUND if any(skipped.is_damage for job in jobs for skipped in job.reader.skipped) else 0


# ------------------------------------------------------------------------------------------------------------ the ends


def _is_cluster(text: str) -> bool:
    return text.startswith(_SCHEME) or (not Path(text).exists() and _ADDRESS.fullmatch(text) is not None)


def _check_ends(source: str, target: str) -> None:
    if not _is_cluster(source) and not _is_cluster(target) and Path(source).resolve() == Path(target).resolve():
        raise InvalidArgument("TARGET", target, "it is the source itself")


def _open_source(stack: ExitStack, text: str, skips_damage: bool) -> Source:
    if _is_cluster(text):
        return ClusterSource(stack.enter_context(connect(text)))
    return DirectorySource(stack.enter_context(open_store(Path(text), read_only=True)), decodes_all=skips_damage)


def _open_target(stack: ExitStack, text: str, compression: Compression | None) -> Target:
    if _is_cluster(text):
        return ClusterTarget(stack.enter_context(connect(text)), compression)
    return DirectoryTarget(stack.enter_context(open_to_write(Path(text))), compression or Compression.NONE)


def _names(text: str | None) -> list[str] | None:
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise InvalidArgument("names", text, "give names with commas between, as in orders,payments")
    return names


# ---------------------------------------------------------------------------------------------------------------- show


def _tell_of_skipped(jobs: list[Job]) -> None:
    for job in jobs:
        for first, last, reason, _ in job.reader.skipped:
            click.echo(f"warning: {show(job.partition)}: offsets {first} to {last} are not copied: {reason}", err=True)


def _show(jobs: list[Job], carried: list[Carried], size: int, seconds: float, as_json: bool) -> None:
    count = sum(job.record_count for job in jobs)
    rate = size / seconds if seconds > 0 else 0.0
    if as_json:
        for job in jobs:
            emit_json(_job_json(job))
        for each in carried:
            place = each.partition._asdict()
            emit_json({"group": each.group, **place, **dict(zip(_CARRIED_FIELDS, each[2:], strict=True))})
        emit_json({"records": count, "size": size, "seconds": round(seconds, 3), "bytes_per_second": round(rate)})
        return
    if jobs:
        columns = ("topic", ">partition", ">records", ">source offsets", ">target offsets")
        click.echo(show_table(columns, [_row(job) for job in jobs]))
    if carried:
        heads = ("group", "topic", ">partition", ">source offset", ">target offset", "")
        click.echo(show_table(heads, [_carried_row(each) for each in carried]))
    topics = len({job.partition.topic for job in jobs})
    click.echo(
        f"{count:,} records of {topics} {'topic' if topics == 1 else 'topics'}, {show_size(size)}, {seconds:.2f} s, "
        f"{rate / 1e6:,.1f} MB/s; all stored"
    )


def _row(job: Job) -> tuple[object, ...]:
    offsets = [
        f"{first} to {behind}" if first != behind else f"at {first}"
        for first, behind in zip(job.begin, job.at, strict=True)
    ]
    return *job.partition, f"{job.record_count:,}", *offsets


def _carried_row(each: Carried) -> tuple[object, ...]:
    return each.group, *each.partition, each.source_offset, each.target_offset, each.left and f"left: {each.left}"


def _job_json(job: Job) -> dict[str, Any]:
    """Offsets from the first one that this run copied up to the one that is to come next."""
    return {
        **job.partition._asdict(),
        "records": job.record_count,
        "source_offsets": [job.begin.source, job.at.source],
        "target_offsets": [job.begin.target, job.at.target],
        "skipped": [skipped._asdict() for skipped in job.reader.skipped],
    }
