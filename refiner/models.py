"""Models by name: ``timm:NAME``, ``torchvision:NAME``, ``FILE.py:FUNCTION``, ``package:FUNCTION``."""

import ast
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import os
import pickle
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from refiner.errors import ModelError, one_line
from refiner.layers import CONV_TYPES
from refiner.randomness import seeded
from refiner.surgery import replace_modules


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """How to make a model, in a form that a run's folder can keep."""

    source: str
    """``timm:NAME``, ``torchvision:NAME``, ``FILE.py:FUNCTION`` or ``package.module:FUNCTION``."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the builder."""
    pretrained: bool = False
    weights: str | None = None
    """A file of weights: safetensors, or a state dict that torch saved."""
    classes: int | None = None
    """Number of classes, handed to a builder that takes ``num_classes`` unless named already."""
    seed: int = 0
    """Fixes the initial weights."""

    def build(self) -> nn.Module:
        """Return the model, on the CPU, in train mode.

        Raises:
            ModelError: unknown name, missing file or function, a builder that raises or returns no
                module, or weights that do not fit.
        """
        builder = _builder(self.source)
        arguments = dict(self.arguments)
        takes = self._takes(builder)
        if self.classes is not None and "num_classes" in takes:
            arguments.setdefault("num_classes", self.classes)
        if self.pretrained:
            arguments.update(self._pretrained(takes))
        with seeded(self.seed):
            try:
                model = builder(**arguments)
            except Exception as error:
                raise ModelError(
                    f"{self.source} cannot be built: {one_line(error)}.{self._advice(error)}"
                ) from error
        if not isinstance(model, nn.Module):
            raise ModelError(
                f"{self.source} returned {type(model).__name__}, not a torch.nn.Module. "
                "Return the model from it."
            )
        if self.weights is not None:
            _load_weights(model, Path(self.weights))
        return model.train()

    def _advice(self, error: Exception) -> str:
        if isinstance(error, TypeError):
            return " --model-arg NAME=VALUE gives it an argument."
        return " Without a network, give --weights FILE." if self.pretrained else ""

    def _takes(self, builder: Callable[..., Any]) -> set[str]:
        if self.source.startswith(("timm:", "torchvision:")):
            return {"num_classes", "pretrained"}
        try:
            return set(inspect.signature(builder).parameters)
        except ValueError:  # written in C
            return set()

    def _pretrained(self, takes: set[str]) -> dict[str, Any]:
        if "pretrained" in takes:
            return {"pretrained": True}
        raise ModelError(
            f"{self.source} takes no argument `pretrained`. Give its weights with --weights FILE."
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return asdict(self)


def _build_torchvision(name: str, *, pretrained: bool = False, **arguments: Any) -> Any:
    """Return a model of torchvision; with published weights, another number of classes starts anew."""
    from torchvision.models import get_model_builder, get_model_weights

    builder = get_model_builder(name)
    if not pretrained:
        if "weights_backbone" in inspect.signature(builder).parameters:
            arguments.setdefault("weights_backbone", None)
        return builder(**arguments)
    classes = arguments.pop("num_classes", None)
    weights: Any = get_model_weights(name).DEFAULT
    model = builder(weights=weights, **arguments)
    published = len(weights.meta["categories"])
    if classes is None or classes == published:
        return model
    heads: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear) and module.out_features == published:
            heads[path] = nn.Linear(module.in_features, classes, module.bias is not None)
        elif isinstance(module, nn.Conv2d) and module.out_channels == published:
            size: Any = module.kernel_size
            heads[path] = nn.Conv2d(module.in_channels, classes, size, bias=module.bias is not None)
    replace_modules(model, heads)
    return model


def _builder(source: str) -> Callable[..., Any]:
    if source.startswith(("timm:", "torchvision:")):
        head, colon, name = source.partition(":")  # hf-hub:NAME has a colon too
    else:
        head, colon, name = source.rpartition(":")
    if source.endswith(".py") and Path(source).is_file():
        raise ModelError(
            f"{source} names a file alone.{_functions_in(Path(source))} Write {source}:FUNCTION."
        )
    if not colon or not name:
        raise ModelError(
            f"{source!r} names no model. Write timm:NAME, torchvision:NAME, FILE.py:FUNCTION or "
            "package.module:FUNCTION."
        )
    if head == "timm":
        import timm

        return partial(timm.create_model, _known(name, timm.list_models(), "timm"))
    if head == "torchvision":
        import torchvision

        known = torchvision.models.list_models()
        return partial(_build_torchvision, _known(name, known, "torchvision"))
    return load_function(source, ModelError)


def _known(name: str, names: list[str], package: str) -> str:
    if name.split(".")[0] in names or name.startswith("hf"):
        return name
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"Did you mean {', '.join(near)}?" if near else f"See {package}'s list of models."
    raise ModelError(f"{package} has no model {name!r}. {hint}")


def _functions_in(path: Path) -> str:
    """Return which public functions a file defines, for a message; its code is not run."""
    try:
        body = ast.parse(path.read_text("utf-8")).body
    except (SyntaxError, ValueError, OSError):
        return ""
    names = [n.name for n in body if isinstance(n, ast.FunctionDef) and n.name[0] != "_"]
    return f" It has: {', '.join(names[:8])}." if names else ""


def load_function(source: str, error_type: type[Exception]) -> Callable[..., Any]:
    """Return the function that ``FILE.py:FUNCTION`` or ``package.module:FUNCTION`` names.

    This runs the file's code, as its user asked. As for a script, the file's folder is put on
    ``sys.path``; relative imports (``from .blocks import Block``) find its neighbours too.

    Raises:
        error_type: the file or the function is missing, or importing it raises.
    """
    head, _, name = source.rpartition(":")
    try:
        if head.endswith(".py"):
            path = Path(head)
            if not path.is_file():
                raise error_type(f"there is no file {head}. Name an existing FILE.py:FUNCTION.")
            module = _import_file(path.resolve())
        else:
            if "" not in sys.path and os.getcwd() not in sys.path:
                sys.path.insert(0, os.getcwd())  # as `python -m` does
            module = importlib.import_module(head)
    except error_type:
        raise
    except ModuleNotFoundError as error:
        raise error_type(f"{head} cannot be imported: {one_line(error)}") from error
    except Exception as error:
        raise error_type(f"{head} fails when it is imported: {one_line(error)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        public = [
            n
            for n, v in vars(module).items()
            if inspect.isfunction(v) and n[0] != "_" and v.__module__ == module.__name__
        ]
        near = f" It has: {', '.join(public[:8])}." if public else ""
        close = difflib.get_close_matches(name, public, n=1)
        near = f" Did you mean {close[0]}?" if close else near
        raise error_type(f"{head} has no function {name!r}.{near}")
    return function  # type: ignore[no-any-return]


def _import_file(path: Path) -> Any:
    folder = str(path.parent)
    package = f"_refiner_user_{hashlib.sha256(folder.encode()).hexdigest()[:12]}"
    name = path.stem  # so that neighbours, and worker processes, import the same module
    if _is_taken(name, path):
        name = f"{package}.{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    if package not in sys.modules:
        sys.modules[package] = types.ModuleType(package)
        sys.modules[package].__path__ = [folder]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.__package__ = package
    sys.modules[name] = module
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_taken(name: str, path: Path) -> bool:
    """Return whether importing ``name`` gives something else than the file at ``path``."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__file__", None) != str(path)
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # no name of a module at all
        return True
    return found is not None and found.origin != str(path)


def _load_weights(model: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise ModelError(f"there is no file {path}. Name a .safetensors or .pt file of weights.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
            inner = (state[k] for k in ("state_dict", "model_state_dict", "model") if k in state)
            state = next(inner, state)
        if all(key.startswith("module.") for key in state):  # of DataParallel
            state = {key.removeprefix("module."): value for key, value in state.items()}
        model.load_state_dict(state)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} is no file of weights alone. Save them with torch.save(model.state_dict(), FILE)."
        ) from error
    except Exception as error:
        raise ModelError(
            f"the weights of {path} cannot be loaded: {one_line(error, 200)}. Name a file of weights "
            "of this model as it comes (not rewritten), with this number of classes."
        ) from error


def input_channels(model: nn.Module) -> int:
    """Return the input channels of the model's first conv, or 3 if it has none."""
    convs = (module for module in model.modules() if isinstance(module, CONV_TYPES))
    return next((conv.in_channels for conv in convs), 3)


def default_input_size(model: nn.Module) -> tuple[int, int, int]:
    """Return the (channels, height, width) that timm notes on its models, else C x 224 x 224."""
    config = getattr(model, "default_cfg", None) or {}
    size = config.get("input_size") if isinstance(config, Mapping) else None
    channels = input_channels(model)
    return (channels, *size[1:]) if size and len(size) == 3 else (channels, 224, 224)
