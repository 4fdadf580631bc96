"""Escapes: what a copy of a module still uses of the original.

A function, a lambda or a weak reference is the same object in a copy. If it holds the model, one of
its modules or tensors, or a container in which the model keeps tensors, the copy does not stand
alone: it computes with the original's weights, and trains them.
"""

import types
from collections.abc import Iterable

import torch
from torch import nn

from refiner.core.contents import tensors_in
from refiner.core.errors import ModelError
from refiner.core.references import Reference, attributes, references


def check_escapes(
    model: nn.Module, twin: nn.Module, held: Iterable[Reference] | None = None
) -> None:
    """Check that a copy of ``model`` uses nothing of the original.

    Args:
        model: the original.
        twin: its deep copy.
        held: the references of the original, where they are known.

    Raises:
        ModelError: it does; the message names the attribute and the next step.
    """
    names = {id(module): name for name, module in model.named_modules()}
    names |= {id(t): name for name, t in (*model.named_parameters(), *model.named_buffers())}
    own = {
        id(each.value): each
        for each in (references(model) if held is None else held)
        if not each.via and not isinstance(each.value, types.FunctionType)
    }
    for name, module in twin.named_modules():
        if id(module) in names:
            raise ModelError(
                f"{name or type(model).__name__} ({type(module).__name__}) stays the original's in "
                "a copy, so its weights would be shared. Let its __deepcopy__ return a new module."
            )
    for each in references(twin):
        value = each.value
        if id(value) in names:
            raise ModelError(_message(each, names[id(value)], value))
        if each.via and id(value) in own and _keeps_state(value):
            raise ModelError(
                f"{_holder(each)} that holds {own[id(value)].path}: in a copy it would still be "
                f"the original's. {_advice(each)}"
            )


def _keeps_state(value: object) -> bool:
    """Return whether a value is a module or a parameter, or holds tensors in a container.

    A plain tensor is a constant, which may be shared.
    """
    if isinstance(value, nn.Module | nn.Parameter):
        return True
    if isinstance(value, torch.Tensor):
        return not value.is_leaf
    parts = [value] if isinstance(value, dict | list | set | tuple) else dict(attributes(value))
    return bool(tensors_in(parts))


def _message(each: Reference, name: str, value: object) -> str:
    """Return the message for a reference to a module or a tensor of the original."""
    what = name or "the model"
    if not each.via:
        return (
            f"{each.path} stays the original's {what} in a copy. Let its __deepcopy__ return a "
            "new object."
        )
    children = value.named_children() if isinstance(value, nn.Module) else ()
    prefix = f"{name}." if name else ""
    used = [f"{prefix}{child}" for child, _ in children if child in each.names]
    layers = ", ".join(used[:3]) or name or "layers"
    calls = isinstance(value, nn.Module) and each.via != "a weak reference"
    verb = "call" if calls else "use"
    return (
        f"{_holder(each)} that holds {what}: its copy would still {verb} the original's {layers}. "
        f"{_advice(each)}"
    )


def _holder(each: Reference) -> str:
    return f"{each.path} is {each.via}"


def _advice(each: Reference) -> str:
    if "hook of" in each.path:
        return "Register a method of the model (self.keep) as the hook."
    if each.via == "a weak reference":
        return "Keep the module itself, or pass it as an argument."
    return "Make it a method."
