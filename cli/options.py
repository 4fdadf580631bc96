"""Options that several commands take, from text to values."""

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self, TypeAlias, TypeVar

from torch import nn

from refiner.core.errors import ConfigError, RunError, one_line
from refiner.core.models import ModelSpec, input_channels
from refiner.core.user_code import load_function
from refiner.data.datasets import load_data
from refiner.data.loaders import Data, example_of
from refiner.faces.arcface import EMBEDDING_SIZE, arcface_for
from refiner.faces.pairs import file_and_folder, find_pairs, pair_tests
from refiner.runs.run_folder import RunFolder
from refiner.training.loop import TrainConfig
from refiner.training.task import TASKS, Task, checked_task, make_task

Tests: TypeAlias = dict[str, Callable[[nn.Module], float]]
_ARCFACE = "arcface"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAndData:
    """Options of every command that trains, in the form that config.json keeps."""

    model: str
    data: str
    task: str
    verify: tuple[str, ...]
    lr: float
    schedule: str
    batch_size: int
    limit: int | None
    image_size: int | None
    data_root: str
    model_arg: tuple[str, ...]
    pretrained: bool
    weights: str | None
    seed: int
    device: str
    precision: str

    def absolute(self) -> Self:
        """Return the options as they can be read from any folder, when the run goes on.

        With ArcFace the pairs beside the faces are named then, unless others are.
        """
        weights = None if self.weights is None else weights_file(self.weights)
        return replace(
            self,
            model=absolute(self.model),
            data=absolute(self.data),
            task=absolute(self.task),
            verify=tuple(map(_absolute_pairs, self.verify or self.pairs_beside())),
            data_root=str(Path(self.data_root).resolve()),
            weights=weights,
        )

    def pairs_beside(self) -> list[str]:
        """Return the files of pairs beside the faces that ArcFace is trained on."""
        if self.task != _ARCFACE or not self.data.startswith("faces:"):
            return []
        return list(map(str, find_pairs(Path(self.data.removeprefix("faces:")))))

    def notes(self, data: Data) -> list[str]:
        """Return what a user should know of the data, and that nothing is verified where pairs lack."""
        faces = self.data.removeprefix("faces:")
        notes = [data.note] if data.note else []
        lacking = self.task == _ARCFACE and faces != self.data and not find_pairs(Path(faces))
        if lacking and not self.verify:
            notes.append(
                f"{faces} holds no pairs.txt and no *.bin, so nothing is verified. Add one, or give "
                "--verify FILE."
            )
        return notes

    def training(self, epochs: int) -> TrainConfig:
        """Return the settings of a training; they check their ranges."""
        lr_min = min(TrainConfig().lr_min, self.lr)
        return TrainConfig(epochs=epochs, lr_max=self.lr, lr_min=lr_min, schedule=self.schedule)

    def spec(self) -> ModelSpec:
        """Return how the model is made, but for what the data decides."""
        return ModelSpec(
            source=self.model,
            arguments=model_arguments(self.model_arg),
            pretrained=self.pretrained,
            weights=self.weights,
            seed=self.seed,
        )

    def load(
        self, first: Callable[[], Any] = lambda: None
    ) -> tuple[ModelSpec, nn.Module, Data, Task, Tests]:
        """Return the model's spec, the model, data that fits its channels, the task and its tests.

        The data decides how many classes the model has, and the model how many channels the data.
        With ArcFace the model's output is an embedding, and the head's size that of the embedding.

        Args:
            first: is called when the model's file has run, and before data is read.
        """
        task = None if self.task == _ARCFACE else _task(self.task)
        spec = self.spec()
        plain = replace(spec, pretrained=False, weights=None, classes=2)
        channels = input_channels(plain.build())
        first()
        data = load_data(
            self.data,
            batch_size=self.batch_size,
            channels=channels,
            image_size=self.image_size,
            root=self.data_root,
            limit=self.limit,
            seed=self.seed,
        )
        if task is None and not data.classes:
            raise ConfigError(
                f"{self.data} does not name its identities, as --task arcface needs. Use --data "
                "faces:PATH, or a task of your own."
            )
        if data.classes:
            outputs = EMBEDDING_SIZE if task is None else len(data.classes)
            spec = replace(spec, classes=outputs)
        model = spec.build()
        if task is None:
            example = example_of(data.train)
            task = arcface_for(model, example, len(data.classes), seed=self.seed)
        return spec, model, data, task, self._tests(model, data)

    def _tests(self, model: nn.Module, data: Data) -> Tests:
        """Return what verifies trained networks on pairs."""
        if not self.verify:
            return {}
        if data.mean is None or data.std is None:
            raise ConfigError(
                f"--verify cannot tell how {self.data} scales its pixels. Use --data faces:PATH or "
                "folder:PATH."
            )
        _, channels, height, width = example_of(data.train).shape
        return pair_tests(
            model,
            self.verify,
            channels=channels,
            size=(height, width),
            mean=data.mean,
            std=data.std,
        )

    def free_folder(self) -> Path:
        """Return a new folder, named after the model and the data."""
        name = self.model.rpartition(":")[2].replace("/", "-") or "model"
        data = self.data.partition(":")[0].removesuffix(".py")
        return free_folder(f"{name}-{Path(data).name}")


def free_folder(name: str) -> Path:
    """Return the first of runs/NAME, runs/NAME-2, ... that is not there."""
    base, number = Path("runs") / name, 1
    while (path := base if number == 1 else base.with_name(f"{base.name}-{number}")).exists():
        number += 1
    return path


Options = TypeVar("Options", bound=ModelAndData)


def kept_options(kind: type[Options], folder: Path, model: str | None) -> Options:
    """Return the options that a run's folder keeps; see :func:`options_from`."""
    kept = (RunFolder.open(folder).config().get("provenance") or {}).get("command")
    return options_from(kind, kept, folder, model)


def options_from(kind: type[Options], kept: Any, folder: Path, model: str | None) -> Options:
    """Return the options that a command began with.

    Args:
        kind: of the command.
        kept: what its folder keeps of them.
        folder: of the run.
        model: that the user named again, if so.

    Raises:
        RunError: it holds no run of that command, or one of another model.
    """
    if not isinstance(kept, dict) or set(kept) != {f.name for f in fields(kind)}:
        raise RunError(
            f"{folder} holds no run that this command of this version began, so it cannot go on. A run "
            "made in Python goes on with resume=True there."
        )
    lists = {name: tuple(value) for name, value in kept.items() if isinstance(value, list)}
    options = kind(**{**kept, **lists})
    if model is not None and absolute(model) != options.model:
        raise RunError(f"{folder} holds a run of {options.model}, not of {model}. Leave MODEL out.")
    return options


def _task(name: str) -> Task:
    """Return a shipped task, or the one that a function of the user's returns."""
    if ":" not in name and name not in TASKS:
        raise ConfigError(
            f"unknown task {name!r}. Choose one of: {', '.join(TASKS)}, {_ARCFACE}; or write "
            "FILE.py:FUNCTION."
        )
    if ":" not in name:
        return make_task(name)
    function = load_function(name, ConfigError)
    try:
        task = function()
    except Exception as error:
        raise ConfigError(f"{name} raised {one_line(error)}") from error
    return checked_task(task)


def absolute(source: str) -> str:
    """Return ``FILE.py:FUNCTION``, ``folder:PATH`` or ``faces:PATH`` with the path absolute, else as it is."""
    head, colon, tail = source.rpartition(":")
    if head.endswith(".py"):
        return f"{Path(head).resolve()}{colon}{tail}"
    for form in ("folder:", "faces:"):
        if source.startswith(form):
            return f"{form}{Path(source.removeprefix(form)).resolve()}"
    return source


def weights_file(source: str) -> str:
    """Return a file of weights, with its path absolute; of a run's folder that of its refined model."""
    path = Path(source).resolve()
    return str(path / "refined.safetensors" if path.is_dir() else path)


def _absolute_pairs(source: str) -> str:
    """Return ``FILE`` or ``FILE:FOLDER`` of pairs with both paths absolute."""
    return ":".join(str(path.resolve()) for path in file_and_folder(source) if path is not None)


def check_new_file(path: Path) -> None:
    """Raise a ConfigError unless a file can be made at ``path`` that is not there yet."""
    if path.exists():
        raise ConfigError(f"{path} is there already. Name another file.")
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent}. Make it, or name another file.")


def candidate_list(text: str | None) -> tuple[str, ...] | None:
    """Return the names in ``a,b,c``, or None for the default."""
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ConfigError(
            "--candidates is empty. Name operations, such as depthwise3x3,maxpool3x3."
        )
    return names


def model_arguments(pairs: Sequence[str]) -> dict[str, Any]:
    """Return ``key=value`` texts as a dict; a value is a Python literal, else text."""
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise ConfigError(f"--model-arg {pair!r} is not KEY=VALUE, such as drop_rate=0.1.")
        try:
            arguments[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[key] = value
    return arguments
