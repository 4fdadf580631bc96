import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from models import TinyResNet, UNet, anchored_as_predicted, batches, images, latencies
from safetensors.torch import load_file
from torch.utils.data import DataLoader, TensorDataset

import refiner
from refiner.core.errors import ConfigError, DataError, RunError
from refiner.core.surgery import copied
from refiner.runs import costing, latency_check, latency_limit
from refiner.runs.settings import DISTILLED_SEARCH
from refiner.search.pareto import front, pick

SMALL = refiner.SearchConfig(
    epochs=2, warmup_epochs=1, trials=4, samples=2, top_k=2,
    weights=refiner.TrainConfig(lr_max=0.05),
)  # fmt: skip
FILES = {
    "config.json", "architecture.json", "network.json", "report.json", "report.md", "report.html", "refined.ts",
    "refined.safetensors", "checkpoint", "metrics.jsonl", "pareto.json", "pareto.svg", "baselines.json",
}  # fmt: skip


def small(model=None, **options):
    torch.manual_seed(3)
    model = TinyResNet() if model is None else model
    options = {"search": SMALL, "device": "cpu", "progress": False, **options}
    return refiner.refine(model, batches(3), batches(2, seed=1), **options)


def test_the_whole_method_and_its_folder(tmp_path) -> None:
    torch.manual_seed(3)
    model = TinyResNet()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    out = tmp_path / "run"
    result = refiner.refine(
        model, batches(3), batches(2, seed=1), search=SMALL, train=refiner.TrainConfig(epochs=1),
        device="cpu", out=out, progress=False,
    )  # fmt: skip
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert {p.name for p in out.iterdir()} == FILES
    assert not list(out.rglob("*.partial"))

    x = images(count=4, seed=9)
    again = refiner.rewrite(TinyResNet(), refiner.Architecture.load(out / "architecture.json"))
    again.load_state_dict(load_file(out / "refined.safetensors"))
    with torch.no_grad():
        expected = result.model(x)
        assert torch.equal(again.eval()(x), expected)
        assert torch.allclose(torch.jit.load(out / "refined.ts")(x), expected, atol=1e-5)
    report = json.loads((out / "report.json").read_text())
    assert report["vector"] == list(result.architecture.vector)
    assert report["trained"]["epochs"] == 1
    assert refiner.measure_cost(result.model, x).macs == report["after"]["macs"]
    lines = (out / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]


def test_without_training_the_model_keeps_the_weights_of_the_search() -> None:
    result = small()
    x, y = (torch.cat(t) for t in zip(*batches(2, seed=1), strict=True))
    with torch.no_grad():
        score = float((result.model(x).argmax(1) == y).float().mean())
    assert result.report.search_score == pytest.approx(score)
    assert result.report.trained is None


class Stop(Exception):
    pass


class StopAfter:
    """A listener that breaks off in the given phase."""

    def __init__(self, phase: str, steps: int) -> None:
        self.phase, self.steps, self.now = phase, steps, ""

    def plan(self, stages):
        pass

    def begin(self, phase, total, done=0):
        self.now = phase

    def advance(self, steps=1, **values):
        if self.now == self.phase:
            self.steps -= 1
            if self.steps < 0:
                raise Stop

    def end(self):
        pass

    def note(self, text):
        pass


@pytest.mark.parametrize(
    ("phase", "steps"),
    [("search", 3), ("top-k", 1), ("train original", 1), ("train refined", 1)],
)
def test_a_run_broken_off_anywhere_ends_as_if_left_alone(phase, steps, tmp_path) -> None:
    options = {"train": refiner.TrainConfig(epochs=2, lr_max=0.05)}
    whole = small(out=tmp_path / "whole", **options)
    with pytest.raises(Stop):
        small(out=tmp_path / "run", progress=StopAfter(phase, steps), **options)
    result = small(out=tmp_path / "run", resume=True, **options)
    assert result.architecture == whole.architecture
    assert result.search == whole.search
    assert result.report.trained == whole.report.trained
    pairs = zip(result.model.state_dict().values(), whole.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    metrics = [(tmp_path / d / "metrics.jsonl").read_text() for d in ("whole", "run")]
    assert metrics[0] == metrics[1]


def test_latencies_are_measured_once_for_a_run(tmp_path, monkeypatch) -> None:
    times = {"original": 2.0, "depthwise3x3": 1.0, "maxpool3x3": 3.0, "avgpool3x3": 1.5}
    times |= {"lowrank2": 3.0, "lowrank4": 3.0}
    measured = []

    def measure(_job, space, _budgets, deployment):
        measured.append(deployment.batch.shape[0])
        return latencies(space, 10.0, lambda name, _: times[name])

    monkeypatch.setattr(costing, "timed_table", measure)
    monkeypatch.setattr(latency_limit, "anchored", anchored_as_predicted)
    monkeypatch.setattr(latency_check, "timed_networks", lambda *_: [[10.0] * 9, [7.0] * 9])
    options = {"budget": "latency=80%"}
    whole = small(out=tmp_path / "whole", **options)
    assert (whole.search, measured) == (small(**options).search, [1, 1])  # with no folder, too
    measured.clear()
    with pytest.raises(Stop):
        small(out=tmp_path / "run", progress=StopAfter("search", 3), **options)
    times["depthwise3x3"] = 9.0  # slower, where it is measured again
    result = small(out=tmp_path / "run", resume=True, **options)
    assert measured == [1]
    assert result.search == whole.search
    assert result.architecture.candidates == (("original", "depthwise3x3", "avgpool3x3"),) * 4
    settings = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    assert settings["candidates"][-1] == list(times)
    before, after = result.report.latency_predicted
    assert before.median == 10.0
    assert (tmp_path / "run" / "latency_measured.json").exists()  # it corrects predictions
    assert result.report.latencies[0].after.median == 7.0  # as the check measured it
    pareto = json.loads((tmp_path / "run" / "pareto.json").read_text())
    assert pareto["original"]["latency"] == 10.0
    assert after.median in [point["latency"] for point in pareto["front"]]
    with pytest.raises(ConfigError, match="out of reach"):
        small(out=tmp_path / "none", budget="latency=10%")
    assert not (tmp_path / "none").exists()


def test_a_finalist_that_goes_over_its_milliseconds_stays_left_out(tmp_path, monkeypatch) -> None:
    def table(_job, space, _budgets, _deployment):
        return latencies(space, 10.0, lambda _, k: 2.0 - 0.2 * k)

    takes = iter([8.5, 7.0])
    monkeypatch.setattr(costing, "timed_table", table)
    monkeypatch.setattr(latency_limit, "anchored", anchored_as_predicted)
    monkeypatch.setattr(latency_check, "timed_networks", lambda *_: [[10.0] * 9, [next(takes)] * 9])
    options = {"budget": "latency=80%", "train": refiner.TrainConfig(epochs=1, lr_max=0.05)}
    options |= {
        "out": tmp_path / "run",
        "distill": refiner.DistillConfig(steps=1),
        "baselines": True,
    }
    options |= {"search": replace(DISTILLED_SEARCH, epochs=1, trials=4, samples=4)}
    with pytest.raises(Stop):
        small(progress=StopAfter("train refined", 0), **options)
    first, second = json.loads((tmp_path / "run" / "latency_check.json").read_text())["top_k"]
    result = small(resume=True, **options)
    assert list(result.architecture.vector) == second["vector"]
    assert tuple(first["vector"]) not in [f.vector for f in result.search.top_k]
    assert any("left out: 1" in note for note in result.report.notes)
    assert list(takes) == []


def test_the_winner_is_chosen_once_and_kept(tmp_path, monkeypatch) -> None:
    options = {"train": refiner.TrainConfig(epochs=1, lr_max=0.05), "out": tmp_path / "run"}
    with pytest.raises(Stop):
        small(progress=StopAfter("train refined", 0), **options)

    def again(*_args):
        raise AssertionError("the top-k were scored a second time")

    monkeypatch.setattr(refiner.Search, "_finish", again)
    result = small(resume=True, **options)
    assert result.search.best == result.search.top_k[0]


def test_resume_refuses_other_settings_and_missing_checkpoints(tmp_path) -> None:
    small(out=tmp_path / "run")
    with pytest.raises(RunError, match="another setting: seed is 0 there and 1 here"):
        small(out=tmp_path / "run", resume=True, seed=1)
    (tmp_path / "run" / "checkpoint" / "search.pt").unlink()
    with pytest.raises(RunError, match="no checkpoint"):
        small(out=tmp_path / "run", resume=True)
    with pytest.raises(RunError, match="holds a run already"):
        small(out=tmp_path / "run")
    with pytest.raises(ConfigError, match="out=DIR"):
        small(resume=True)


def test_a_failed_start_leaves_no_folder(tmp_path) -> None:
    for options in ({"strategy": "no"}, {"candidates": ["no"]}, {"slots": "no"}, {"device": "no"}):
        with pytest.raises(refiner.RefinerError):
            small(out=tmp_path / "run", **options)
    with pytest.raises(refiner.RefinerError):
        refiner.refine(TinyResNet(in_channels=1), batches(1), batches(1), out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_loader_without_a_validation_part_is_split() -> None:
    x, y = (torch.cat(t) for t in zip(*batches(5), strict=True))
    loader = DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)
    result = refiner.refine(TinyResNet(), loader, search=SMALL, device="cpu", progress=False)
    assert len(result.architecture.vector) == 4
    with pytest.raises(DataError, match="val_loader"):
        refiner.refine(TinyResNet(), batches(2), search=SMALL, device="cpu", progress=False)


def test_a_task_of_ones_own() -> None:
    class LeastSquares:
        metric = "negative error"

        def loss(self, model, batch):
            return (model(batch[0]).mean(1) - batch[1]).square().mean()

        def measure(self, model, batch):
            error = (model(batch[0]).mean(1) - batch[1]).square().sum()
            return torch.stack([error, torch.tensor(float(len(batch[1])))])

        def score(self, sums):
            return -float(sums[0] / sums[1])

    result = small(task=LeastSquares())
    assert result.report.metric == "negative error"
    assert result.report.search_score < 0


def test_a_candidate_of_ones_own(monkeypatch) -> None:
    from refiner.space import candidates

    monkeypatch.setattr(candidates, "_TABLE", dict(candidates._TABLE))
    refiner.register_candidate(
        "mean", lambda conv: torch.nn.Sequential(
            torch.nn.AvgPool2d(3, conv.stride, 1),
            torch.nn.Conv2d(conv.in_channels, conv.out_channels, 1),
        )
    )  # fmt: skip
    result = small(candidates=["mean"])
    assert result.architecture.candidates == (("original", "mean"),) * 4


def test_export_of_a_result(tmp_path) -> None:
    assert small().export(tmp_path / "model.ts") == "TorchScript, made by script, any batch size"


def test_mixed_precision_leaves_no_trace_in_the_model(tmp_path) -> None:
    # In a process of its own: accelerate keeps one precision a process.
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import refiner
from models import TinyResNet, batches
search = refiner.SearchConfig(epochs=1, warmup_epochs=0, trials=2, samples=2, top_k=2)
result = refiner.refine(TinyResNet(), batches(2), batches(1), search=search, precision="bf16",
                        train=refiner.TrainConfig(epochs=1), device="cpu", progress=False)
assert "forward" not in vars(result.model)
assert result.export({str(tmp_path / "model.ts")!r}) == "TorchScript, made by script, any batch size"
try:
    refiner.refine(TinyResNet(), batches(2), batches(1), device="cpu", precision="no")
except refiner.RefinerError as error:
    assert "Start a new one" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def shapes(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images with a bright square each, and which pixels it covers."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, 16, 16, generator=generator) * 0.3
    y = torch.zeros(count, 16, 16, dtype=torch.int64)
    for i, (top, left) in enumerate(torch.randint(0, 10, (count, 2), generator=generator).tolist()):
        y[i, top : top + 6, left : left + 6] = 1
        x[i, :, top : top + 6, left : left + 6] += 1
    return x, y


def test_segmentation_end_to_end(tmp_path) -> None:
    train, val = shapes(64, 0), shapes(32, 1)
    loader = DataLoader(TensorDataset(*train), 16, shuffle=True)
    result = refiner.refine(
        UNet(width=8), loader, [val], task="segmentation", search=SMALL, device="cpu", progress=False,
        train=refiner.TrainConfig(epochs=15, lr_max=0.1), out=tmp_path / "run",
    )  # fmt: skip
    assert result.report.metric == "mean IoU"
    assert len(result.architecture.vector) == 9
    assert result.report.trained.refined > 0.6
    assert result.model(val[0]).shape == (32, 2, 16, 16)


def test_regression_with_two_inputs_in_mappings() -> None:
    class Two(TinyResNet):
        def __init__(self) -> None:
            super().__init__(num_classes=1)

        def forward(self, image, scale):
            return super().forward(image) * scale[:, None]

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 3, 8, 8, generator=generator)
    scale = torch.rand(64, generator=generator) + 0.5
    y = x.mean((1, 2, 3)) * scale * 10
    data = [
        {"image": x[i : i + 16], "scale": scale[i : i + 16], "target": y[i : i + 16]}
        for i in range(0, 64, 16)
    ]
    result = refiner.refine(
        Two(), data, data, task="regression", search=SMALL, device="cpu", progress=False,
        train=refiner.TrainConfig(epochs=6, lr_max=0.05),
    )  # fmt: skip
    assert result.report.metric == "R2"
    assert result.report.trained.original > 0.3
    assert set(result.example_input) == {"image", "scale"}


def test_a_batch_object_with_its_own_task() -> None:
    class Batch:
        def __init__(self, x: torch.Tensor, y: torch.Tensor) -> None:
            self.x, self.y = x, y

        def to(self, device, non_blocking=False):
            return Batch(self.x.to(device), self.y.to(device))

    class Ours:
        metric = "hits"

        def loss(self, model, batch):
            return torch.nn.functional.cross_entropy(model(batch.x), batch.y)

        def measure(self, model, batch):
            hits = (model(batch.x).argmax(1) == batch.y).sum()
            return torch.stack([hits, torch.tensor(len(batch.y))])

        def score(self, sums):
            return float(sums[0] / sums[1])

    data = [Batch(*pair) for pair in batches(2)]
    result = refiner.refine(
        TinyResNet(), data, data, task=Ours(), example_input=images(), search=SMALL, device="cpu",
        progress=False,
    )  # fmt: skip
    assert result.report.metric == "hits"


def test_rewards_come_from_batches_of_all_classes_though_folders_lie_class_by_class() -> None:
    torch.manual_seed(3)
    labels = torch.arange(10).repeat_interleave(8)
    val = DataLoader(TensorDataset(torch.randn(80, 3, 8, 8), labels), 8)
    seen: list[int] = []

    class Watching(refiner.Classification):
        def measure(self, model, batch):
            seen.append(len(set(batch[1].tolist())))
            return super().measure(model, batch)

    config = refiner.SearchConfig(epochs=1, warmup_epochs=0, trials=4, samples=2, top_k=1, front=0)
    refiner.refine(
        TinyResNet(), batches(2), val, task=Watching(), search=config, baselines=False, device="cpu",
        progress=False,
    )  # fmt: skip
    # The rehearsal; for each of 4 architectures one scored batch; for the best the whole validation
    # part in its own order, and again for the score of what is emitted.
    seen = seen[-(1 + 4 + 10 + 10) :]  # after the first look and its rehearsal
    assert min(seen[1:5]) > 3
    assert seen[5:15] == [1] * 10


def test_a_task_is_rehearsed_before_anything_is_trained(tmp_path) -> None:
    class Wrong:
        metric = "wrong"

        def loss(self, model, batch):
            raise AssertionError("trained before the rehearsal")

        def measure(self, model, batch):
            return 0.5

        def score(self, sums):
            return 0.5

    with pytest.raises(ConfigError, match=r"Wrong\.measure gives a float"):
        small(task=Wrong(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_tests_without_a_training_are_refused() -> None:
    for train in (None, refiner.TrainConfig(epochs=0)):
        with pytest.raises(ConfigError, match=r"tests measure fine-tuned networks\. Give train="):
            small(train=train, tests={"one": lambda _: 1.0})


DISTILLED = {
    "strategy": "milp",
    "budget": "macs=75%",
    "distill": refiner.DistillConfig(steps=5, solve_batches=2),
    "search": refiner.SearchConfig(
        epochs=2, warmup_epochs=0, train_weights=False, trials=40, samples=10, top_k=2
    ),
}


def test_a_trained_model_is_refined_from_its_weights() -> None:
    torch.manual_seed(3)
    model = TinyResNet()
    result = small(model, **DISTILLED, refit=refiner.RefitConfig(steps=0))
    assert any(result.architecture.vector)
    assert result.report.after.macs <= 0.75 * result.report.before.macs
    before, after = model.state_dict(), result.model.state_dict()
    found = result.architecture
    changed = [slot.name for slot, k in zip(found.slots, found.vector) if k]
    assert set(changed) <= {"block1", "block2"}  # each a group
    blocks = tuple(f"{name}.{conv}." for name in changed for conv in ("conv1", "bn1", "conv2"))
    removed = [s.name for s, name in zip(found.slots, found.operations) if name == "no_branch"]
    gone = tuple(f"{name}.bn2." for name in removed)
    kept = [k for k in before if k.endswith("weight") and not k.startswith((*blocks, *gone))]
    assert "stem.weight" in kept
    assert all(torch.equal(before[k], after[k]) for k in kept)
    assert ("distill.steps", "5") in result.report.settings


def accuracy(network: torch.nn.Module, data: list) -> float:
    x, y = (torch.cat(tensors) for tensors in zip(*data, strict=True))
    with torch.no_grad():
        return float((network.eval()(x).argmax(1) == y).double().mean())


@pytest.mark.parametrize("unlabelled", [lambda x: x, lambda x: [x], lambda x: {"image": x}])
def test_training_images_need_no_labels_where_the_teacher_is_all(unlabelled) -> None:
    train = refiner.TrainConfig(epochs=1, lr_max=0.01, teacher_weight=1.0)
    options = {**DISTILLED, "train": train, "device": "cpu"}
    ends = []
    for loader in (batches(3), [unlabelled(x) for x, _ in batches(3)]):
        torch.manual_seed(3)
        result = refiner.refine(TinyResNet(), loader, batches(2), progress=False, **options)
        ends.append(result.model.state_dict())
    assert all(torch.equal(v, ends[1][k]) for k, v in ends[0].items())


def test_figures_come_from_the_test_part_and_choices_from_validation(tmp_path) -> None:
    torch.manual_seed(3)
    model, test = TinyResNet(), batches(3, seed=9)
    given = accuracy(copied(model), test), accuracy(copied(model), batches(2, seed=1))
    options = {**DISTILLED, "train": refiner.TrainConfig(epochs=1, teacher_weight=0.5)}
    plain = small(copied(model), **options)
    tested = small(copied(model), **options, test_loader=test, out=tmp_path / "run")
    assert tested.search == plain.search
    assert tested.points == plain.points
    state = plain.model.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in tested.model.state_dict().items())
    ours, theirs = tested.report, plain.report
    assert (ours.scored_on, theirs.scored_on) == ("test", "validation")
    assert (ours.original_score, theirs.original_score) == given
    assert given[0] != given[1]
    assert ours.trained.refined == accuracy(tested.model, test)
    assert theirs.trained.refined == accuracy(plain.model, batches(2, seed=1))
    assert ours.trained.validation == theirs.trained.validation == theirs.trained.refined
    assert [b.validation for b in ours.baselines] == [b.trained for b in theirs.baselines]
    page = (tmp_path / "run" / "report.md").read_text()
    assert "All scores are of the test images" in page
    assert f"| original | {ours.before.macs:,} | {ours.before.params:,} |  | " in page
    assert "so they are optimistic" in plain.report.to_markdown()


def test_search_front_and_choice_go_by_one_figure(tmp_path) -> None:
    result = small(**DISTILLED, out=tmp_path / "run")
    document = json.loads((tmp_path / "run" / "pareto.json").read_text())
    assert document["measure"] == result.report.measure == "agreement"
    found = {f.vector: f for f in result.search.top_k}
    shown = [found[p.vector] for p in result.points if p.vector in found]
    assert [(p.score, p.task_score) for p in result.points if p.vector in found] == [
        (f.agreement, f.score) for f in shown
    ]
    best = max(result.points, key=lambda p: (p.score, -p.macs))
    assert pick(front(result.points), {"macs": 10**9}) == best
    if best.vector in found:  # else a baseline is better
        assert best.vector == result.architecture.vector


def test_a_distilled_search_and_its_baseline_are_rewarded_by_agreement(
    tmp_path, monkeypatch
) -> None:
    rewards = []
    init = refiner.Search.__init__

    def spy(self, *args, **options):
        init(self, *args, **options)
        rewards.append(self.scorer.reward.metric)

    monkeypatch.setattr(refiner.Search, "__init__", spy)
    small(**{**DISTILLED, "baselines": True}, out=tmp_path / "run")
    assert rewards == ["agreement", "agreement"]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    scores = [s for line in lines for u in json.loads(line)["updates"] for s in u["scores"]]
    assert max(scores) <= 0
    assert min(scores) < 0
    rewards.clear()
    small(out=tmp_path / "scratch")
    assert set(rewards) == {"accuracy"}


def test_the_refined_model_is_tuned_from_what_it_inherited() -> None:
    tuned = refiner.TrainConfig(epochs=1, lr_max=1e-6, lr_min=1e-6, teacher_weight=0.5)
    alone = small(**DISTILLED)
    result = small(**DISTILLED, train=tuned)
    before, after = alone.model.state_dict(), result.model.state_dict()
    assert result.architecture == alone.architecture
    changes = [(before[k] - after[k]).abs().max() for k in before if k.endswith("weight")]
    assert 0 < max(changes) < 1e-3


def test_a_distilled_run_that_was_stopped_goes_on_to_the_same_end(tmp_path, monkeypatch) -> None:
    whole = small(**DISTILLED, out=tmp_path / "whole")
    epoch, calls = refiner.Search._update_strategy, []

    def stop_at_the_second(self, *args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return epoch(self, *args)

    monkeypatch.setattr(refiner.Search, "_update_strategy", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        small(**DISTILLED, out=tmp_path / "cut")
    monkeypatch.undo()
    result = small(**DISTILLED, out=tmp_path / "cut", resume=True)
    assert result.architecture == whole.architecture
    assert result.search == whole.search
    ours, theirs = result.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    assert result.report.settings == whole.report.settings, "what was spent, too"


def test_a_run_stopped_while_it_is_distilled_is_distilled_again(tmp_path, monkeypatch) -> None:
    def stop(*_args, **_kwargs):
        raise KeyboardInterrupt

    whole = small(**DISTILLED)
    with monkeypatch.context() as during:
        during.setattr("refiner.runs.searching.distill", stop)
        with pytest.raises(KeyboardInterrupt):
            small(**DISTILLED, out=tmp_path / "cut")
    result = small(**DISTILLED, out=tmp_path / "cut", resume=True)
    assert result.search == whole.search


def test_a_search_that_trains_what_was_distilled_is_refused() -> None:
    with pytest.raises(ConfigError, match="train_weights=False"):
        small(**{**DISTILLED, "search": SMALL})


def test_a_warm_up_of_weights_that_stay_is_refused() -> None:
    with pytest.raises(ConfigError, match="warmup_epochs"):
        refiner.SearchConfig(train_weights=False)
