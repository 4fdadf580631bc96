"""Curves of the HTML report from metrics.jsonl: losses by epoch, and scores by trial."""

from collections.abc import Sequence

from refiner.core.types import JsonDict
from refiner.runs.html_plot import Axis, Mark, Plot, drawable, joined

_KINDS = 4
"""Curves of one plot that the style sheet tells apart."""
_MOST_MARKS = 1000
"""Of more trials, every second, third and so on is drawn."""


def loss_plot(records: Sequence[JsonDict]) -> Plot | None:
    """Return the loss of each epoch, a curve for each phase; None where nothing was trained."""
    phases: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        epoch, loss = drawable(record.get("epoch")), drawable(record.get("loss"))
        if epoch is not None and loss is not None:
            phases.setdefault(str(record.get("phase", "train")), []).append((epoch, loss))
    phases = dict(list(phases.items())[:_KINDS])
    if not phases:
        return None
    points = [point for curve in phases.values() for point in curve]
    x, y = Axis.of(epoch for epoch, _ in points), Axis.of(loss for _, loss in points)
    kinds = {phase: f"series{i}" for i, phase in enumerate(phases)}
    placed = {
        phase: [(x.across(epoch), y.down(loss)) for epoch, loss in curve]
        for phase, curve in phases.items()
    }
    return Plot(
        title="Training loss by epoch",
        x_label="epoch",
        y_label="loss",
        x_ticks=tuple(x.ticks(x.across)),
        y_ticks=tuple(y.ticks(y.down)),
        lines=tuple(line for each in phases for line in joined(kinds[each], placed[each])),
        marks=tuple(
            Mark(
                kind=f"{kinds[each]} dot",
                x=at[0],
                y=at[1],
                title=f"{each}, epoch {n:g}: {loss:.4f}",
            )
            for each, curve in phases.items()
            for at, (n, loss) in zip(placed[each], curve, strict=True)
        ),
        legend=tuple((kinds[each], each) for each in phases),
    )


def trials_plot(records: Sequence[JsonDict], measure: str) -> Plot | None:
    """Return the score of each trial in the order of the search; None without any.

    Args:
        records: lines of metrics.jsonl.
        measure: name of the scores.
    """
    scores = [(i, s) for i, s in enumerate(_trials(records), start=1) if s is not None]
    scores = scores[:: -(-len(scores) // _MOST_MARKS) or 1]
    if not scores:
        return None
    x, y = Axis.of(float(i) for i, _ in scores), Axis.of(s for _, s in scores)
    return Plot(
        title=f"{measure} of each trial",
        x_label="trial",
        y_label=measure,
        x_ticks=tuple(x.ticks(x.across)),
        y_ticks=tuple(y.ticks(y.down)),
        lines=(),
        marks=tuple(
            Mark(kind="series0 dot", x=x.across(i), y=y.down(s), title=f"trial {i}: {s:.4f}")
            for i, s in scores
        ),
    )


def _trials(records: Sequence[JsonDict]) -> list[float | None]:
    """Return the score of each trial; None where it is no number that can be drawn."""
    found: list[float | None] = []
    for record in records:
        for update in _list(record.get("updates")):
            scores = update.get("scores") if isinstance(update, dict) else None
            found += map(drawable, _list(scores))
    return found


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
