"""Which layers and methods of plain PyTorch stand for what a model calls."""

import inspect
import math
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

_PER_DIMENSION = {"kernel_size", "stride", "padding", "dilation", "output_padding"}
_BATCH_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
"""By the number of dimensions of the input."""
_STORED = ("weight", "bias", "running_mean", "running_var")
_VIEWS = (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default)


def layer_arguments(module: nn.Module) -> dict[str, Any] | None:
    """Return the constructor arguments of a layer of torch.nn, or None where it cannot be built
    again."""
    kind = type(module)
    if (
        not kind.__module__.startswith("torch.nn.modules.")
        or any(True for _ in module.children())
        or "forward" in vars(module)
        or module._forward_hooks
        or module._forward_pre_hooks
    ):
        return None
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        if name in ("self", "device", "dtype"):
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or not hasattr(
            module, name
        ):
            return None  # nn.Identity is one: its call leaves nothing to write down
        value = getattr(module, name)
        if name == "bias" and (value is None or isinstance(value, torch.Tensor)):
            value = value is not None
        if name in _PER_DIMENSION and isinstance(value, tuple) and len(set(value)) == 1:
            value = value[0]
        if value != parameter.default or parameter.default is parameter.empty:
            arguments[name] = value
    if not all(_literal(value) for value in arguments.values()):
        return None
    return arguments


def _literal(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_literal, value))
    return value is None or isinstance(value, bool | int | float | str)


def batch_norm(model: nn.Module, node: fx.Node) -> tuple[str, nn.Module] | None:
    """Return the path of the batch norm that called the operation ``node``, and a layer like it.

    Subclasses (timm has several) call the operation themselves. As a layer it can be trained on
    and pruned; the operation is that of eval mode for good, and takes statistics of more channels
    than its input has without a word. None where it is no batch norm in eval mode, or more than
    that is read of it.
    """
    if node.target is not torch.ops.aten.native_batch_norm.default:
        return None
    source, *stored, training, _, eps = node.args
    if training or any(user.args[1] != 0 and user.users for user in node.users):
        return None
    paths = [str(s.target) for s in stored if isinstance(s, fx.Node) and s.op == "get_attr"]
    owner = paths[0].rpartition(".")[0] if paths else ""
    if not owner or paths != [f"{owner}.{key}" for key in _STORED]:
        return None
    norm = model.get_submodule(owner)
    if not isinstance(norm, _BatchNorm) or norm.eps != eps:
        return None
    assert isinstance(source, fx.Node)
    kind = _BATCH_NORMS[len(source.meta["shape"])]
    return owner, kind(norm.num_features, norm.eps, norm.momentum, device="meta")


def merged_dimensions(node: fx.Node) -> str | None:
    """Return ``(1)`` or ``(1, 2)`` for a view that is ``flatten`` of these dimensions, else None.

    Unlike the view it holds no count of channels, so it stays true when they are pruned.
    """
    source = node.args[0] if node.target in _VIEWS else None
    if not isinstance(source, fx.Node):
        return None
    before, after = source.meta["shape"], node.meta["shape"]
    merged = len(before) - len(after)
    for start in reversed(range(len(after) if merged > 0 else 0)):
        end = start + merged
        if after == (*before[:start], math.prod(before[start : end + 1]), *before[end + 1 :]):
            return f"({start})" if end + 1 == len(before) else f"({start}, {end})"
    return None
