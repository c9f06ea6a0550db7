"""``logstore stats``: what logs hold, in numbers, bars and pictures."""

from collections import Counter
from pathlib import Path
from typing import Any

import click

from logstore.cli.main import DAMAGE_FOUND
from logstore.cli.options import data_option, emit_json, json_option, path_argument, progress_bar, resolve
from logstore.cli.text import show_bars, show_size, show_table, show_time
from logstore.storage.stats import LogStats, collect, total
from logstore.storage.survey import survey

_BAR_COUNT_MAX = 24


@click.command()
@path_argument
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.png", help="Draw the histograms."
)
@json_option("One JSON object a line for each partition, then one for all of them, named total.")
@data_option
def stats(path: str | None, plot: Path | None, as_json: bool, data: Path) -> int:
    """Count segments, batches and records; sizes, compression, rates.

    PATH is a .log file, a partition's directory or a data directory, ours or Apache Kafka's; without one it is the data
    directory. The whole log is read. Damage is counted and passed over, and the exit status is 1. --plot needs
    matplotlib, which comes with `pip install 'logstore[plot]'`.

    \b
    Examples:
      logstore stats data/orders_0
      logstore stats --data /var/lib/app/data --plot orders.png
    """
    found = survey(resolve(path, data))
    size = sum(log.size for partition in found.partitions for log in partition.logs)
    with progress_bar("read", size, hidden=as_json) as progress:
        parts = [collect(partition, progress) for partition in found.partitions]
    summed = total("total", parts)
    if plot is not None:
        from logstore.cli.plot import draw

        draw(summed, plot, str(found.path))
    if as_json:
        for part in [*parts, summed]:
            emit_json(_as_json(part))
    else:
        click.echo(_partitions_table(parts, summed))
        click.echo(f"\n{_codecs_table(summed)}")
        for title, rows in histograms(summed):
            click.echo(f"\n{title}\n{show_bars(rows)}")
        if plot is not None:
            click.echo(f"\ndrawn in {plot}")
    return DAMAGE_FOUND if summed.damaged_ranges else 0


def _partitions_table(parts: list[LogStats], summed: LogStats) -> str:
    columns = ("partition", ">segments", ">batches", ">records", ">log", ">other files", ">ratio", ">offsets")
    rows = [_row(part) for part in parts]
    if len(parts) > 1:
        rows.append(_row(summed))
    return show_table((*columns, "from", "to", ">damaged"), rows)


def _row(part: LogStats) -> list[str]:
    offsets = "" if part.first_offset is None else f"{part.first_offset}-{part.next_offset - 1}"
    counts = [f"{count:,}" for count in (part.segments, part.batches, part.records)]
    sizes = [show_size(part.log_size), show_size(part.other_size), f"{part.compression_ratio:.2f}"]
    times = [show_time(part.first_timestamp_ms), show_time(part.last_timestamp_ms)]
    damaged = f"{part.damaged_ranges} ({show_size(part.damaged_size)})" if part.damaged_ranges else "-"
    return [part.name, *counts, *sizes, offsets, *times, damaged]


def _codecs_table(summed: LogStats) -> str:
    rows = [
        (name, f"{codec.batches:,}", show_size(codec.stored_size), show_size(codec.plain_size), f"{codec.ratio:.2f}")
        for name, codec in sorted(summed.codecs.items())
    ]
    return show_table(("codec", ">batches", ">stored", ">plain", ">ratio"), rows)


def histograms(summed: LogStats) -> list[tuple[str, list[tuple[str, int]]]]:
    """Titles, and rows of a label and a count."""
    buckets, width_ms = _rate_rows(summed)
    return [
        ("Batches by their size", _power_rows(summed.batch_sizes, show_size)),
        ("Batches by their count of records", _power_rows(summed.batch_records, lambda count: f"{count:,}")),
        (f"Records by time, {width_ms // 1000:,} s a row", buckets),
    ]


def _power_rows(counts: Counter[int], show: Any) -> list[tuple[str, int]]:
    if not counts:
        return []
    powers = range(min(counts), max(counts) + 1)
    return [(f"{show(1 << power >> 1)} and more" if power else show(0), counts[power]) for power in powers]


def _rate_rows(summed: LogStats) -> tuple[list[tuple[str, int]], int]:
    """At most _BAR_COUNT_MAX rows: several of the histogram's buckets a row, where there are more."""
    buckets = summed.rates.buckets()
    step = -(-len(buckets) // _BAR_COUNT_MAX) or 1
    groups = [buckets[at : at + step] for at in range(0, len(buckets), step)]
    rows = [(show_time(group[0][0]), sum(count for _, count in group)) for group in groups]
    return rows, step * summed.rates.width_ms


def _as_json(part: LogStats) -> dict[str, Any]:
    plain = {name: value for name, value in vars(part).items() if isinstance(value, str | int) or value is None}
    codecs = {name: {**codec._asdict(), "ratio": round(codec.ratio, 4)} for name, codec in part.codecs.items()}
    powers = {
        name: [{"from": 1 << power >> 1, "count": count} for power, count in sorted(counts.items())]
        for name, counts in (("batch_sizes", part.batch_sizes), ("batch_records", part.batch_records))
    }
    rates = [{"from_ms": start_ms, "records": count} for start_ms, count in part.rates.buckets() if count]
    ratio = {"compression_ratio": round(part.compression_ratio, 4), "codecs": codecs}
    return {**plain, **ratio, **powers, "rates": rates, "rate_width_ms": part.rates.width_ms}
