"""How long a search runs and how much it evaluates."""

from dataclasses import dataclass, field

from refiner.core.errors import ConfigError
from refiner.core.options import option
from refiner.training.loop import TrainConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """Settings of a search. The paper takes 150 epochs in all; so small a default suits a CPU.

    Raises:
        ConfigError: a value is out of range.
    """

    trials: int = option(
        750,
        "Number of architectures that the search evaluates.",
        panel="Search",
        metavar="N",
        shown_default="750; for a trained model 40 with milp or informed_controller, else 500",
    )
    """Architectures evaluated in all, spread evenly over the epochs of the search."""
    timeout: float | None = option(
        None,
        "Seconds after which the search evaluates no further architecture. Distillation, the "
        "random baseline and fine-tuning take their own time.",
        panel="Search",
        metavar="SECONDS",
    )
    """Checked between two updates of the strategy, so at least one update takes place. The warm-up
    does not count. None sets no limit."""
    epochs: int = option(
        15,
        "Epochs of the shared weights during the search.",
        panel="Paper",
        flag="--search-epochs",
        metavar="N",
        shown_default="15; for a trained model 4 with milp or informed_controller, else 10",
    )
    """In each, the shared weights are trained first and the strategy's updates follow."""
    warmup_epochs: int = option(
        5,
        "Epochs on random paths before the search; 0 is the paper's R, more its RP.",
        panel="Paper",
        metavar="N",
        shown_default="5, or none for a trained model",
    )
    """Epochs of training the shared weights on uniformly drawn paths (the paper's PreTrain)."""
    samples: int = option(
        10,
        "Architectures evaluated for each update of the strategy.",
        panel="Paper",
        metavar="N",
    )
    """ENAS takes 20 (10 in its micro search) and 50 updates an epoch (30 in its micro search)."""
    score_batches: int = 1
    """Validation batches of an evaluation; all architectures of one update see the same ones."""
    recalibration_batches: int = 2
    """Training batches for the BN recalibration of a path."""
    top_k: int = 10
    """Recommended architectures that are scored on the whole validation part in the end."""
    front: int = 5
    """Architectures of other costs that are scored with them, where costs are known."""
    train_weights: bool = True
    """Whether the shared weights are trained. Distilled weights may stay as they are."""
    weights: TrainConfig = field(default_factory=TrainConfig)
    """How the shared weights are trained; its ``epochs`` is not used."""

    def __post_init__(self) -> None:
        for name in ("epochs", "warmup_epochs", "front"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}. Give 0 or more.")
        for name in ("trials", "samples", "score_batches", "recalibration_batches", "top_k"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}. Give 1 or more.")
        if self.timeout is not None and not self.timeout > 0:
            raise ConfigError(f"timeout is {self.timeout}. Give a number of seconds above 0.")
        if self.warmup_epochs and not self.train_weights:
            raise ConfigError(
                "a warm-up trains the shared weights, and train_weights is False. "
                "Set warmup_epochs to 0."
            )

    @property
    def total_epochs(self) -> int:
        """Warm-up and search together."""
        return self.warmup_epochs + self.epochs

    @property
    def updates(self) -> int:
        """Updates of the strategy in the whole search, each of ``samples`` trials but the last."""
        return -(-self.trials // self.samples)

    def updates_before(self, epoch: int) -> int:
        """Return the number of updates in the first ``epoch`` epochs after the warm-up."""
        return epoch * self.updates // self.epochs if epoch else 0

    def trials_before(self, update: int) -> int:
        """Return the number of architectures evaluated in the first ``update`` updates."""
        return min(update * self.samples, self.trials)
