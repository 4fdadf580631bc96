import json
from dataclasses import replace

import pytest
import torch
from models import HeadTask, PlainNet, TinyResNet, batches, images
from safetensors.torch import load_file
from torch import nn

import refiner
from refiner.core.errors import ArchitectureError, ConfigError, ModelError, RunError, TrainingError

CONFIG = refiner.TrainConfig(epochs=3, lr_max=0.05, schedule="cosine")


def net() -> TinyResNet:
    torch.manual_seed(3)
    return TinyResNet()


def trained(model=None, **options):
    options = {"config": CONFIG, "device": "cpu", "progress": False, **options}
    return refiner.train_architecture(model or net(), batches(3), batches(2, seed=1), **options)


@pytest.fixture
def architecture():
    return refiner.search_space(net(), images()).architecture((1, 0, 2, 3))


def test_an_architecture_is_trained_and_its_folder_is_that_of_a_run(architecture, tmp_path) -> None:
    model, out = net(), tmp_path / "run"
    before = {k: v.clone() for k, v in model.state_dict().items()}
    result = trained(
        model, architecture=architecture, out=out, notes=["a note"],
        tests={"mean": lambda network: float(network(images()).mean())},
    )  # fmt: skip
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert result.architecture.vector == (1, 0, 2, 3)
    assert result.search is None
    report = json.loads((out / "report.json").read_text())
    assert report["trained"]["original"] is None
    assert report["after"]["macs"] < report["before"]["macs"]
    with torch.no_grad():
        mean = float(result.model(images()).mean())
    assert report["trained"]["tests"] == [["mean", None, pytest.approx(mean, abs=1e-6)]]
    assert "a note" in report["notes"]
    assert "a note" in (out / "report.md").read_text()
    again = refiner.rewrite(net(), refiner.Architecture.load(out / "architecture.json"))
    again.load_state_dict(load_file(out / "refined.safetensors"))
    assert torch.equal(again.eval()(images()), result.model(images()))
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]


def test_the_model_as_it_came_teaches(architecture) -> None:
    def distance(weight: float) -> float:
        config = replace(CONFIG, teacher_weight=weight)
        model = net().eval()
        result = trained(model, architecture=architecture, config=config)
        with torch.no_grad():
            return float((result.model(images()) - model(images())).square().mean())

    assert distance(1.0) < 0.5 * distance(0.0), "random labels lead away from the original"


def test_a_training_that_was_broken_off_goes_on_to_the_bit(architecture, tmp_path) -> None:
    whole = trained(architecture=architecture, task=HeadTask(), out=tmp_path / "whole")

    class Stop:
        def begin(self, name, total, done=0): ...
        def end(self): ...
        def note(self, text): ...
        def advance(self, count, **values):
            self.steps = getattr(self, "steps", 0) + 1
            if self.steps == 2:
                raise KeyboardInterrupt

    out = tmp_path / "part"
    with pytest.raises(KeyboardInterrupt):
        trained(architecture=architecture, task=HeadTask(), out=out, progress=Stop())
    part = trained(architecture=architecture, task=HeadTask(), out=out, resume=True)
    assert part.report.trained == whole.report.trained
    for name in ("refined.safetensors", "metrics.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    with pytest.raises(RunError, match="another setting: seed is 0"):
        trained(architecture=architecture, out=out, resume=True, seed=1)


def test_without_an_architecture_the_model_as_it_is(tmp_path) -> None:
    result = trained()
    assert not any(result.architecture.vector)
    assert result.report.before == result.report.after
    expected = net()
    refiner.train_architecture(  # the same again, to the bit
        expected, batches(3), batches(2, seed=1), config=CONFIG, device="cpu", progress=False
    )
    assert result.report.trained == trained().report.trained


def test_weights_are_those_of_the_rewritten_network(architecture, tmp_path) -> None:
    rewritten = refiner.rewrite(net(), architecture, seed=5)
    torch.save(rewritten.state_dict(), tmp_path / "w.pt")
    still = refiner.TrainConfig(epochs=0)
    result = trained(architecture=architecture, weights=tmp_path / "w.pt", config=still)
    assert torch.equal(result.model(images()), rewritten.eval()(images()))
    with pytest.raises(ModelError, match="35 of 38 tensors of this network fit"):
        trained(weights=tmp_path / "w.pt")


def test_what_does_not_fit_is_told_and_leaves_nothing(architecture, tmp_path) -> None:
    out = tmp_path / "run"
    with pytest.raises(ArchitectureError, match="another model"):
        trained(PlainNet(), architecture=architecture, out=out)
    data = batches(2)
    data[1][0][:] = float("nan")
    with pytest.raises(TrainingError, match="loss is nan"):
        refiner.train_architecture(net(), data, batches(1), device="cpu", progress=False, out=out)
    assert not out.exists()
    with pytest.raises(refiner.RefinerError, match="the test 'bad' fails"):
        trained(tests={"bad": lambda network: 1 / 0})


def test_the_scores_of_the_original_stand_beside(architecture) -> None:
    tests = {"mean": lambda network: float(network(images()).mean())}
    original = trained(tests=tests).report
    report = trained(
        architecture=architecture, original=original, tests={**tests, "two": lambda _: 2.0}
    ).report
    assert report.trained.original == original.trained.refined
    mean, two = report.trained.tests
    assert mean[:2] == ("mean", original.trained.tests[0][2])
    assert two == ("two", None, 2.0)


def test_a_baseline_of_another_training_is_refused(architecture, tmp_path) -> None:
    original = trained().report
    other = replace(original.trained, epochs=7)
    for report, message in (
        (replace(original, vector=(1, 0, 0, 0)), "of a rewritten network"),
        (replace(original, trained=None), "of a network that was not trained"),
        (replace(original, trained=other), "of 7 epochs of training, not 3"),
        (replace(original, metric="mean IoU"), "of another score: mean IoU, not accuracy"),
    ):
        with pytest.raises(ConfigError, match=f"as original is {message}. Give that of the orig"):
            trained(architecture=architecture, original=report, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_without_any_slot_is_trained_as_it_came(tmp_path) -> None:
    torch.manual_seed(0)
    for net in (
        nn.Sequential(nn.Conv2d(3, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)),
        nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.LazyLinear(10)),
    ):
        net(images())
        out = tmp_path / str(len(net))
        result = trained(net, out=out)
        assert result.architecture.vector == ()
        assert result.report.after == result.report.before
        assert not torch.equal(result.model[-1].weight, net[-1].weight)
        loaded = refiner.Architecture.load(out / "architecture.json")
        assert type(refiner.rewrite(net, loaded)) is nn.Sequential
        assert "0 of 0 slots" in (out / "report.md").read_text()
    with pytest.raises(ModelError, match="has no convs"):
        refiner.search_space(net, images())


def test_the_first_look_is_at_the_network_that_is_trained(architecture, tmp_path) -> None:
    network = refiner.rewrite(net(), architecture)
    with torch.no_grad():
        network.fc.bias.fill_(float("nan"))
    torch.save(network.state_dict(), tmp_path / "broken.pt")
    with pytest.raises(ModelError, match="the network as given has outputs that are NaN"):
        trained(architecture=architecture, weights=tmp_path / "broken.pt")
