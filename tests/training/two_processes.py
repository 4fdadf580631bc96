"""Run by test_devices.py in two processes: everything that must be equal in both."""

import json
import sys
from pathlib import Path

import torch
from models import TinyResNet
from torch.utils.data import DataLoader, TensorDataset
from training_loaders import digest, tensor_loader

from refiner.core.progress import Silent
from refiner.core.randomness import seeded
from refiner.core.surgery import copied
from refiner.distill.distillation import DistillConfig, distill
from refiner.runs.baselines import score_baselines
from refiner.search.search import Search, SearchConfig
from refiner.search.strategies import make_strategy
from refiner.space.search_space import search_space
from refiner.space.supernet import Supernet
from refiner.training.agreement import Agreement
from refiner.training.devices import Devices
from refiner.training.evaluation import evaluate
from refiner.training.loop import TrainConfig, train
from refiner.training.task import Classification


def main(out: Path) -> None:
    torch.manual_seed(0)
    model, task, devices = TinyResNet(), Classification(), Devices.choose("cpu")
    whole = tensor_loader(13, train=False)
    images, labels = (torch.cat(t) for t in zip(*whole, strict=True))
    listed = DataLoader(TensorDataset(images, labels), 3)
    found: dict[str, object] = {
        "processes": devices.processes,
        "loader is copied": whole.world == 1,
    }
    found["from main"] = devices.from_main(lambda: devices.accelerator.process_index)
    own = torch.tensor([float(devices.accelerator.process_index), 3.0])
    found["mean"] = devices.mean(own.clone()).tolist()
    linear = torch.nn.Linear(2, 1, bias=False)
    linear.weight.grad = own[None].clone()
    devices.average_gradients(linear)
    norm = torch.nn.BatchNorm1d(2)
    norm.running_mean.copy_(own)
    devices.average_buffers(norm)
    found["averaged"] = [linear.weight.grad.flatten().tolist(), norm.running_mean.tolist()]
    for name, loader in (("tensor", whole), ("listed", listed)):
        part = devices.loader(loader, even=False)
        found[name] = evaluate(model, devices.batches(part), task, devices)
    train_part = devices.loader(tensor_loader(37, train=True))
    val_part = devices.loader(whole, even=False)
    space = search_space(model, torch.randn(2, 3, 8, 8))
    search = Search(
        Supernet(model, space), make_strategy("controller", space.candidates, 0), task,
        train_part, val_part, devices=devices, config=SearchConfig(epochs=1, warmup_epochs=1, trials=4, samples=2),
    )  # fmt: skip
    best = search.run().best
    found["search"] = [list(best.vector), best.score, digest(search.supernet)]
    found["baselines"] = [
        [k, list(s.vector), s.score] for k, _, s in score_baselines(search, Silent())
    ]
    warm = Supernet(model, space)
    errors = distill(warm, train_part, task, devices=devices, config=DistillConfig(steps=3))
    found["distilled"] = [errors, digest(warm)]
    informed = Search(
        warm, make_strategy("milp", space.candidates, 0), task, train_part, val_part,
        devices=devices, teacher=copied(model),
        config=SearchConfig(epochs=1, warmup_epochs=0, trials=12, samples=4, train_weights=False),
    )  # fmt: skip
    best = informed.run().best
    found["informed"] = [list(best.vector), best.agreement, informed.informing.evaluations]
    for name, loader in (("tensor", whole), ("listed", listed)):
        part = devices.loader(loader, even=False)
        warm.select((1, 4, 2, 0))
        found[f"agreement {name}"] = evaluate(
            warm.model, devices.batches(part), Agreement(task, copied(model)), devices
        )
    shuffled = DataLoader(listed.dataset, 3, shuffle=True)
    loader = devices.loader(shuffled)
    seen = []
    for seed in (0, 0, 1):
        with seeded(seed):
            seen.append([int(i) for _, labels in loader for i in labels])
    found["orders repeat"] = seen[0] == seen[1] != seen[2]
    found["sampler is as it was"] = shuffled.sampler.generator is None
    result = train(
        model, loader, val_part, task, test_loader=devices.loader(listed, even=False),
        devices=devices, config=TrainConfig(epochs=1, lr_max=0.01, ema=0.5),
    )  # fmt: skip
    found["test"] = result.test == result.score  # the same images, cut into other batches
    found["train"] = [result.score, list(result.losses), digest(model)]
    (out / f"{devices.accelerator.process_index}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
