"""A search of any shared weights in a folder: what it leaves, and going on."""

import json

import pytest
import torch
from models import MACRO_SPACE, TinyResNet, batches, images

import refiner
from refiner.core.errors import ConfigError, RunError
from refiner.core.progress import Silent
from refiner.data.tensor_loader import TensorLoader
from refiner.enas.joint import JointConfig, JointStrategy
from refiner.enas.macro_network import MacroNetwork
from refiner.runs.beginning import dropped_on_error, open_or_create
from refiner.runs.run_folder import RunFolder
from refiner.runs.search_run import kept_network, run_kept, run_search
from refiner.search.search import Search, SearchConfig
from refiner.training.devices import Devices
from refiner.training.task import make_task

CHANNELS = 8
"""With fewer, oneDNN's strided 1x1 conv writes past its memory on CPUs without AVX-512 (torch 2.14)."""
CONFIG = SearchConfig(epochs=3, warmup_epochs=1, trials=18, samples=3, top_k=2)


class Stopped(Exception):
    pass


class StopsInEpoch(Silent):
    """Stops in the search, once its first epoch is over."""

    def begin(self, phase: str, total: int, done: int = 0) -> None:
        self.left = 12 if phase == "search" else 10**9

    def advance(self, steps: int = 1, **values: float | str) -> None:
        self.left -= steps
        if self.left < 0:
            raise Stopped


def loader(train: bool) -> TensorLoader:
    generator = torch.Generator().manual_seed(int(train))
    images = torch.randint(0, 256, (12, 1, 8, 8), generator=generator, dtype=torch.uint8)
    half = torch.tensor([0.5])
    return TensorLoader(
        images, torch.arange(12) % 3, batch_size=4, mean=half, std=half, train=train, flip=train
    )


def search(out, **more):
    strategy = JointStrategy(MACRO_SPACE, seed=1, config=JointConfig(hidden_size=8))
    network = MacroNetwork(MACRO_SPACE, channels=CHANNELS, num_classes=3, in_channels=1, seed=1)
    options = {"config": CONFIG, "seed": 1, "device": "cpu", "progress": False, **more}
    return run_search(network, strategy, loader(True), loader(False), out=out, **options), strategy


def test_what_it_leaves_and_that_a_finished_one_is_not_run_again(tmp_path) -> None:
    found, strategy = search(tmp_path / "a")
    MACRO_SPACE.check(found.best.vector)
    lines = (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()
    assert [len(json.loads(line).get("updates", [])) for line in lines] == [0, 2, 2, 2]
    again, same = search(tmp_path / "a", resume=True)
    assert again == found
    assert same.metrics() == strategy.metrics()
    assert (tmp_path / "a" / "metrics.jsonl").read_text().splitlines() == lines


def test_a_stopped_search_goes_on_to_the_bit(tmp_path) -> None:
    whole, _ = search(tmp_path / "whole")
    with pytest.raises(Stopped):
        search(tmp_path / "part", progress=StopsInEpoch())
    done = (tmp_path / "part" / "metrics.jsonl").read_text().splitlines()
    assert len(done) == 2
    found, _ = search(tmp_path / "part", resume=True)
    assert found == whole
    written = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "part")]
    assert written[0] == written[1]


def test_a_folder_of_another_search_is_refused(tmp_path) -> None:
    search(tmp_path / "a", config=SearchConfig(epochs=0, warmup_epochs=1, top_k=1))
    with pytest.raises(RunError, match="made with another setting: search is"):
        search(tmp_path / "a", resume=True)
    with pytest.raises(RunError, match="holds a run already"):
        search(tmp_path / "a")


@pytest.mark.parametrize("fails", [False, True])
def test_a_new_search_is_prepared_once_before_its_first_checkpoint(fails, tmp_path) -> None:
    seen = []

    def run(resume: bool) -> None:
        folder = open_or_create(tmp_path / "run", resume, {}, None, dict, main=True)

        def prepare(_search: Search) -> None:
            seen.append(folder.load_checkpoint("search"))
            if fails:
                raise ConfigError("no")

        with dropped_on_error(folder):
            network = MacroNetwork(
                MACRO_SPACE, channels=CHANNELS, num_classes=3, in_channels=1, seed=1
            )
            searching = Search(
                network, JointStrategy(MACRO_SPACE, seed=1), make_task("classification"), loader(True),
                loader(False), loader(False), devices=Devices.choose("cpu"), config=CONFIG, seed=1,
            )  # fmt: skip
            run_kept(searching, folder, resume=resume, progress=Silent(), prepare=prepare)

    if fails:
        with pytest.raises(ConfigError):
            run(resume=False)
        assert not (tmp_path / "run").exists()
    else:
        run(resume=False)
        run(resume=True)
    assert seen == [None]


def test_a_kept_search_gives_the_weights_that_it_left(tmp_path) -> None:
    model = TinyResNet()
    config = refiner.SearchConfig(
        epochs=1, warmup_epochs=0, train_weights=False, trials=2, samples=2, top_k=1
    )
    result = refiner.refine(
        model, batches(3), batches(2, seed=1), strategy="random", search=config, baselines=False,
        distill=refiner.DistillConfig(steps=2, solve_batches=1), device="cpu", progress=False,
        out=tmp_path / "run", refit=refiner.RefitConfig(steps=0),
    )  # fmt: skip
    space = refiner.search_space(model, images(), granularity="group")
    folder = RunFolder.open(tmp_path / "run")
    network = kept_network(folder, model, space, result.architecture.vector)
    kept = network.state_dict()
    assert any(result.architecture.vector)
    for key, value in result.model.state_dict().items():
        assert torch.equal(kept[key], value), key
    # What the search never scored: what stays has the model's statistics, what narrows those of its distillation.
    unscored = (len(space.candidates[0]) - 1, 0)
    network = kept_network(folder, model, space, unscored)
    assert torch.equal(network.block2.bn2.running_var, model.block2.bn2.running_var)
    other = TinyResNet(width=8)
    with pytest.raises(RunError, match="does not fit"):
        kept_network(folder, other, refiner.search_space(other, images()), (0,) * 4)
