import pytest

from refiner.core.errors import ConfigError
from refiner.trackers.base import BaseTracker, needed


class Kept(BaseTracker):
    """Keeps the calls in a list, and fails at a phase of the name broken."""

    title = "Kept"

    def __init__(self, interval: float = 0.0) -> None:
        super().__init__(interval)
        self.calls: list = []

    def _begin(self, settings) -> None:
        self.calls.append(("begin", dict(settings)))

    def _log(self, group, step, values) -> None:
        if group == "broken":
            raise OSError("the disk\nis full")
        self.calls.append((group, step, dict(values)))

    def _result(self, values) -> None:
        self.calls.append(("result", dict(values)))

    def _end(self, finished) -> None:
        self.calls.append(("end", finished))


def test_a_run_from_its_settings_to_its_result() -> None:
    kept = Kept()
    kept.settings({"seed": "0"})
    kept.begin("search", 4, done=1)
    kept.advance(1, loss=0.5)
    kept.epoch("search", 1, {"loss": 0.5})
    kept.result({"refined/MACs": 9.0})
    kept.close()
    assert kept.calls == [
        ("begin", {"seed": "0"}),
        ("progress", 1, {"search": 0.25}),
        ("progress", 2, {"search": 0.5}),
        ("search", 1, {"loss": 0.5}),
        ("result", {"refined/MACs": 9.0}),
        ("end", True),
    ]


def test_progress_is_kept_at_most_every_interval() -> None:
    kept = Kept(interval=60.0)
    kept.settings({})
    kept.begin("search", 100)
    for _ in range(100):
        kept.advance(1)
    kept.end()
    assert [step for group, step, *_ in kept.calls[1:]] == [0, 100]


def test_a_failure_switches_it_off_with_one_line(capsys) -> None:
    kept = Kept()
    kept.settings({})
    kept.epoch("broken", 1, {"loss": 0.5})
    kept.epoch("search", 2, {"loss": 0.5})
    kept.result({})
    assert kept.calls == [("begin", {})]
    shown = capsys.readouterr().err
    assert shown == "Kept failed and is switched off: OSError: the disk is full\n"


def test_a_run_without_a_result_has_failed() -> None:
    kept = Kept()
    kept.epoch("train", 1, {"loss": 0.5})
    kept.settings({})
    kept.close()
    assert [call for call in kept.calls if call[0] == "end"] == [("end", False)] * 2


def test_a_missing_package_is_one_line_with_the_command() -> None:
    with pytest.raises(ConfigError, match=r"Install it: pip install 'refiner\[wandb\]'\."):
        needed("refiner_has_no_such_package", "wandb")
