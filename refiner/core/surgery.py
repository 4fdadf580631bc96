"""Copy a module tree, and replace modules inside one."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from refiner.core.errors import ModelError, one_line
from refiner.core.escapes import check_escapes
from refiner.core.references import references


def copied(model: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """Return a copy of ``model`` that shares nothing with it.

    ``memo`` is as of :func:`copy.deepcopy`: what stands in the copy for objects, by their ``id``.

    Some modules keep tensors that they computed, as torch's older ``weight_norm`` does, or a list
    of feature maps. These are copied as values; the module computes them again at its next call.

    Raises:
        ModelError: it cannot be copied, its copy would still use the original (see
            ``escapes.py``), or it has lazy modules that have not run yet.
    """
    lazy = [n for n, p in model.named_parameters() if nn.parameter.is_lazy(p)]
    if lazy:
        raise ModelError(
            f"{lazy[0]} has no shape yet. Run the model once, then give it to refiner."
        )
    owners: dict[int, str] = {}
    for name, parameter in model.named_parameters():
        if not parameter.is_meta and parameter.layout is torch.strided:
            memory = parameter.untyped_storage()._cdata
            if parameter.numel() and owners.setdefault(memory, name) != name:
                raise ModelError(
                    f"{name} and {owners[memory]} are two parameters in the same memory, which "
                    "no copy keeps. Assign the Parameter itself to tie them."
                )
    held = list(references(model))
    memo = {} if memo is None else memo
    memo |= {
        id(each.value): each.value.detach().clone()
        for each in held
        if isinstance(each.value, torch.Tensor) and not each.value.is_leaf
    }
    try:
        twin = copy.deepcopy(model, memo)
    except Exception as error:
        raise ModelError(
            f"the model cannot be copied{_culprit(model)}: {one_line(error)}"
        ) from error
    check_escapes(model, twin, held)
    return twin


def _culprit(model: nn.Module) -> str:
    """Return which attribute cannot be copied, for messages; empty if none alone is to blame."""
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            if attribute in ("_modules", "_parameters", "_buffers"):
                continue
            try:
                copy.deepcopy(value, {id(m): m for m in model.modules()})
            except Exception:
                path = ".".join(filter(None, (type(model).__name__, name, attribute)))
                return f", since {path} (a {type(value).__name__}) cannot"
    return ""


def replace_modules(root: nn.Module, replacements: Mapping[str, nn.Module]) -> None:
    """Put each module of ``replacements`` where ``root`` has the submodule of that name.

    A submodule that hangs in the tree under several names is replaced under all of them.

    Raises:
        AttributeError: ``root`` has no submodule of that name.
    """
    new_of_old = {id(root.get_submodule(name)): new for name, new in replacements.items()}
    for parent in list(root.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and id(child) in new_of_old:
                parent._modules[name] = new_of_old[id(child)]
