"""What ``refine MODEL`` was given, and the settings that follow from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, TypeVar

from refiner.core.errors import ConfigError, RefinerError, RunError, one_line
from refiner.core.models import DRAWN, is_trained
from refiner.core.records import checked_record
from refiner.distill.distillation import DistillConfig
from refiner.distill.refit import RefitConfig
from refiner.runs.run_folder import RunFolder
from refiner.runs.settings import Settings, default_search
from refiner.search.search import SearchConfig
from refiner.training.devices import Devices
from refiner.training.loop import TrainConfig

from .declared import Given, values_of
from .options import ModelAndData, readable_anywhere
from .paths import absolute_pairs

RUN_RECORDS = (ModelAndData, Settings, SearchConfig, RefitConfig, TrainConfig)
"""The records that declare the options of ``refine MODEL``."""


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

    def checked(self) -> None:
        """Raise unless every option holds what it may hold."""
        raise NotImplementedError

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

    def trusting(self, trust_weights: bool) -> Self:
        """Return the request with what the command line trusts now."""
        return replace(self, given={**self.given, "trust_weights": trust_weights})

    def logging_to(self, log: Sequence[str]) -> Self:
        """Return the request with the trackers that the command line names now."""
        return replace(self, given={**self.given, "log": list(log)})

    @property
    def log(self) -> Sequence[str]:
        """Names of the trackers."""
        return [str(name) for name in self.given.get("log", ())]

    @property
    def force(self) -> bool:
        """Whether to go on where the first look would stop."""
        return bool(self.given.get("force"))

    @property
    def sources(self) -> dict[str, object]:
        """What may be the user's own code, by the option that names it."""
        named = {"": "model", "--data": "data", "--test-data": "test_data", "--task": "task"}
        return {option: self.given[name] for option, name in named.items() if name in self.given}

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
        trained = given.get("pretrained") or given.get("weights") or is_trained(given["model"])
        return bool(trained) and not self._warms_up

    @property
    def _warms_up(self) -> bool:
        return self.given.get("warmup_epochs") is not None

    def settings(self) -> Settings:
        """Return the settings of the run; they check their ranges."""
        given, distilled = self.given, self.distilled
        train = _training(TrainConfig.fine_tuning() if distilled else TrainConfig(), given)
        named = values_of(Settings, given)
        strategy, budget = named.get("strategy", "auto"), bool(named.get("budget"))
        search = replace(
            default_search(strategy, trained=distilled, budget=budget),
            **values_of(SearchConfig, given),
            weights=replace(train, epochs=0, teacher_weight=0.0, ema=0.0),
        )
        return Settings(
            **named,
            distill=DistillConfig() if distilled else None,
            refit=RefitConfig(**values_of(RefitConfig, given)),
            search=search,
            train=train,
        )

    def checked(self) -> None:
        """Raise unless every option holds what it may hold, as those of a folder may not.

        Raises:
            RefinerError: a value out of its range.
            TypeError: a value of another type.
        """
        checked_record(self.source)
        checked_record(self.settings())

    def check(self) -> None:
        """Raise a ConfigError for options that do not go together."""
        if self.given.get("distill") and self._warms_up:
            raise ConfigError(
                "--warmup-epochs trains the weights that --distill keeps. Leave one of them out."
            )
        source = self.source
        source.check()
        if source.verify and not self.trains:
            raise ConfigError("--verify measures trained networks. Give --epochs 1 or more.")
        if self.distilled and source.spec().weights_from() == DRAWN:
            raise ConfigError(
                f"--distill starts from trained weights, and {source.model} has none here. Give "
                "--pretrained or --weights FILE."
            )
        if self.given.get("unlabelled") and not self.distilled:
            raise ConfigError(
                "--unlabelled follows the outputs of a trained model. Give --pretrained or "
                "--weights FILE."
            )
        self.settings()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest(Request):
    """What ``refine train`` was given."""

    def config(self) -> TrainConfig:
        """Return the settings of the training; they check their ranges."""
        followed = self.given.get("teacher") is not None
        weight = TrainConfig.fine_tuning().teacher_weight if followed else 0.0
        return _training(TrainConfig(epochs=35, teacher_weight=weight), self.given)

    def checked(self) -> None:
        """Raise as :meth:`RunRequest.checked` does."""
        checked_record(self.original)
        checked_record(self.config())
        for name in ("arch", "teacher", "device", "precision"):
            if not isinstance(self.given.get(name), str | None):
                raise TypeError(f"{name} is {self.given[name]!r:.60}")

    @property
    def original(self) -> ModelAndData:
        """The original, which may be the teacher; ``--weights`` are the trained network's."""
        teacher = self.given.get("teacher")
        pretrained = self.source.pretrained or teacher == PRETRAINED
        return replace(
            self.source,
            weights=None if teacher == PRETRAINED else teacher,
            pretrained=pretrained,
            prepared_by=tuple(str(self.given[n]) for n in ("weights", "arch") if n in self.given),
        )


R = TypeVar("R", bound=Request)

PRETRAINED = "pretrained"
"""Names published weights where a weight file could stand."""


def _training(start: TrainConfig, given: Mapping[str, object]) -> TrainConfig:
    """Return a training with what the user gave; lr_min never exceeds lr_max.

    Raises:
        ConfigError: labels are to have a share of the loss, and not to be used.
    """
    values = values_of(TrainConfig, given)
    if given.get("unlabelled"):
        if "teacher_weight" in values:
            raise ConfigError("--unlabelled means --teacher-weight 1. Leave one of them out.")
        values["teacher_weight"] = 1.0
    lr = values.get("lr_max", start.lr_max)
    return replace(start, **{**values, "lr_min": min(start.lr_min, lr)})


def kept_request(kind: type[R], folder: Path) -> R:
    """Return the request that a run's folder keeps; see :func:`request_from`."""
    provenance = RunFolder.open(folder).config().get("provenance")
    command = provenance.get("command") if isinstance(provenance, dict) else None
    return request_from(kind, command, folder)


def request_from(kind: type[R], kept: object, folder: Path) -> R:
    """Return the request that a command began with.

    Args:
        kind: of the command.
        kept: what its folder keeps of it.
        folder: of the run.

    Raises:
        RunError: it holds no run of that command, or a damaged one.
    """
    command = "train" if kind is TrainRequest else "run"
    if not isinstance(kept, dict) or "model" not in kept or kept.get("name") != command:
        raise RunError(
            f"{folder} holds no run that this command began, so it cannot be resumed. A run made "
            "in Python goes on with resume=True there."
        )
    given = {name: value for name, value in kept.items() if name not in ("name", *_NEVER_KEPT)}
    request = kind(given=given)
    try:
        request.checked()
    except RefinerError as error:
        raise RunError(f"{folder} holds a setting that does not work: {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"{folder} holds a damaged config.json: {one_line(error, 150)}. Begin a new run."
        ) from error
    return request


_NEVER_KEPT = ("trust", "trust_weights", "log")
"""Options that a folder never holds: it asks neither to be trusted nor to be logged."""


def kept_form(request: Request) -> Given:
    """Return what a run's folder keeps of a request."""
    name = "train" if isinstance(request, TrainRequest) else "run"
    given = {key: value for key, value in request.given.items() if key not in _NEVER_KEPT}
    return {"name": name, **given}
