"""One table of the ratios in a benchmark run, and a picture of them.

    python -m pytest bench --benchmark-json=run.json
    python -m bench.report run.json [--plot ratios.png]

or tools/bench, which does both. Every row is one contest: medians of rounds that were taken in turns, and logstore's
divided by each of the others'. Where the unit is messages/s or MB/s, a ratio above 1 is good; where it is µs, ms or
bytes, one below 1 is.
"""

import argparse
import json
from pathlib import Path
from typing import Any

PEERS = ("plain", "lmdb", "sqlite")


def load(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The machine, and the contests in the order of their titles."""
    run = json.loads(path.read_text())
    contests = [item["extra_info"] for item in run["benchmarks"] if "medians" in item["extra_info"]]
    return run["machine_info"], sorted(contests, key=lambda contest: contest["title"])


def describe(machine: dict[str, Any]) -> str:
    return (
        f"{machine['cpu'].get('brand_raw', machine['machine'])}, {machine['cores']} cores, {machine['system']} "
        f"{machine['release']}, {machine['python']}, {machine['file_system']}, lmdb {machine['lmdb']}, "
        f"sqlite {machine['sqlite']}"
    )


def number(value: float | None) -> str:
    if value is None:
        return "–"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(contests: list[dict[str, Any]]) -> str:
    head = ["", "unit", "logstore", *PEERS, *(f"/ {peer}" for peer in PEERS), "other: value (ratio)"]
    rows = [head]
    for contest in contests:
        medians = contest["medians"]
        ours = medians["logstore"]
        ratios = [number(ours / medians[peer]) if peer in medians else "–" for peer in PEERS]
        others = [
            f"{name}: {number(value)} ({number(ours / value)})"
            for name, value in medians.items()
            if name not in ("logstore", *PEERS)
        ]
        values = [number(medians.get(peer)) for peer in PEERS]
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

    shown = [contest for contest in contests if any(peer in contest["medians"] for peer in PEERS)]
    figure, axes = plt.subplots(figsize=(10, 1 + 0.55 * len(shown)), layout="constrained")
    height = 0.8 / len(PEERS)
    for index, peer in enumerate(PEERS):
        rows = [row for row, contest in enumerate(shown) if peer in contest["medians"]]
        goods = []
        for row in rows:
            medians = shown[row]["medians"]
            ratio = medians["logstore"] / medians[peer]
            goods.append(ratio if shown[row]["unit"].endswith("/s") else 1 / ratio)
        bars = axes.barh(
            [row + (index - 1) * height for row in rows],
            [good - 1 for good in goods],
            height,
            left=1,
            label=peer,
        )
        axes.bar_label(bars, [f"{good:.2g}" for good in goods], padding=2, fontsize=7)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(shown)), [contest["title"] for contest in shown])
    axes.invert_yaxis()
    axes.set_xlabel("logstore, how many times as good (right of 1: better)")
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="pytest-benchmark's JSON")
    parser.add_argument("--plot", type=Path, help="save a bar chart here, as PNG or SVG by its name")
    arguments = parser.parse_args()
    machine, contests = load(arguments.run)
    print(describe(machine), table(contests), sep="\n\n")
    if arguments.plot:
        plot(contests, arguments.plot)


if __name__ == "__main__":
    main()
