"""What ``refine MODEL`` was given, and the settings that follow from it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self, TypeVar

from refiner.core.errors import ConfigError, RunError
from refiner.core.models import DRAWN
from refiner.distill.distillation import DistillConfig
from refiner.runs.run_folder import RunFolder
from refiner.runs.settings import DISTILLED_SEARCH, Settings
from refiner.search.search import SearchConfig
from refiner.training.devices import Devices
from refiner.training.loop import TrainConfig

from .declared import Given, values_of
from .options import ModelAndData, readable_anywhere
from .paths import absolute, absolute_pairs

FINE_TUNING = TrainConfig(lr_max=0.01, teacher_weight=0.5)
"""The defaults where a trained model is refined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of a command that the user gave; all others keep the defaults of this version."""

    given: Given

    @classmethod
    def of(cls, model: str | None, given: Mapping[str, object]) -> Self:
        """Return the request for a model.

        Raises:
            ConfigError: no model is named.
        """
        if model is None:
            raise ConfigError("no MODEL is named. Name one, such as timm:resnet18.")
        return cls(given={"model": model, **given})

    @property
    def source(self) -> ModelAndData:
        """The model and the data."""
        values = values_of(ModelAndData, self.given)
        return ModelAndData(
            **{**values, "model": self.given["model"], "seed": self.given.get("seed", 0)}
        )

    def devices(self) -> Devices:
        """Return where the command computes."""
        return Devices.choose(self.given.get("device", "auto"), self.given.get("precision", "no"))

    def readable_anywhere(self) -> Self:
        """Return the request with absolute paths, and with the pairs of faces beside the data."""
        given = readable_anywhere(self.given)
        beside = self.source.pairs_beside() if self.trains else []
        if beside and "verify" not in given:
            given["verify"] = list(map(absolute_pairs, beside))
        return replace(self, given=given)

    @property
    def trains(self) -> bool:
        """Whether a network will be trained on its own."""
        return bool(self.given.get("epochs", 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest(Request):
    """What ``refine MODEL`` was given."""

    @property
    def distilled(self) -> bool:
        """Whether the model is refined from its trained weights."""
        given = self.given
        if given.get("distill") is not None:
            return bool(given["distill"])
        return bool(given.get("pretrained") or given.get("weights")) and not self._warms_up

    @property
    def _warms_up(self) -> bool:
        return self.given.get("warmup_epochs") is not None

    def settings(self) -> Settings:
        """Return the settings of the run; they check their ranges."""
        given, distilled = self.given, self.distilled
        train = _training(FINE_TUNING if distilled else TrainConfig(), given)
        search = replace(
            DISTILLED_SEARCH if distilled else SearchConfig(),
            **values_of(SearchConfig, given),
            weights=replace(train, epochs=0, teacher_weight=0.0),
        )
        return Settings(
            **values_of(Settings, given),
            distill=DistillConfig() if distilled else None,
            search=search,
            train=train,
        )

    def check(self) -> None:
        """Raise a ConfigError for options that do not go together."""
        if self.given.get("distill") and self._warms_up:
            raise ConfigError(
                "--warmup-epochs trains the weights that --distill keeps. Leave one of them out."
            )
        source = self.source
        if source.verify and not self.trains:
            raise ConfigError("--verify measures trained networks. Give --epochs 1 or more.")
        if self.distilled and source.spec().weights_from() == DRAWN:
            raise ConfigError(
                f"--distill starts from trained weights, and {source.model} has none here. Give "
                "--pretrained or --weights FILE."
            )
        self.settings()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest(Request):
    """What ``refine train`` was given."""

    def config(self) -> TrainConfig:
        """Return the settings of the training; they check their ranges."""
        teacher = self.given.get("teacher")
        start = replace(TrainConfig(), epochs=35, teacher_weight=0.0 if teacher is None else 0.5)
        return _training(start, self.given)

    @property
    def original(self) -> ModelAndData:
        """The original, which may be the teacher; ``--weights`` are the trained network's."""
        teacher = self.given.get("teacher")
        pretrained = self.source.pretrained or teacher == PRETRAINED
        return replace(
            self.source, weights=None if teacher == PRETRAINED else teacher, pretrained=pretrained
        )


R = TypeVar("R", bound=Request)

PRETRAINED = "pretrained"
"""Names published weights where a weight file could stand."""


def _training(start: TrainConfig, given: Mapping[str, object]) -> TrainConfig:
    """Return a training with what the user gave; lr_min never exceeds lr_max."""
    values = values_of(TrainConfig, given)
    lr = values.get("lr_max", start.lr_max)
    return replace(start, **{**values, "lr_min": min(start.lr_min, lr)})


def kept_request(kind: type[R], folder: Path, model: str | None) -> R:
    """Return the request that a run's folder keeps; see :func:`request_from`."""
    provenance = RunFolder.open(folder).config().get("provenance") or {}
    return request_from(kind, provenance.get("command"), folder, model)


def request_from(kind: type[R], kept: object, folder: Path, model: str | None) -> R:
    """Return the request that a command began with.

    Args:
        kind: of the command.
        kept: what its folder keeps of it.
        folder: of the run.
        model: that the user named again, if so.

    Raises:
        RunError: it holds no run of that command, or one of another model.
    """
    command = "train" if kind is TrainRequest else "run"
    if not isinstance(kept, dict) or "model" not in kept or kept.get("name") != command:
        raise RunError(
            f"{folder} holds no run that this command began, so it cannot be resumed. A run made "
            "in Python goes on with resume=True there."
        )
    given = {name: value for name, value in kept.items() if name != "name"}
    if model is not None and absolute(model) != given["model"]:
        raise RunError(
            f"{folder} holds a run of {given['model']}, not of {model}. Leave MODEL out."
        )
    return kind(given=given)


def kept_form(request: Request) -> Given:
    """Return what a run's folder keeps of a request."""
    name = "train" if isinstance(request, TrainRequest) else "run"
    return {"name": name, **asdict(request)["given"]}
