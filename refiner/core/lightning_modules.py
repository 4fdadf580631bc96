"""LightningModules: found without importing Lightning, built from a file, freed of their Trainer.

Both packages are known, ``lightning`` and ``pytorch_lightning``; their classes differ.
"""

import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from torch import nn

from refiner.core.errors import ModelError
from refiner.core.surgery import copied
from refiner.core.user_code import load_function

SOURCE = "lightning:"
"""Begins the names of these models, and of their data."""
_PACKAGES = ("lightning.", "pytorch_lightning.")
_ATTACHED = ("_trainer", "_fabric")


def base_of(kind: type, name: str = "LightningModule") -> type | None:
    """Return Lightning's own class of that name that ``kind`` derives from, None without one."""
    found = (base for base in kind.__mro__ if base.__name__ == name)
    return next((base for base in found if base.__module__.startswith(_PACKAGES)), None)


def is_lightning(model: object) -> bool:
    """Return whether a model is a LightningModule of either package."""
    return base_of(type(model)) is not None


def overrides(value: object, method: str) -> bool:
    """Return whether the user's class of a LightningModule or a DataModule defines a method."""
    kind = type(value)
    base = base_of(kind) or base_of(kind, "LightningDataModule")
    return getattr(kind, method, None) is not getattr(base, method, None)


def version_of(model: nn.Module) -> str:
    """Return the version of the package that a LightningModule comes from."""
    base = base_of(type(model))
    assert base is not None
    return str(sys.modules[base.__module__.partition(".")[0]].__dict__.get("__version__", ""))


def detached(model: nn.Module) -> nn.Module:
    """Return a model without a Trainer: itself, or a copy where one is attached.

    Raises:
        ModelError: it cannot be copied.
    """
    kept = [
        (vars(module), name)
        for module in model.modules()
        if is_lightning(module)
        for name in _ATTACHED
        if vars(module).get(name) is not None
    ]
    if not kept:
        return model
    values = [held[name] for held, name in kept]
    for held, name in kept:  # a copy would hold the Trainer with its data
        held[name] = None
    try:
        return copied(model)
    finally:
        for (held, name), value in zip(kept, values, strict=True):
            held[name] = value


@contextmanager
def scriptable(model: nn.Module) -> Iterator[None]:
    """Let TorchScript read the properties of LightningModules, which want a Trainer elsewhere."""
    bases: Any = {base_of(type(module)) for module in model.modules()} - {None}
    for base in bases:
        base._jit_is_scripting = True
    try:
        yield
    finally:
        for base in bases:
            base._jit_is_scripting = False


def lightning_class(source: str) -> type[nn.Module]:
    """Return the class that ``lightning:FILE.py:CLASS`` names.

    Raises:
        ModelError: it is missing, or no LightningModule.
    """
    kind: Any = load_function(source, ModelError, form=SOURCE)
    if not inspect.isclass(kind) or base_of(kind) is None:
        raise ModelError(
            f"{source} is no LightningModule. Name its class, or leave {SOURCE} out for a function "
            "that returns the model."
        )
    return cast("type[nn.Module]", kind)


def has_own_steps(model: object) -> bool:
    """Return whether a model is a LightningModule whose ``training_step`` gives its loss."""
    return is_lightning(model) and overrides(model, "training_step")


def check_module(model: nn.Module) -> None:
    """Raise a ModelError for a LightningModule that cannot be refined by its own steps."""
    name = type(model).__name__
    if not overrides(model, "forward"):
        raise ModelError(
            f"{name} has no forward, which is what is refined. Give it one, such as "
            "`def forward(self, x): return self.net(x)`."
        )
    if not getattr(model, "automatic_optimization", True):
        raise ModelError(
            f"{name} steps its optimizers itself (automatic_optimization=False), which needs a "
            "Trainer. Refine its network with a task of your own; see refiner.Task."
        )


def stored_arguments(kind: type, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a class that a checkpoint's hyperparameters give: plain values."""
    found = checkpoint.get("hyper_parameters")
    kept = plain(dict(found)) if isinstance(found, Mapping) else {}
    parameters = inspect.signature(kind).parameters
    whole = checkpoint.get("hparams_name")
    if isinstance(whole, str) and whole in parameters:
        any_names = parameters[whole].kind is inspect.Parameter.VAR_KEYWORD
        return kept if any_names else {whole: kept}
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        return {name: value for name, value in kept.items() if name[0] != "_"}
    return {name: value for name, value in kept.items() if name in parameters}


def plain(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the entries of a mapping that are numbers, texts, and lists and mappings of them."""
    return {k: v for k, v in values.items() if isinstance(k, str) and _is_plain(v)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, Mapping):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    return value is None or isinstance(value, bool | int | float | str)
