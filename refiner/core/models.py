"""Build models by name.

Names are ``timm:NAME``, ``torchvision:NAME``, ``ultralytics:FILE``, ``transformers:FOLDER``,
``lightning:FILE.py:CLASS``, ``FILE.py:FUNCTION`` and ``package:FUNCTION``.
"""

import difflib
import inspect
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from refiner.core.errors import ModelError, one_line
from refiner.core.layers import CONV_TYPES
from refiner.core.lightning_modules import SOURCE as LIGHTNING
from refiner.core.lightning_modules import lightning_class, stored_arguments
from refiner.core.randomness import seeded
from refiner.core.records import checked_record
from refiner.core.torchvision_models import build_torchvision
from refiner.core.transformers_models import SOURCE as TRANSFORMERS
from refiner.core.transformers_models import build_transformers, has_weights
from refiner.core.types import ARCHITECTURE_KEY
from refiner.core.ultralytics_models import SOURCE as ULTRALYTICS
from refiner.core.ultralytics_models import build_ultralytics, is_checkpoint
from refiner.core.user_code import check_allowed, functions_in, load_function, only_named
from refiner.core.weight_files import read_weights
from refiner.core.weights import load_weights

_LIBRARIES = ("timm:", "torchvision:")
_HUB = ("hf-hub:", "hf_hub:")
_SHORT = re.compile(r"[\w.+-]{0,64}")
_FILE_ARGUMENTS = ("pretrained", "checkpoint", "cache_dir", "file", "url", "hf_", "hub")
"""Beginnings of the names of arguments that make a library read files or the network."""
MOST_CLASSES = 10**6
"""Classes that a document may ask for."""
DRAWN = "drawn from the seed"
"""Weights of a model that nothing has trained yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """How to make a model, in a form that a run's folder can keep."""

    source: str
    """``timm:NAME``, ``torchvision:NAME``, ``ultralytics:FILE``, ``transformers:FOLDER``,
    ``lightning:FILE.py:CLASS``, ``FILE.py:FUNCTION`` or ``package.module:FUNCTION``."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the builder."""
    pretrained: bool = False
    weights: str | None = None
    """A file of weights: safetensors, or a state dict that torch saved."""
    classes: int | None = None
    """Number of classes, handed to a builder that takes ``num_classes`` unless named already."""
    seed: int = 0
    """Fixes the initial weights."""
    trust_weights: bool = False
    """Whether to unpickle objects in the file of weights, which can run code. It is never kept."""

    def build(self) -> nn.Module:
        """Return the model, on the CPU, in train mode.

        Raises:
            ModelError: unknown name, missing file or function, a builder that raises or returns no
                module, or weights that do not fit.
        """
        self._check_allowed()
        builder = _builder(self.source)
        arguments = dict(self.arguments)
        takes = self._takes(builder)
        if self.classes is not None and "num_classes" in takes:
            arguments.setdefault("num_classes", self.classes)
        if self.pretrained:
            arguments.update(self._pretrained(takes))
        if self.source.startswith(ULTRALYTICS):
            arguments["trust"] = self.trust_weights
        with seeded(self.seed):
            try:
                model = builder(**arguments)
            except ModelError:
                raise
            except Exception as error:
                raise ModelError(
                    f"{self.source} cannot be built: {one_line(error)}.{self._advice(error, takes)}"
                ) from error
        if not isinstance(model, nn.Module):
            raise ModelError(
                f"{self.source} returned {type(model).__name__}, not a torch.nn.Module. "
                "Return the model from it."
            )
        if self.weights is not None:
            load_weights(model, self.weights, trust=self.trust_weights)
        return model.train()

    def with_stored_arguments(self) -> "ModelSpec":
        """Return the spec with the hyperparameters that a LightningModule's checkpoint holds.

        Arguments that are named already win. So a run's folder holds all that builds the module.

        Raises:
            ModelError: the checkpoint or the class is missing or wrong.
        """
        if not self.source.startswith(LIGHTNING) or self.weights is None:
            return self
        content = read_weights(Path(self.weights), trust=self.trust_weights)
        if not isinstance(content, Mapping):  # load_weights says what it is
            return self
        if ARCHITECTURE_KEY in content:
            raise ModelError(
                f"{self.weights} holds a refined module. Return refiner.load_lightning(FILE, "
                "CLASS) from a function, and name that: FILE.py:FUNCTION."
            )
        stored = stored_arguments(lightning_class(self.source), content)
        return replace(self, arguments={**stored, **self.arguments})

    def weights_from(self) -> str:
        """Return where the weights come from, for people; ``DRAWN`` where nothing gave any."""
        if self.weights is not None:
            return self.weights
        if self.pretrained:
            return "pretrained"
        if is_trained(self.source):
            return self.source.partition(":")[2]
        shipped = self.source.startswith((*_LIBRARIES, ULTRALYTICS, TRANSFORMERS))
        given = {"pretrained", "weights", "checkpoint_path"} & set(self.arguments)
        return DRAWN if shipped and not given else "those that its builder gave it"

    def _advice(self, error: Exception, takes: set[str]) -> str:
        if isinstance(error, TypeError) and "unexpected keyword" in str(error):
            named = ", ".join(sorted(takes)) or "no argument"
            return "" if self.source.startswith(_LIBRARIES) else f" It takes {named}."
        if isinstance(error, TypeError) and self.source.startswith(LIGHTNING):
            return " Give it --model-arg NAME=VALUE, or name a function that returns the module."
        if isinstance(error, TypeError):
            return " --model-arg NAME=VALUE gives it an argument."
        return " Without a network, give --weights FILE." if self.pretrained else ""

    def _takes(self, builder: Callable[..., Any]) -> set[str]:
        if self.source.startswith(_LIBRARIES):
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
        """Return the fields as JSON types, without what a folder must not decide."""
        return {name: value for name, value in asdict(self).items() if name != "trust_weights"}

    @classmethod
    def from_json(
        cls,
        document: Any,
        folder: str | os.PathLike[str] = "this file",
        *,
        named: Collection[str] = (),
        trust: bool = False,
    ) -> "ModelSpec":
        """Return the spec that :meth:`to_json` gave, if it is allowed to be built.

        A document of a folder is data. Models of timm and torchvision are built from it; code of
        anyone's own only where its user names that too, or trusts the folder.

        Args:
            document: from an architecture.json, say.
            folder: where it lies, for messages.
            named: sources that the user named.
            trust: whether to build whatever it names.

        Raises:
            ModelError: the document is none.
            RunError: it names code that may not run.
        """
        try:
            spec: ModelSpec = cls(**{**document, "trust_weights": False})
            checked_record(spec)
            if spec.classes is not None and not 0 < spec.classes <= MOST_CLASSES:
                raise ValueError(f"it has {spec.classes} classes")
        except (TypeError, ValueError) as error:
            raise ModelError(
                f"{folder} says wrongly how its model is made: {one_line(error, 150)}. Begin a "
                "new run."
            ) from error
        with only_named(folder, named, trust=trust):
            spec._check_allowed()
        return spec

    def _check_allowed(self) -> None:
        """Raise a RunError where only a folder names the code, file or download of this model."""
        library, _, name = self.source.partition(":")
        if f"{library}:" not in _LIBRARIES or name.startswith(_HUB):
            check_allowed(self.source)  # a repository of the hub is anyone's, too
        for key, value in self.arguments.items():
            if key.startswith(_FILE_ARGUMENTS) or not _is_short(value):
                check_allowed(f"{self.source} with {key}={value!r:.80}")


def is_trained(source: str) -> bool:
    """Return whether the name of a model is that of trained weights, too."""
    return is_checkpoint(source) or has_weights(source)


def _is_short(value: Any) -> bool:
    """Return whether an argument is a number or a short name, which can name no file."""
    if isinstance(value, list | tuple):
        return all(map(_is_short, value))
    named = isinstance(value, str) and _SHORT.fullmatch(value)
    return value is None or isinstance(value, bool | int | float) or bool(named)


def _builder(source: str) -> Callable[..., Any]:
    if source.startswith(_LIBRARIES):
        head, colon, name = source.partition(":")  # hf-hub:NAME has a colon too
    else:
        head, colon, name = source.rpartition(":")
    if source.endswith(".py") and Path(source).is_file():
        raise ModelError(
            f"{source} names a file alone.{functions_in(Path(source))} Write {source}:FUNCTION."
        )
    if not colon or not name:
        raise ModelError(
            f"{source!r} names no model. Write timm:NAME, torchvision:NAME, ultralytics:FILE, "
            "transformers:FOLDER, lightning:FILE.py:CLASS, FILE.py:FUNCTION or "
            "package.module:FUNCTION."
        )
    if source.startswith(ULTRALYTICS):
        return partial(build_ultralytics, source.removeprefix(ULTRALYTICS))
    if source.startswith(TRANSFORMERS):
        return partial(build_transformers, source.removeprefix(TRANSFORMERS))
    if source.startswith(LIGHTNING):
        return lightning_class(source)
    if head == "timm":
        import timm

        return partial(timm.create_model, _known(name, timm.list_models(), "timm"))
    if head == "torchvision":
        import torchvision

        known = torchvision.models.list_models()
        return partial(build_torchvision, _known(name, known, "torchvision"))
    builder = load_function(source, ModelError)
    if inspect.isclass(builder) and not issubclass(builder, nn.Module):
        raise ModelError(
            f"{source} is a class, and no torch.nn.Module. Name a function that returns the model, "
            "or the model's class."
        )
    return builder


def _known(name: str, names: list[str], package: str) -> str:
    if name.split(".")[0] in names or (package == "timm" and name.startswith(_HUB)):
        return name
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"Did you mean {', '.join(near)}?" if near else f"See {package}'s list of models."
    raise ModelError(f"{package} has no model {name!r}. {hint}")


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
