"""Tables of the ratios in a benchmark run, and a picture of them.

    python -m pytest bench --benchmark-json=run.json
    python -m bench.report run.json [--plot ratios.png]

or tools/bench, which does both. Every row is one contest: medians of rounds that were taken in turns, and logstore's
divided by each of the others'. Where the unit is so many a second, a ratio above 1 is good; where it is µs, ms, bytes
or MB, one below 1 is.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple


class Table(NamedTuple):
    """``prefixes``: what the titles of its contests begin with; ``peers``: who has a column."""

    title: str
    prefixes: tuple[str, ...]
    peers: tuple[str, ...]


TABLES = (
    Table("Logs", ("W",), ("plain", "lmdb", "sqlite")),
    Table(
        "Queues, producers and groups",
        ("Q", "P", "G"),
        ("lmdb", "sqlite", "queuelib", "litequeue", "persist-queue", "diskcache"),
    ),
    Table("Broker", ("B",), ("Kafka",)),
)


def load(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The machine, and the contests in the order of their titles."""
    run = json.loads(path.read_text())
    contests = [item["extra_info"] for item in run["benchmarks"] if "medians" in item["extra_info"]]
    return run["machine_info"], sorted(contests, key=lambda contest: contest["title"])


def tables(contests: list[dict[str, Any]]) -> list[tuple[Table, list[dict[str, Any]]]]:
    """Those that have contests, with them."""
    found = []
    for table in TABLES:
        rows = [one for prefix in table.prefixes for one in contests if one["title"].startswith(prefix)]
        if rows:
            found.append((table, rows))
    return found


def describe(machine: dict[str, Any]) -> str:
    peers = ", ".join(f"{name} {version}" for name, version in machine["peers"].items())
    return (
        f"{machine['cpu'].get('brand_raw', machine['machine'])}, {machine['cores']} cores, {machine['system']} "
        f"{machine['release']}, {machine['python']}, {machine['file_system']}, {peers}"
    )


def number(value: float | None) -> str:
    if value is None:
        return "–"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def text(table: Table, contests: list[dict[str, Any]]) -> str:
    peers = table.peers
    head = ["", "unit", "logstore", *peers, *(f"/ {peer}" for peer in peers), "other: value (ratio)"]
    rows = [head]
    for contest in contests:
        medians = contest["medians"]
        ours = medians["logstore"]
        ratios = [number(ours / medians[peer]) if peer in medians else "–" for peer in peers]
        others = [
            f"{name}: {number(value)} ({number(ours / value)})"
            for name, value in medians.items()
            if name not in ("logstore", *peers)
        ]
        values = [number(medians.get(peer)) for peer in peers]
        rows.append([contest["title"], contest["unit"], number(ours), *values, *ratios, ", ".join(others)])
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if index in (0, 1, len(row) - 1) else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths))
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def plot(contests: list[dict[str, Any]], path: Path) -> None:
    """Bars of how many times as good logstore is as each of the others, on a logarithmic scale around 1."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = []
    for table, rows in tables(contests):
        compared = [contest for contest in rows if any(peer in contest["medians"] for peer in table.peers)]
        if compared:
            shown.append((table, compared))
    heights = [1 + len(rows) * (0.25 + 0.1 * len(table.peers)) for table, rows in shown] or [1]
    figure, grid = plt.subplots(
        len(heights), figsize=(10, sum(heights)), height_ratios=heights, squeeze=False, layout="constrained"
    )
    for axes, (table, rows) in zip(grid[:, 0], shown):
        draw(axes, table, rows)
    figure.savefig(path, dpi=120)


def draw(axes: Any, table: Table, contests: list[dict[str, Any]]) -> None:
    height = 0.8 / len(table.peers)
    for index, peer in enumerate(table.peers):
        rows = [row for row, contest in enumerate(contests) if peer in contest["medians"]]
        goods = []
        for row in rows:
            medians = contests[row]["medians"]
            ratio = medians["logstore"] / medians[peer]
            goods.append(ratio if contests[row]["unit"].endswith("/s") else 1 / ratio)
        bars = axes.barh(
            [row + (index - (len(table.peers) - 1) / 2) * height for row in rows],
            [good - 1 for good in goods],
            height,
            left=1,
            label=peer,
        )
        axes.bar_label(bars, [f"{good:.0f}" if good >= 10 else f"{good:.2g}" for good in goods], padding=2, fontsize=7)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_yticks(range(len(contests)), [contest["title"] for contest in contests])
    axes.invert_yaxis()
    axes.set_title(table.title)
    axes.set_xlabel("logstore, how many times as good (right of 1: better)")
    axes.margins(x=0.1)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="pytest-benchmark's JSON")
    parser.add_argument("--plot", type=Path, help="save a bar chart here, as PNG or SVG by its name")
    arguments = parser.parse_args()
    machine, contests = load(arguments.run)
    print(describe(machine))
    for table, rows in tables(contests):
        print("", table.title, "", text(table, rows), sep="\n")
    if arguments.plot:
        plot(contests, arguments.plot)


if __name__ == "__main__":
    main()
