"""The model, the data and the task of a command: what its options name, loaded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from torch import nn

from refiner.core import transformers_models, ultralytics_models
from refiner.core.class_names import check_class_names
from refiner.core.errors import ConfigError, one_line
from refiner.core.lightning_modules import SOURCE as LIGHTNING
from refiner.core.lightning_modules import has_own_steps, is_lightning
from refiner.core.models import ModelSpec, input_channels
from refiner.core.options import option
from refiner.core.torchvision_detectors import detector_in
from refiner.core.transformers_models import SOURCE as TRANSFORMERS
from refiner.core.transformers_models import task_of
from refiner.core.ultralytics_models import SOURCE as ULTRALYTICS
from refiner.core.ultralytics_models import classifies, hyperparameters, is_checkpoint, is_yaml
from refiner.core.user_code import load_function
from refiner.data.coco_data import SOURCE as COCO
from refiner.data.datasets import load_data
from refiner.data.lightning_data import data_of, has_loaders
from refiner.data.loaders import Data, example_of, first_batch
from refiner.data.normalisation import Normalisation
from refiner.data.unseen import with_test
from refiner.faces.arcface import EMBEDDING_SIZE, arcface_for
from refiner.faces.pairs import find_pairs, pair_tests
from refiner.training.lightning_task import lightning_task
from refiner.training.task import TASKS, Classification, Task, checked_task, make_task
from refiner.training.yolo_heads import maps_of
from refiner.training.yolo_task import YoloClassification, YoloDetection

from .declared import Given
from .paths import absolute, absolute_pairs, free_folder, model_arguments, weights_file
from .preparing import loading, preparing_notes

Tests: TypeAlias = dict[str, Callable[[nn.Module], float]]
_ARCFACE, _ULTRALYTICS, _DETECTION = "arcface", "ultralytics", "detection"
_DEFAULT_TASK, _DEFAULT_DATA = "classification", "digits"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAndData:
    """The model and the data of a command that trains."""

    model: str
    model_arg: tuple[str, ...] = option(
        (), "Argument of the model's builder. Can be repeated.", panel="Model", metavar="KEY=VALUE"
    )
    pretrained: bool = option(False, "Start from the published weights.", panel="Model")
    weights: str | None = option(
        None,
        "Start from the weights in a .safetensors, .pt or .ckpt file, or in a run's folder.",
        panel="Model",
        alias="--ckpt",
        metavar="FILE",
    )
    trust_weights: bool = option(
        False,
        "Also read files of weights that hold Python objects. Such a file can run code when it is "
        "read.",
        panel="Model",
    )
    data: str = option(
        _DEFAULT_DATA,
        "digits, cifar10, cifar100, folder:PATH (PATH/train/CLASS/*.jpg), faces:PATH, "
        "torchvision:NAME, hf:NAME (Hugging Face), coco:PATH (boxes), FILE.yaml (ultralytics), "
        "lightning:FILE.py:CLASS (a DataModule), or FILE.py:FUNCTION, which returns two or three "
        "loaders.",
        panel="Data",
        metavar="DATA",
    )
    test_data: str | None = option(
        None,
        "Test data, in the same forms; no choice is made on it. By default the test part of "
        "--data, if it has one.",
        panel="Data",
        metavar="DATA",
    )
    data_root: str = option(
        "data", "Folder of torchvision's data sets.", panel="Data", metavar="DIR"
    )
    limit: int | None = option(
        None,
        "Use about N training images, and as many to validate and to test, or 1000 if N is less.",
        panel="Data",
        metavar="N",
    )
    image_size: int | None = option(
        None,
        "Resize images to N x N pixels. By default photographs take the size of the pretrained "
        "weights.",
        panel="Data",
        metavar="N",
    )
    norm: str | None = option(
        None,
        "How pixels are normalised: imagenet, half (-1 to 1), none (0 to 1), raw (0 to 255), data "
        "(by the training images) or model (as timm or torchvision says for MODEL). By default as "
        "for the training of the weights, if that is known, else data.",
        panel="Data",
        metavar="NAME",
    )
    mean: tuple[str, ...] | None = option(
        None,
        "Mean of each channel on the scale 0 to 1, such as 0.485,0.456,0.406; or one number for "
        "all channels.",
        panel="Data",
        metavar="NUMBERS",
        commas=True,
    )
    std: tuple[str, ...] | None = option(
        None,
        "Standard deviation of each channel, in the same forms; needs --mean.",
        panel="Data",
        metavar="NUMBERS",
        commas=True,
    )
    batch_size: int = option(64, "Images per training batch.", panel="Data", metavar="N")
    task: str = option(
        _DEFAULT_TASK,
        "classification, segmentation, regression, detection, own_loss, arcface, ultralytics, or "
        "FILE.py:FUNCTION. Models of ultralytics and transformers, torchvision's detectors and "
        "LightningModules bring their own.",
        panel="Data",
        metavar="TASK",
    )
    verify: tuple[str, ...] = option(
        (),
        "Pairs of faces to verify on: an LFW list (FILE or FILE:FOLDER) or a .bin pack. "
        "Can be repeated. With arcface, pairs beside the images are found.",
        panel="Data",
        metavar="FILE",
    )
    seed: int = 0
    prepared_by: tuple[str, ...] = ()
    """Further places that may be the folder of a run whose preprocessing holds."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the model's builder that a run keeps; ``model_arg`` wins."""

    @property
    def _places(self) -> list[str | None]:
        return [self.weights, *self.prepared_by]

    def check(self) -> None:
        """Raise a ConfigError for a normalisation that is out of its range."""
        Normalisation(norm=self.norm, mean=self.mean, std=self.std)

    def pairs_beside(self) -> list[str]:
        """Return the files of pairs beside the faces that ArcFace is trained on."""
        if self.task != _ARCFACE or not self.data.startswith("faces:"):
            return []
        return list(map(str, find_pairs(Path(self.data.removeprefix("faces:")))))

    def notes(self, data: Data) -> list[str]:
        """Return what a user should know of the data, such as missing pairs to verify on."""
        faces = self.data.removeprefix("faces:")
        notes = data.note.splitlines()
        notes += preparing_notes(data, self.spec(), self._places, self.norm)
        missing = self.task == _ARCFACE and faces != self.data and not find_pairs(Path(faces))
        if missing and not self.verify:
            notes.append(
                f"{faces} holds no pairs.txt and no *.bin, so nothing is verified. Add one, or "
                "give --verify FILE."
            )
        return notes

    def spec(self) -> ModelSpec:
        """Return how the model is made, without what the data decides."""
        return ModelSpec(
            source=self.model,
            arguments={**self.arguments, **model_arguments(self.model_arg)},
            pretrained=self.pretrained,
            weights=self.weights,
            seed=self.seed,
            trust_weights=self.trust_weights,
        ).with_stored_arguments()

    def load(
        self, first: Callable[[], object] = lambda: None
    ) -> tuple[ModelSpec, nn.Module, Data, Task, Tests]:
        """Return the model's spec, the model, data that fits its channels, the task and its tests.

        The data decides how many classes the model has, and the model how many channels the data
        has. With ArcFace the model's output is an embedding, and the
        head has the size of the embedding.

        Args:
            first: is called once the model's file has run, before data is read.
        """
        spec = self.spec()
        plain = replace(spec, pretrained=False, weights=None, classes=2)
        built = plain.build()
        named = self._task_for(built)
        task = None if named in (_ARCFACE, _ULTRALYTICS) else _task(named)
        if type(task) is Classification and self.model.startswith(ULTRALYTICS):
            task = YoloClassification()
        channels = input_channels(built)
        channels = 1 if channels == 1 else 3
        first()
        self._check_boxes(named)
        data = self._own_data(built) or load_data(
            self.data,
            batch_size=self.batch_size,
            channels=channels,
            image_size=self._trained_size(built) if self.image_size is None else self.image_size,
            root=self.data_root,
            limit=self.limit,
            seed=self.seed,
            norm=self.norm,
            mean=self.mean,
            std=self.std,
            masks=named == _ULTRALYTICS and maps_of(built).masks,
            **loading(spec, built, channels, self._places, self.norm),
        )
        if self.test_data is not None:
            data = with_test(
                data,
                self.test_data,
                root=self.data_root,
                batch_size=self.batch_size,
                limit=self.limit,
                seed=self.seed,
            )
        if named == _ARCFACE and not data.classes:
            raise ConfigError(
                f"{self.data} does not name its identities, as --task arcface needs. Use --data "
                "faces:PATH, or a task of your own."
            )
        if data.classes:
            outputs = EMBEDDING_SIZE if named == _ARCFACE else len(data.classes)
            spec = replace(spec, classes=outputs)
        model = spec.build()
        if data.classes and named == "classification":
            own = self._own_classes(model)
            if own is not None:
                check_class_names(own, data.classes, self.data)
        if named == _ULTRALYTICS:
            task = YoloDetection(model)
            task.check_classes(data.classes, self.data)
        elif named == _DEFAULT_TASK and has_own_steps(model):
            task = lightning_task(model, first_batch(data.train))
        if task is None:
            example = example_of(data.train)
            task = arcface_for(model, example, len(data.classes), seed=self.seed)
        return spec, model, data, task, self._tests(model, data)

    def _task_for(self, built: nn.Module) -> str:
        """Return the name of the task; detectors and models of some libraries bring their own."""
        default = self.task == _DEFAULT_TASK
        if default and self.model.startswith(TRANSFORMERS):
            return task_of(self.model)
        if default and self.model.startswith(ULTRALYTICS) and not classifies(built):
            return _ULTRALYTICS
        if default and detector_in(built) is not None and not is_lightning(built):
            return _DETECTION
        return self.task

    def _check_boxes(self, task: str) -> None:
        """Raise a ConfigError for data without boxes, where a task needs them."""
        if task == _ULTRALYTICS:
            fits, advice = is_yaml(self.data), "the YAML file of its data"
        else:
            fits, advice = self.data.startswith((COCO, LIGHTNING)), "coco:PATH"
        if task in (_ULTRALYTICS, _DETECTION) and not fits and ".py:" not in self.data:
            raise ConfigError(
                f"a detector is trained on boxes, and --data is {self.data}. Name {advice}, or "
                "FILE.py:FUNCTION."
            )

    def _own_classes(self, model: nn.Module) -> list[str] | None:
        """Return the classes that a trained classifier of a library names; None for others."""
        if self.model.startswith(TRANSFORMERS):
            return transformers_models.class_names(model)
        if is_checkpoint(self.model):
            return ultralytics_models.class_names(model)
        return None

    def _own_data(self, built: nn.Module) -> Data | None:
        """Return the loaders of a LightningModule, where it has some and no data is named."""
        if self.data != _DEFAULT_DATA or not is_lightning(built) or not has_loaders(built):
            return None
        if (self.limit, self.image_size, self.norm, self.mean) != (None,) * 4:
            raise ConfigError(
                f"{self.model} has loaders of its own, which decide on images. Leave --limit, "
                "--image-size, --norm and --mean out, or name --data."
            )
        return data_of(built, name=self.model, seed=self.seed)

    def _trained_size(self, built: nn.Module) -> int | None:
        """Return the size of images that a detector was trained on, where that is known."""
        if not is_yaml(self.data):
            return None
        size = hyperparameters(built).imgsz
        return size if type(size) is int and size > 0 else None

    def _tests(self, model: nn.Module, data: Data) -> Tests:
        """Return what verifies trained networks on pairs."""
        if not self.verify:
            return {}
        if data.mean is None or data.std is None:
            raise ConfigError(
                f"--verify does not know how {self.data} scales its pixels. Use --data faces:PATH "
                "or folder:PATH."
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

    def new_folder(self) -> Path:
        """Return a new folder, named after the model and the data."""
        name = self.model.rpartition(":")[2].replace("/", "-") or "model"
        data = self.data.partition(":")[0].removesuffix(".py")
        return free_folder(f"{name}-{Path(data).name}")


def readable_anywhere(given: Given) -> Given:
    """Return given options with absolute paths, so that a run can go on from any folder."""
    changed = dict(given)
    for name in ("model", "data", "test_data", "task"):
        if name in changed:
            changed[name] = absolute(changed[name])
    if "verify" in changed:
        changed["verify"] = list(map(absolute_pairs, changed["verify"]))
    if "data_root" in changed:
        changed["data_root"] = str(Path(changed["data_root"]).resolve())
    if "weights" in changed:
        changed["weights"] = weights_file(changed["weights"])
    return changed


def _task(name: str) -> Task:
    """Return a shipped task, or the one that a function of the user's returns."""
    if ":" not in name and name not in TASKS:
        raise ConfigError(
            f"unknown task {name!r}. Choose one of: {', '.join(TASKS)}, {_ARCFACE}, "
            f"{_ULTRALYTICS}; or write FILE.py:FUNCTION."
        )
    if ":" not in name:
        return make_task(name)
    function = load_function(name, ConfigError)
    try:
        task = function()
    except Exception as error:
        raise ConfigError(f"{name} raised {one_line(error)}") from error
    return checked_task(task)
