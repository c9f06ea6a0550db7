"""The picture that ``logstore stats --plot`` draws. matplotlib is an extra, and imported when it is asked for."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from logstore.cli.text import show_size
from logstore.errors import StorageFailure
from logstore.storage.stats import LogStats

_BLUE, _GREY = "#3b6ea5", "#b8c4d0"


def draw(stats: LogStats, path: Path, source: str) -> None:
    """Four panels into an image file, whose ending says its kind. Raises UsageError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise click.UsageError("--plot needs matplotlib: pip install 'logstore[plot]'") from None
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    axes = figure.subplots(2, 2)
    _power_bars(axes[0][0], "Batches by size", stats.batch_sizes, show_size)
    _power_bars(axes[0][1], "Batches by count of records", stats.batch_records, lambda count: f"{count:,}")
    _rates(axes[1][0], stats)
    _codecs(axes[1][1], stats)
    figure.suptitle(
        f"{source}: {stats.records:,} records, {stats.segments:,} segments, {show_size(stats.log_size)}", fontsize=13
    )
    for row in axes:
        for axis in row:
            axis.spines[["top", "right"]].set_visible(False)
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise StorageFailure(str(path), "write", error.errno or 0, error.strerror or str(error)) from None
    except ValueError as error:  # an ending that matplotlib knows no format for
        raise click.UsageError(f"--plot {path}: {error}") from None


def _power_bars(axis: Any, title: str, counts: dict[int, int], show: Any) -> None:
    powers = list(range(min(counts, default=0), max(counts, default=0) + 1))
    axis.bar(powers, [counts.get(power, 0) for power in powers], width=0.92, color=_BLUE)
    step = -(-len(powers) // 8)
    ticks = powers[::step]
    axis.set_xticks(ticks, [f"≥ {show(1 << power >> 1)}" for power in ticks], rotation=30, ha="right")
    axis.set_title(title, loc="left")
    axis.set_ylabel("batches")


def _rates(axis: Any, stats: LogStats) -> None:
    buckets = stats.rates.buckets()
    seconds = stats.rates.width_ms / 1000
    axis.set_title(f"Records a second (mean of {seconds:,.0f} s)", loc="left")
    axis.set_ylabel("records/s")
    if not buckets:
        return
    starts = [start_ms for start_ms, _ in buckets]
    try:
        times: list[Any] = [datetime.fromtimestamp(start_ms / 1000, UTC) for start_ms in starts]
    except (OverflowError, ValueError, OSError):
        times = starts  # a record of the year 10000 and later
    axis.step([*times], [count / seconds for _, count in buckets], where="post", color=_BLUE)
    axis.fill_between([*times], [count / seconds for _, count in buckets], step="post", color=_BLUE, alpha=0.25)
    axis.set_ylim(bottom=0)
    axis.tick_params(axis="x", rotation=30)


def _codecs(axis: Any, stats: LogStats) -> None:
    names = sorted(stats.codecs)
    places = range(len(names))
    plain = [stats.codecs[name].plain_size / 2**20 for name in names]
    stored = [stats.codecs[name].stored_size / 2**20 for name in names]
    axis.barh([place - 0.2 for place in places], plain, height=0.4, color=_GREY, label="plain")
    axis.barh([place + 0.2 for place in places], stored, height=0.4, color=_BLUE, label="stored")
    for place, name, size in zip(places, names, stored):
        axis.annotate(f" {stats.codecs[name].ratio:.1f}x", (size, place + 0.2), va="center", fontsize=9)
    axis.set_yticks(list(places), names)
    axis.invert_yaxis()
    axis.set_xlabel("MiB")
    axis.set_title("Compression", loc="left")
    if names:
        axis.legend(frameon=False)
