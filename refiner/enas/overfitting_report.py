"""What the logs of section 3's searches tell: gradients, best and assigned rewards, skips; figures
and report.

A log is the ``updates`` of a run's metrics.jsonl in turn: ``vectors``, ``scores`` and the
strategy's metrics.
"""

import itertools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from refiner.core.files import write_text
from refiner.enas.assigned_reward import (
    assigned_reward_errors,
    assigned_rewards,
    read_trials,
    sampling_frequencies,
)
from refiner.enas.macro import MacroSpace
from refiner.enas.overfitting import ArchitectureOverfitting, architecture_overfitting
from refiner.runs.plots import (
    assigned_reward_plot,
    best_reward_plot,
    coefficient_of_variation,
    gradient_plot,
)


def gradients(searches: dict[str, dict[str, Any]]) -> dict[str, list[float]]:
    """Return the gradient magnitudes of figure 1, controller step by controller step."""
    series = {
        "operators, of the joint controller": ("joint", "gradient_operators"),
        "skips, of the joint controller": ("joint", "gradient_skips"),
        "operators, searched alone": ("operators", "gradient_operators"),
    }
    return {
        title: [tell[key] for tell in searches[name]["log"]]
        for title, (name, key) in series.items()
    }


def best_rewards(searches: dict[str, dict[str, Any]]) -> dict[str, list[float]]:
    """Return of each search the best reward after each controller step."""
    return {
        name: list(itertools.accumulate((max(tell["scores"]) for tell in result["log"]), max))
        for name, result in searches.items()
    }


def draw(out: Path, space: MacroSpace, searches: dict[str, dict[str, Any]]) -> None:
    """Draw the three figures into ``out``, where ``joint`` is the folder of the joint search."""
    gradient_plot(gradients(searches), out / "figure1.svg")
    best_reward_plot(best_rewards(searches), out / "best-reward.svg")
    rewards = assigned_rewards(*read_trials(out / "joint" / "metrics.jsonl"), space.choices)
    assigned_reward_plot([list(row) for row in rewards], space.choices, out / "assigned-reward.svg")


def reward_noise(space: MacroSpace, log: list[dict[str, Any]]) -> dict[str, float]:
    """Return the relative standard errors of the rewards assigned in one controller step, mean
    over all.

    Of operators and of skips: an error over the assigned reward, where that is above 0.
    """
    noise: dict[str, list[float]] = {"operators": [], "skips": []}
    for tell in log:
        read = [tuple(v) for v in tell["vectors"]], tell["scores"], space.choices
        pairs = zip(assigned_rewards(*read), assigned_reward_errors(*read), strict=True)
        for position, (rewards, errors) in enumerate(pairs):
            domain = "skips" if position in space.skips else "operators"
            noise[domain] += list(errors[rewards > 0] / rewards[rewards > 0])
    return {domain: float(np.mean(values)) for domain, values in noise.items()}


def skip_rate(space: MacroSpace, log: list[dict[str, Any]]) -> float:
    """Return the share of skips that the architectures of a log took."""
    vectors = [tuple(vector) for tell in log for vector in tell["vectors"]]
    frequencies = sampling_frequencies(vectors, space.choices)
    return float(np.mean([frequencies[position][1] for position in space.skips]))


def write_report(
    out: Path,
    space: MacroSpace,
    searches: dict[str, dict[str, Any]],
    scores: dict[str, dict[str, float]],
    costs: dict[str, dict[str, int]],
    *,
    search_task: str,
    image_size: int,
    notes: tuple[str, ...],
) -> None:
    """Write report.json, and report.md for people.

    Args:
        out: folder of both.
        space: of the first two searches.
        searches: ``joint``, ``alternating`` and ``operators``, each with the ``vector`` found, its
            ``score`` and its ``log``; the second with its ``phases``, too.
        scores: in % on each task by its name, of the networks ``searched`` and ``ResNet-20``.
        costs: ``params`` and ``macs`` of each of these.
        search_task: name of the task that was searched on.
        image_size: of the MACs.
        notes: lines for people.
    """
    variations = {name: coefficient_of_variation(v) for name, v in gradients(searches).items()}
    log = searches["joint"]["log"]
    tenth = -(-len(log) // 10)
    noise = reward_noise(space, log)
    rates = {"first": skip_rate(space, log[:tenth]), "last": skip_rate(space, log[-tenth:])}
    phases = searches["alternating"]["phases"]
    overfitting = architecture_overfitting(
        scores["searched"], scores["ResNet-20"], search_task=search_task
    )
    found = {
        name: {key: result[key] for key in ("vector", "score")} for name, result in searches.items()
    }
    document = {
        "searches": found,
        "gradient_variation": variations,
        "assigned_reward_relative_error": noise,
        "skip_rate": rates,
        "phases": phases,
        "costs": costs,
        "overfitting": {**asdict(overfitting), "gap": overfitting.gap},
        "notes": notes,
    }
    write_text(out / "report.json", json.dumps(document, indent=1) + "\n")
    lines = _page(document, overfitting, space, image_size, tenth)
    write_text(out / "report.md", "\n".join(lines) + "\n")


def _page(
    document: dict[str, Any],
    overfitting: ArchitectureOverfitting,
    space: MacroSpace,
    image_size: int,
    tenth: int,
) -> list[str]:
    """Return the lines of report.md; the shares of skips are of ``tenth`` controller steps."""
    noise, rates = document["assigned_reward_relative_error"], document["skip_rate"]
    lines = [
        "# Architecture overfitting of NAS (section 3)",
        "",
        *(f"- {note}" for note in document["notes"]),
    ]
    lines += ["", "## Table 1: accuracy, %", ""]
    lines += [overfitting.to_markdown(searched="searched (ENAS)", handmade="ResNet-20")]
    lines += ["The paper's gap, of CIFAR-10 against the mean of three verifications: +2.44.", ""]
    lines += [
        f"| network | parameters | MACs, {image_size}x{image_size} |",
        "| --- | ---: | ---: |",
    ]
    lines += [
        f"| {name} | {c['params']:,} | {c['macs']:,} |" for name, c in document["costs"].items()
    ]
    lines += ["", "## Figure 1: coefficient of variation of the gradient magnitudes", ""]
    lines += ["| parameters | variation |", "| --- | ---: |"]
    lines += [f"| {name} | {value:.3f} |" for name, value in document["gradient_variation"].items()]
    lines += [
        "",
        "The paper gives no number: the skips' gradients oscillate, the operators' are far "
        "smoother.",
        "",
        "## Rewards assigned in one controller step: standard error over reward",
        "",
        f"Operators {noise['operators']:.3f}, skips {noise['skips']:.3f}, on average over the "
        "joint search. The fewer candidates a position has, the more samples each gets: a skip has "
        "two, an operator six.",
        "",
        f"Share of skips taken: {rates['first']:.3f} in the first {tenth} controller steps, "
        f"{rates['last']:.3f} in the last.",
        "",
        "## Alternating search: the best reward at the end of each phase (equation 11)",
        "",
        "| phase | moved | best reward | positions changed |",
        "| --- | --- | ---: | ---: |",
    ]
    lines += _phase_rows(document["phases"], (0,) * len(space.choices))
    lines += ["", "## Vectors found", ""]
    lines += [
        f"- {name}, {result['score']:.4f} in its supernet: {','.join(map(str, result['vector']))}"
        for name, result in document["searches"].items()
    ]
    return lines


def _phase_rows(phases: list[dict[str, Any]], before: tuple[int, ...]) -> list[str]:
    """Return a row for each phase of the alternating search, which begins at a vector."""
    lines = []
    for number, phase in enumerate(phases, start=1):
        moved = sum(a != b for a, b in zip(before, phase["vector"], strict=True))
        lines.append(f"| {number} | {phase['domain']} | {phase['reward']:.4f} | {moved} |")
        before = phase["vector"]
    return lines
