import math

from refiner.runs.html_curves import loss_plot, trials_plot

RECORDS = [
    {"epoch": 1, "phase": "warm-up", "loss": 2.0},
    {"epoch": 2, "phase": "warm-up", "loss": 1.0},
    {"epoch": 3, "phase": "search", "loss": 1.5, "updates": [{"scores": [0.25, 0.5]}]},
    {"epoch": 4, "phase": "search", "updates": [{"scores": [math.nan, 1]}, {"scores": None}, 7]},
]


def test_each_phase_has_its_curve_of_losses() -> None:
    plot = loss_plot(RECORDS)
    assert plot is not None
    assert plot.legend == (("series0", "warm-up"), ("series1", "search"))
    assert [line.kind for line in plot.lines] == ["series0"]
    titles = ["warm-up, epoch 1: 2.0000", "warm-up, epoch 2: 1.0000", "search, epoch 3: 1.5000"]
    assert [mark.title for mark in plot.marks] == titles
    high, low, _ = plot.marks
    assert high.x < low.x
    assert high.y < low.y  # from the top


def test_trials_are_numbered_through_all_updates() -> None:
    plot = trials_plot(RECORDS, "accuracy")
    assert plot is not None
    titles = ["trial 1: 0.2500", "trial 2: 0.5000", "trial 4: 1.0000"]
    assert [mark.title for mark in plot.marks] == titles
    assert plot.y_label == "accuracy"
    many = trials_plot([{"updates": [{"scores": [0.5] * 2500}]}], "accuracy")
    assert many is not None
    assert [mark.title for mark in many.marks[:2]] == ["trial 1: 0.5000", "trial 4: 0.5000"]


def test_there_is_no_plot_of_nothing() -> None:
    for records in ([], [{"epoch": 1, "phase": "search", "updates": [], "loss": math.inf}]):
        assert loss_plot(records) is None
        assert trials_plot(records, "accuracy") is None
