"""Where an architecture of a run cannot be refitted; test_app.py has one that is."""

import pytest
from models import TinyResNet, images
from refiner.cli.consent import Consent
from refiner.cli.refitting import kept_config, refitted
from refiner.cli.request import RunRequest

from refiner.core.errors import RunError
from refiner.distill.refit import RefitConfig
from refiner.runs.run_folder import RunFolder
from refiner.space.search_space import search_space


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "does not name its data"),
        ("mine.py:loaders", "mine.py:loaders is code of your own; --trust runs it"),
        ("folder:nowhere", "nowhere"),
    ],
)
def test_without_its_data_a_network_stays_as_the_search_left_it(data, reason, tmp_path) -> None:
    model = TinyResNet()
    request = None if data is None else RunRequest.of("timm:resnet10t", {"data": data})
    network, note = refitted(
        RunFolder(tmp_path), RefitConfig(steps=1), request, model, search_space(model, images()),
        model, Consent(),
    )  # fmt: skip
    assert network is model
    assert note.startswith("without the refit that the run's own network got (")
    assert reason in note
    assert "\n" not in note


def test_the_run_s_own_settings_are_read(tmp_path) -> None:
    run = RunFolder(tmp_path)
    assert kept_config(run, {"distill": {}}) is None  # a run of an older refiner
    assert kept_config(run, {"refit": None}) is None
    kept = {"steps": 7, "learning_rate": 0.5}
    assert kept_config(run, {"refit": kept}) == RefitConfig(steps=7, learning_rate=0.5)
    for wrong in ({"steps": "7"}, {"steps": -1}, {"stops": 7}, [7], {"learning_rate": 1e999}):
        with pytest.raises(RunError, match="damaged config"):
            kept_config(run, {"refit": wrong})


def test_the_note_says_which_parts_were_undone(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("refiner.cli.refitting._job", lambda *_: None)
    for undone, end in (
        ((), "own network was"),
        (("one", "two"), "but for one and two, which did not help"),
    ):
        monkeypatch.setattr(
            "refiner.cli.refitting.refit_kept",
            lambda _job, _config, _space, network, u=undone: (network, u),
        )
        model = TinyResNet()
        space = search_space(model, images())
        _, note = refitted(
            RunFolder(tmp_path), RefitConfig(steps=1), None, model, space, model, Consent()
        )
        assert note.endswith(end)
