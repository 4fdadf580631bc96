"""Plots as SVG or PNG: the Pareto front of a run, and the figures of the paper's section 3.2.

The same numbers give the same bytes. matplotlib is imported when something is drawn, and only its
figures are used. Its state of the whole process (pyplot, backend, settings) does not change.
"""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from refiner.core.errors import ConfigError, DataError
from refiner.core.files import put_in_place

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# No date and no version, so that bytes repeat.
_METADATA: dict[str, dict[str, str | None]] = {
    ".svg": {"Date": None, "Creator": None},
    ".png": {"Software": None},
}
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b")


def coefficient_of_variation(values: Sequence[float]) -> float:
    """Return standard deviation over mean: how much values oscillate, whatever their size.

    Raises:
        DataError: there is no value.
    """
    if not values:
        raise DataError("a coefficient of variation needs one value or more; there is no value.")
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    return deviation / abs(mean) if mean else math.nan


def gradient_plot(series: Mapping[str, Sequence[float]], path: Path) -> None:
    """Write gradient magnitudes over the controller's steps, one panel per series (figure 1).

    Raises:
        ConfigError: the file's name does not end in .svg or .png, or matplotlib is missing.
        DataError: there is no series, or one without values.
    """
    _check(series, path)
    figure = _figure(6.4, 0.6 + 2.1 * len(series))
    panels = figure.subplots(len(series), 1, sharex=True, squeeze=False)[:, 0]
    for (name, values), panel, colour in zip(
        series.items(), panels, _colours(len(series)), strict=True
    ):
        panel.plot(range(1, len(values) + 1), values, color=colour, linewidth=1)
        panel.set_title(
            f"{name}: coefficient of variation {coefficient_of_variation(values):.2f}", fontsize=10
        )
        panel.set_ylabel("gradient magnitude")
        panel.set_ylim(bottom=0)
    panels[-1].set_xlabel("controller step")
    _save(figure, path)


def best_reward_plot(series: Mapping[str, Sequence[float]], path: Path) -> None:
    """Write the best reward after each controller step, one line per strategy (equation 11).

    Raises:
        ConfigError, DataError: as :func:`gradient_plot`.
    """
    _check(series, path)
    figure = _figure(6.4, 3.6)
    panel = figure.subplots()
    for (name, values), colour in zip(series.items(), _colours(len(series)), strict=True):
        steps = range(1, len(values) + 1)
        panel.plot(steps, values, color=colour, label=name, drawstyle="steps-post")
    panel.set_xlabel("controller step")
    panel.set_ylabel("best reward")
    panel.legend(frameon=False)
    _save(figure, path)


def assigned_reward_plot(
    rewards: Sequence[Sequence[float]], choices: Sequence[Sequence[str]], path: Path
) -> None:
    """Write a heat map of the rewards assigned to each candidate (equations 6 and 7).

    Args:
        rewards: for each position, one number per candidate.
        choices: names of the candidates of each position. A cell stays blank where a position
            lacks a candidate.
        path: of the file.

    Raises:
        ConfigError: as :func:`gradient_plot`.
        DataError: there is no position, or not one number for each candidate.
    """
    _suffix(path)
    if not rewards or [len(row) for row in rewards] != [len(names) for names in choices]:
        raise DataError(
            f"there are rewards for {len(rewards)} positions, and candidates for {len(choices)}. "
            "Give one number for each candidate of each position."
        )
    names = list(dict.fromkeys(name for row in choices for name in row))
    cells = [[math.nan] * len(names) for _ in choices]
    for i, (row, offered) in enumerate(zip(rewards, choices, strict=True)):
        for reward, name in zip(row, offered, strict=True):
            cells[i][names.index(name)] = float(reward)
    figure = _figure(2.4 + 0.55 * len(names), 1.6 + 0.16 * max(len(cells), 4))
    panel = figure.subplots()
    image = panel.imshow(cells, aspect="auto", cmap="viridis", interpolation="nearest")
    panel.set_xticks(range(len(names)), names, rotation=45, ha="right")
    panel.set_ylabel("position")
    figure.colorbar(image, ax=panel, label="assigned reward")
    _save(figure, path)


def front_plot(
    scored: Sequence[tuple[float, float]],
    best: Sequence[tuple[float, float]],
    path: Path,
    *,
    metric: str,
) -> None:
    """Write a plot of scores over costs, with the Pareto front.

    Args:
        scored: (MACs as a share of the original's, score) of each architecture.
        best: those of the front, by cost.
        path: of the file.
        metric: name of the score.

    Raises:
        ConfigError: as :func:`gradient_plot`.
        DataError: there is no architecture.
    """
    _suffix(path)
    _save(_front_figure(scored, best, metric), path)


def front_svg(
    scored: Sequence[tuple[float, float]], best: Sequence[tuple[float, float]], *, metric: str
) -> str:
    """Return the plot that :func:`front_plot` writes, as an ``<svg>`` element for a page of HTML.

    Raises:
        ConfigError: matplotlib is missing.
        DataError: there is no architecture.
    """
    written = io.BytesIO()
    _render(_front_figure(scored, best, metric), written, ".svg")
    text = written.getvalue().decode("utf-8")
    return text[text.index("<svg") :].rstrip()  # without the prologue of a file of XML


def _front_figure(
    scored: Sequence[tuple[float, float]], best: Sequence[tuple[float, float]], metric: str
) -> "Figure":
    if not scored or not best:
        raise DataError("there is no architecture to plot. Give one or more.")
    figure = _figure(6.4, 3.6)
    panel = figure.subplots()
    panel.plot(*zip(*scored, strict=True), "o", color="#999999", label="scored", markersize=4)
    panel.plot(*zip(*best, strict=True), "o-", color=_COLOURS[0], label="front", markersize=5)
    panel.set_xlabel("MACs, share of the original's")
    panel.set_ylabel(f"{metric} in the search, validation images", parse_math=False)
    panel.legend(frameon=False)
    return figure


def _check(series: Mapping[str, Sequence[float]], path: Path) -> None:
    _suffix(path)
    empty = [name for name, values in series.items() if not len(values)]
    if empty or not series:
        what = f"series {empty[0]!r} has no value" if empty else "there is no series"
        raise DataError(f"{what} to plot. Give each series one number or more.")


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in _METADATA:
        raise ConfigError(f"{path} is not a supported figure. Let its name end in .svg or .png.")
    return suffix


def _colours(count: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]


def _figure(width: float, height: float) -> "Figure":
    """Return an empty figure of a size in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("figures need matplotlib. Run: pip install matplotlib.") from error
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def _save(figure: "Figure", path: Path) -> None:
    """Write the figure to a file in one piece."""
    partial = path.with_name(f"{path.name}.partial")
    _render(figure, partial, _suffix(path))
    put_in_place(partial, path)


def _render(figure: "Figure", target: Path | IO[bytes], suffix: str) -> None:
    import matplotlib as mpl

    # Otherwise the names of an SVG's parts are hashes with a random salt.
    with mpl.rc_context({"svg.hashsalt": "refiner"}):
        figure.savefig(target, format=suffix[1:], metadata=_METADATA[suffix])
