"""Run by test_devices.py: whole runs on a device that refuses what lies on another one."""

import json
import sys
from pathlib import Path

import torch
from far_device import FAR, strict_reductions
from models import TinyResNet, images
from torch import nn
from training_loaders import digest, tensor_loader

import refiner
from refiner.training import devices as devices_module
from refiner.training.devices import Devices


class Averages(nn.Module):
    """Stands for DistributedDataParallel, which reduces in C++: averages the gradients."""

    def __init__(self, module, *, find_unused_parameters) -> None:
        super().__init__()
        self.module = module
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(self.average)

    def average(self, parameter) -> None:
        total = parameter.grad.clone()
        torch.distributed.all_reduce(total)
        parameter.grad = total / torch.distributed.get_world_size()

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)


def main(out: Path) -> None:
    strict_reductions()
    Devices.device = property(lambda self: FAR)
    devices_module.DistributedDataParallel = Averages
    torch.manual_seed(0)
    model, train, val = TinyResNet(), tensor_loader(37, train=True), tensor_loader(13, train=False)
    found: dict[str, object] = {}
    for name, given in {
        "distilled": {
            "distill": refiner.DistillConfig(steps=2),
            "budget": "macs=70%",
            "search": refiner.SearchConfig(
                epochs=1, trials=4, warmup_epochs=0, train_weights=False
            ),
            "train": refiner.TrainConfig(epochs=1, lr_max=0.01, teacher_weight=0.5),
        },
        "from scratch": {
            "strategy": "controller",
            "search": refiner.SearchConfig(epochs=1, trials=4, warmup_epochs=1),
            "train": refiner.TrainConfig(epochs=1, lr_max=0.01),
        },
    }.items():
        result = refiner.refine(model, train, val, progress=False, **given)
        found[name] = [list(result.architecture.vector), digest(result.model.cpu())]
    # The model itself may be on such a device, whose runs differ by rounding.
    found["slots"] = len(refiner.search_space(TinyResNet().to(FAR), images().to(FAR)).slots)
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    (out / f"{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
