"""How a network's weights are trained."""

import math
from dataclasses import dataclass
from typing import Any

from refiner.core.errors import ConfigError
from refiner.core.options import option
from refiner.training.schedules import SCHEDULES

_FINE_TUNING = {"lr_max": 0.01, "teacher_weight": 0.9}
"""The settings of :meth:`TrainConfig.fine_tuning` that are not the usual defaults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How weights are trained: SGD with momentum.

    The learning rates and the schedule are those of the paper (section 4.1).
    """

    epochs: int = option(
        15,
        "Epochs of training; 0 leaves it out.",
        panel="Fine-tuning",
        metavar="N",
        shown_default="15, or 35 for refine train",
    )
    """Passes over the training data."""
    lr_max: float = option(
        0.1,
        "Largest learning rate.",
        panel="Fine-tuning",
        flag="--lr",
        metavar="RATE",
        shown_default="0.1, or 0.01 where a trained model is refined",
    )
    """Largest learning rate."""
    lr_min: float = 0.0001
    """Least learning rate."""
    schedule: str = option(
        "sgdr", "Schedule of the learning rate.", panel="Fine-tuning", choices=tuple(SCHEDULES)
    )
    """Schedule of the learning rate: ``sgdr`` (warm restarts), ``cosine`` or ``step``."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 5e-4
    """Weight decay. The paper gives none; this is ArcFace's, and usual for ResNets on CIFAR."""
    gradient_clip: float = 5.0
    """Largest norm of the gradient, a task's head included; ENAS's value."""
    teacher_weight: float = option(
        0.0,
        "Share of the loss that follows the teacher, 0 to 1.",
        panel="Fine-tuning",
        metavar="SHARE",
        shown_default="0.9 with a teacher, else 0",
    )
    """Share of the divergence from the original network in the loss, 0 to 1; see ``teacher.py``."""
    ema: float = option(
        0.0,
        "Decay of an exponential moving average of the weights, which the trained network takes; "
        "0 leaves it out.",
        panel="Fine-tuning",
        metavar="DECAY",
    )
    """Decay at each step of the moving average that the trained network takes, 0 for none; see
    ``averaging.py``."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises from zero to its schedule."""

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise ConfigError(f"epochs is {self.epochs}. Give 0 or more.")
        if not 0 < self.lr_max < math.inf:
            raise ConfigError(f"lr_max is {self.lr_max}. Give a learning rate above 0.")
        if not 0 <= self.lr_min <= self.lr_max:
            raise ConfigError(f"lr_min is {self.lr_min}. Give 0 to lr_max, {self.lr_max}.")
        for name in ("momentum", "weight_decay"):
            if not getattr(self, name) >= 0:  # NaN is refused, too
                raise ConfigError(f"{name} is {getattr(self, name)}. Give 0 or more.")
        if not self.gradient_clip > 0:
            raise ConfigError(f"gradient_clip is {self.gradient_clip}. Give more than 0.")
        if not 0 <= self.teacher_weight <= 1:
            raise ConfigError(f"teacher_weight is {self.teacher_weight}. Give a share, 0 to 1.")
        if not 0 <= self.ema < 1:
            raise ConfigError(f"ema is {self.ema}. Give a decay, from 0 to less than 1.")
        if self.warmup_steps < 0:
            raise ConfigError(f"warmup_steps is {self.warmup_steps}. Give 0 or more.")
        if self.schedule not in SCHEDULES:
            raise ConfigError(
                f"unknown schedule {self.schedule!r}. Choose one of: {', '.join(SCHEDULES)}."
            )

    @classmethod
    def fine_tuning(cls, **settings: Any) -> "TrainConfig":
        """Return the defaults for the fine-tuning of a trained model, with other ``settings``.

        They won on trained networks after few epochs; ``benchmarks/README.md`` has the table.
        """
        return cls(**{**_FINE_TUNING, **settings})

    def learning_rate(self, epoch: float, epochs: int, step: int | None = None) -> float:
        """Return the learning rate at a moment, 0 to ``epochs``, of a training.

        Args:
            epoch: the moment.
            epochs: length of the training.
            step: number of the step, from 0; None is one after the warm-up.
        """
        share = SCHEDULES[self.schedule](epoch, epochs)
        rate = self.lr_min + (self.lr_max - self.lr_min) * share
        if step is None or step >= self.warmup_steps:
            return rate
        return rate * (step + 1) / (self.warmup_steps + 1)
