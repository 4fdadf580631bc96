"""The tables of ``results.jsonl``: points lost, paired by seed, and the distance to the best of ours."""

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from peers.methods import OURS

KEY = ("network", "seed", "share", "method", "epochs")
TAKEN = {"seconds": "s", "cpu_seconds": "CPU s", "peak_mib": "peak MiB"}
Record = dict[str, Any]
Cells = dict[tuple[str, int, str, int], dict[int, Record]]
"""By network, share, method and epochs: the records by seed."""


def read(out: Path) -> list[Record]:
    files = sorted(out.glob("results*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def spread(values: Iterable[float], digits: int = 2, sign: str = "") -> str:
    given = list(values)
    if not given:
        return ""
    mean = f"{statistics.mean(given):{sign}.{digits}f}"
    return mean + (f" ± {statistics.stdev(given):.{digits}f}" if len(given) > 1 else "")


def lost(cells: Cells, network: str, share: int, method: str, epochs: int) -> dict[int, float]:
    """Return the points of accuracy that a method lost, by seed.

    The original is tuned for as many epochs; untuned, it is as it was given.
    """
    before = cells.get((network, 100, "original", epochs), {})
    after = cells.get((network, share, method, epochs), {})
    return {
        seed: 100 * (before[seed]["accuracy"] - record["accuracy"])
        for seed, record in after.items()
        if seed in before and "accuracy" in record
    }


def best_of_ours(cells: Cells, network: str, share: int, epochs: int) -> dict[int, float]:
    """Return the points lost by the search of ours that loses the fewest in the mean."""
    found = [lost(cells, network, share, method, epochs) for method in OURS]
    return min(
        (each for each in found if each),
        key=lambda each: statistics.mean(each.values()),
        default={},
    )


def print_tables(out: Path) -> None:
    cells: Cells = defaultdict(dict)
    for record in read(out):
        network, seed, share, method, epochs = (record[key] for key in KEY)
        cells[network, share, method, epochs][seed] = record
    for network in dict.fromkeys(key[0] for key in cells):
        _print_network({key: cell for key, cell in cells.items() if key[0] == network}, network)


def _print_network(cells: Cells, network: str) -> None:
    lengths = sorted({key[3] for key in cells})
    whole = cells[network, 100, "original", 0]
    print(f"\n{network}: the original has " + ", ".join(
        f"{spread(100 * r['accuracy'] for r in cells[network, 100, 'original', n].values())} % {_moment(n)}"
        for n in lengths
        if (network, 100, "original", n) in cells
    ))  # fmt: skip
    print(
        "Points lost, and in brackets how many more than the best search of ours; both are paired by seed.\n"
    )
    head = [
        "MACs left",
        "method",
        "seeds",
        *map(_moment, lengths),
        "MACs %",
        "params %",
        *TAKEN.values(),
    ]
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for share, method in dict.fromkeys(
        (key[1], key[2]) for key in sorted(cells, key=lambda k: -k[1])
    ):
        if method == "original":
            continue
        made = cells[network, share, method, 0]
        done = {seed: r for seed, r in made.items() if "accuracy" in r}
        row = [f"{share} %", method, str(len(done))]
        row += [_cell(cells, network, share, method, n) for n in lengths]
        row += [
            spread(
                (100 * r[cost] / whole[seed][cost] for seed, r in done.items() if seed in whole), 1
            )
            for cost in ("macs", "params")
        ]
        whole_runs = [r for r in done.values() if not r.get("resumed")]
        row += [spread((r[what] for r in whole_runs), 0) for what in TAKEN]
        print(f"| {' | '.join(row)} |")


def _cell(cells: Cells, network: str, share: int, method: str, epochs: int) -> str:
    points = lost(cells, network, share, method, epochs)
    if not points:
        failed = [r for r in cells.get((network, share, method, 0), {}).values() if "failed" in r]
        return "not possible" if failed else ""
    best = best_of_ours(cells, network, share, epochs)
    more = [points[seed] - best[seed] for seed in points if seed in best]
    beside = f" ({spread(more, sign='+')})" if more and any(more) else ""
    return spread(points.values()) + beside


def _moment(epochs: int) -> str:
    return f"after {epochs}" if epochs else "untuned"
