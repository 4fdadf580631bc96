from dataclasses import replace

from refiner.runs.tracking import epoch_figures, report_figures, setting_texts


def test_settings_lie_in_one_level_as_text() -> None:
    settings = {"seed": 0, "train": {"lr_max": 0.1, "weights": {"ema": 0.0}}, "search": None}
    assert setting_texts({"model": "net.py:build"}, settings) == {
        "model": "net.py:build", "seed": "0", "train.lr_max": "0.1", "train.weights.ema": "0.0",
        "search": "None",
    }  # fmt: skip


def test_an_epoch_gives_its_numbers_and_the_scores_of_all_updates() -> None:
    updates = [{"vectors": [[0]], "scores": [0.25]}, {"vectors": [[1]], "scores": [0.75]}]
    record = {"epoch": 2, "phase": "search", "loss": 1.5, "entropy": 2, "updates": updates}
    assert epoch_figures(record) == {
        "loss": 1.5, "entropy": 2.0, "mean score": 0.5, "best score": 0.75,
    }  # fmt: skip
    assert epoch_figures({"epoch": 1, "phase": "warm-up", "loss": 1.5}) == {"loss": 1.5}


def test_a_report_gives_costs_milliseconds_and_scores(report) -> None:
    trained = replace(report.trained, tests=(("lfw", None, 0.5),))
    figures = report_figures(replace(report, trained=trained))
    costs = {"original/MACs": report.before.macs, "refined/MACs": report.after.macs}
    assert figures == {
        **costs,
        "original/parameters": report.before.params,
        "refined/parameters": report.after.params,
        "original/test accuracy before fine-tuning": 0.625,
        "refined/test accuracy before fine-tuning": 0.25,
        "original/milliseconds in eager": 2.0,
        "refined/milliseconds in eager": 1.0,
        "original/test accuracy": 0.5,
        "refined/test accuracy": 0.75,
        "refined/lfw": 0.5,
    }
