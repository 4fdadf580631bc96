"""A refined detector as a checkpoint of ultralytics, which goes on from there.

``YOLO("refined.pt")`` loads it, and predicts, validates and exports. To train it further, give its
``train`` the trainer of :func:`trainer`.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from refiner.core.errors import ModelError
from refiner.core.surgery import copied, replace_modules
from refiner.core.ultralytics_models import hyperparameters, require_ultralytics

_PLACE = ("i", "f", "type", "np")
"""What ultralytics notes on a layer: its number, where its input comes from, and what it is."""
_SIDES = (7, 3)
"""Of the kernels that its ``RepVGGDW`` adds."""


def write_checkpoint(model: nn.Module, path: Path) -> bool:
    """Write a checkpoint, and return whether it loads where refiner is not installed.

    Raises:
        ModelError: the model is none of ultralytics.
    """
    tasks = require_ultralytics().nn.tasks
    if not isinstance(model, tasks.BaseModel):
        raise ModelError(
            f"the model is a {type(model).__name__}, and this format holds models of ultralytics "
            "alone. Choose another format."
        )
    network = fusible(model)
    checkpoint = {
        "model": network.float(),
        "ema": None,
        "epoch": -1,
        "optimizer": None,
        "train_args": vars(hyperparameters(model)),
        "version": require_ultralytics().__version__,
    }
    torch.save(checkpoint, path)
    return not any(type(each).__module__.startswith("refiner") for each in network.modules())


def read_checkpoint(path: Path) -> nn.Module:
    """Return the network of a checkpoint, as ultralytics loads it; it may run code of the file."""
    checkpoint, _ = require_ultralytics().nn.tasks.torch_safe_load(str(path))
    network: nn.Module = checkpoint["model"]
    return network.eval()


def fusible(model: nn.Module) -> Any:
    """Return a copy that ultralytics can fuse: it takes the conv of each of its layers for plain.

    A layer with another module in place of its conv becomes a sequence of its three parts. Two
    depthwise layers whose sum ultralytics fuses become :class:`Branches` where one is such a layer.
    """
    from ultralytics.nn.modules.block import RepVGGDW
    from ultralytics.nn.modules.conv import Conv, DWConv

    network = copied(model)
    for kinds, parts in (((RepVGGDW,), _branches), ((Conv, DWConv), _sequence)):
        replaced: dict[str, nn.Module] = {}
        for name, layer in network.named_modules():
            made = parts(layer) if type(layer) in kinds else None
            if made is not None:
                replaced[name] = made
                for key in _PLACE:
                    if hasattr(layer, key):
                        setattr(made, key, getattr(layer, key))
        replace_modules(network, replaced)
    return network


class Branches(nn.Module):
    """The sum of two layers, then an activation."""

    def __init__(self, first: nn.Module, second: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.act = first, second, act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return N x C x H x W."""
        total: torch.Tensor = self.act(self.first(x) + self.second(x))
        return total


def _branches(layer: Any) -> nn.Module | None:
    """Return a module for two summed layers; None where ultralytics can fuse them.

    It adds their kernels, so smaller ones are padded.
    """
    convs = {_SIDES[0]: layer.conv.conv, _SIDES[1]: layer.conv1.conv}
    if any(type(conv) is not nn.Conv2d for conv in convs.values()):
        return Branches(layer.conv, layer.conv1, layer.act)
    for side, conv in convs.items():
        margin = (side - conv.kernel_size[0]) // 2
        conv.weight = nn.Parameter(F.pad(conv.weight.detach(), [margin] * 4))
        conv.kernel_size, conv.padding = (side, side), (side // 2, side // 2)
    return None


def _sequence(layer: Any) -> nn.Module | None:
    """Return a module for a layer without a plain conv; None for others."""
    plain = type(layer.conv) is nn.Conv2d
    return None if plain else nn.Sequential(layer.conv, layer.bn, layer.act)


def trainer() -> Any:
    """Return what trains the network as it is: ``YOLO(...).train(trainer=...)``.

    The usual trainers build the network again from its YAML file, with the original's layers.
    """
    require_ultralytics()
    from ultralytics.models.yolo import detect, segment

    usual = {"detect": detect.DetectionTrainer, "segment": segment.SegmentationTrainer}

    def make(overrides: dict[str, Any], **options: Any) -> Any:
        return _refined(usual[overrides["task"]])(overrides=overrides, **options)

    return make


def _refined(usual: Any) -> Any:
    """Return a trainer's class that takes the network it is given."""

    class RefinedTrainer(usual):  # type: ignore[misc]
        """Trains the network that it is given."""

        def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:
            """Return a copy of ``weights``, the network of the checkpoint."""
            if weights is None:
                return super().get_model(cfg, weights, verbose)
            network = copied(weights).train()
            for parameter in network.parameters():
                parameter.requires_grad_(parameter.is_floating_point())
            return network

    return RefinedTrainer
