import copy
from pathlib import Path

import pytest
import torch
from models import HeadTask, TinyResNet, batches, images

import refiner
from refiner.core.errors import RunError
from refiner.runs.fingerprint import check_fingerprint, fingerprint
from refiner.training.task import Classification

SMALL = refiner.SearchConfig(epochs=1, warmup_epochs=0, trials=2, samples=2, top_k=1)


def run(out: Path, *, resume: bool = False, model=None, data=None, val=None, **options):
    torch.manual_seed(3)
    model = TinyResNet() if model is None else model
    options = {"search": SMALL, "baselines": False, "device": "cpu", "progress": False, **options}
    data, val = data or batches(3), val or batches(2, seed=1)
    return refiner.refine(model, data, val, out=out, resume=resume, **options)


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("begun") / "run"
    run(out)
    return out


def test_with_the_same_it_goes_on(begun) -> None:
    run(begun, resume=True)


def other_weights():
    torch.manual_seed(4)
    return TinyResNet()


def relabelled():
    data = batches(3)
    data[1][1][0] = (data[1][1][0] + 1) % 10
    return data


OTHER = {
    "weights": (lambda: {"model": other_weights()}, "the weights of the model differs"),
    "labels": (lambda: {"data": relabelled()}, "the labels of the training data"),
    "order": (lambda: {"data": batches(3)[::-1]}, "the order of the training data"),
    "size": (lambda: {"val": batches(1, seed=1)}, "the number of samples, .* validation data"),
    "inputs": (
        lambda: {"val": [(x + 1, y) for x, y in batches(2, seed=1)]},
        "the inputs of the validation data",
    ),
    "task": (lambda: {"task": HeadTask()}, "the task"),
    "example": (
        lambda: {"example_input": images(size=16)},
        "the shape of the example input differs",
    ),
    "settings": (lambda: {"seed": 1}, "seed is 0 there and 1 here"),
}


@pytest.mark.parametrize("what", list(OTHER))
def test_with_anything_else_the_error_names_it(what: str, begun) -> None:
    options, message = OTHER[what]
    with pytest.raises(RunError, match=message) as caught:
        run(begun, resume=True, **options())
    assert "\n" not in str(caught.value)


def test_another_version_is_named_with_both(begun, monkeypatch) -> None:
    monkeypatch.setattr("torch.__version__", "9.9")
    with pytest.raises(RunError, match=r"begun with torch 2\..*, and this is torch 9.9.*Install"):
        run(begun, resume=True)
    monkeypatch.undo()
    monkeypatch.setattr("refiner.__version__", "9.9")
    with pytest.raises(RunError, match="begun with refiner .* and this is refiner 9.9"):
        run(begun, resume=True)


def test_what_a_folder_may_hold_instead() -> None:
    loaders = {"training": batches(1)}
    now = fingerprint(TinyResNet(), Classification(), loaders, images())
    check_fingerprint("DIR", copy.deepcopy(now), now)
    for before in (None, [], {}, {"versions": 1, "parts": {}}, {**now, "parts": "x"}):
        with pytest.raises(RunError, match="does not say"):
            check_fingerprint("DIR", before, now)
    with pytest.raises(RunError, match="something else"):
        check_fingerprint("DIR", {**now, "parts": {"x" * 10_000: [1]}}, now)


def test_it_draws_nothing_and_changes_nothing() -> None:
    model = TinyResNet()
    state = torch.get_rng_state()
    kept = copy.deepcopy(model.state_dict())
    fingerprint(model, Classification(), {"training": batches(2)}, images())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items())
