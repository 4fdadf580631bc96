"""The search (NAR): two phases that take turns, weights on train batches, strategy on validation.

In a warm-up (the paper's PreTrain) paths are drawn uniformly and nothing is scored. After it, in
each epoch, the shared weights take one pass over the training batches, a fresh path from the strategy
each step; then the strategy asks for paths, each is scored on validation batches after its norm
statistics are recalibrated on training batches, and the strategy is told. In the end what it
recommends is scored on the whole validation part, and the best is taken.

Where the weights stay as they are (``train_weights=False``), norms come from the same batches in all epochs, so
that scores compare; and with a teacher the strategy is told of agreement to it, not of the task's score.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from refiner.core.errors import ConfigError, DataError
from refiner.core.progress import Progress, Silent
from refiner.core.randomness import derive_seed, seeded
from refiner.cost.feasible import FeasibleSet
from refiner.data.loaders import generators_of
from refiner.search.pareto import spread
from refiner.search.random_search import RandomStrategy
from refiner.search.scores import Scores
from refiner.search.scoring import Scored, Scorer, WeightSharing, short
from refiner.search.strategy import Ladder, Strategy
from refiner.space.architecture import Vector
from refiner.training.devices import Devices
from refiner.training.evaluation import length
from refiner.training.loop import TrainConfig, WeightTrainer
from refiner.training.task import Task
from refiner.training.usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """Settings of a search. The paper takes 150 epochs in all; so small a default suits a CPU."""

    epochs: int = 15
    """In which both phases run."""
    warmup_epochs: int = 5
    """On uniformly drawn paths before them; 0 is the paper's R, more its RP."""
    tells: int = 5
    """Times an epoch that the strategy is told of scores; ENAS takes 50 (30 in its micro search)."""
    samples: int = 10
    """Architectures scored for each; ENAS takes 20 (10 in its micro search)."""
    score_batches: int = 1
    """Validation batches of a score; the architectures of one ``tell`` see the same ones."""
    recalibration_batches: int = 2
    """Training batches from which a path's norm statistics are taken."""
    top_k: int = 10
    """Recommended architectures scored on the whole validation part in the end."""
    front: int = 5
    """Architectures of other costs scored along with them, where costs are known; see pareto.py."""
    train_weights: bool = True
    """Whether the shared weights learn on. Distilled ones (see distillation.py) may stay as they are."""
    weights: TrainConfig = field(default_factory=TrainConfig)
    """How the shared weights are trained; its ``epochs`` is not used."""

    def __post_init__(self) -> None:
        for name in ("epochs", "warmup_epochs", "front"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}. Give 0 or more.")
        if self.warmup_epochs and not self.train_weights:
            raise ConfigError(
                "a warm-up trains the shared weights, and train_weights is False. Set warmup_epochs to 0."
            )
        for name in ("tells", "samples", "score_batches", "recalibration_batches", "top_k"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}. Give 1 or more.")

    @property
    def total_epochs(self) -> int:
        """Warm-up and search together."""
        return self.warmup_epochs + self.epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """How a search ended."""

    best: Scored
    top_k: tuple[Scored, ...]
    """Scored on the whole validation part, best first."""


class Search:
    """One search; all that it needs to go on elsewhere is in :meth:`state_dict`.

    Args:
        supernet: the shared weights; they are trained in place.
        strategy: what proposes architectures.
        task: the loss and the score.
        train_loader, val_loader: as :meth:`Devices.loader` returned them.
        score_loader: validation batches that the strategy's rewards come from, a few at a time, so they
            should mix the classes (:func:`refiner.data.loaders.mixed`); by default ``val_loader``.
        devices: where.
        teacher: a trained network, on the device, where the shared weights stand in for its parts. Then the
            strategy's rewards are how alike to its outputs those of an architecture are (teacher.py), and the finalists
            are compared by that; by default both go by the task's score.
        config: how long and how much.
        seed: fixes the run on a CPU to the bit.
        feasible: the architectures that may be drawn in the warm-up; all by default. The strategy knows
            its own.
        cost: of an architecture, by which those of the front are chosen.
    """

    def __init__(
        self,
        supernet: WeightSharing,
        strategy: Strategy,
        task: Task,
        train_loader: Any,
        val_loader: Any,
        score_loader: Any = None,
        *,
        devices: Devices,
        teacher: nn.Module | None = None,
        config: SearchConfig | None = None,
        seed: int = 0,
        feasible: FeasibleSet | None = None,
        cost: Callable[[Vector], float] | None = None,
    ) -> None:
        self.feasible, self.cost = feasible, cost
        self.told = Scores()
        """What the strategy was told."""
        self.supernet, self.strategy = supernet, strategy
        self.train_loader, self.val_loader = train_loader, val_loader
        self.score_loader = val_loader if score_loader is None else score_loader
        self.devices, self.config, self.seed = devices, config or SearchConfig(), seed
        self.generators = generators_of(train_loader, val_loader, self.score_loader)
        length(train_loader), length(val_loader)  # both give batches, or it is said now
        # Tasks see the user's own class, with its methods, around the mixed operations.
        self.trainer = WeightTrainer(
            supernet.model, task, devices, self.config.weights, self.config.total_epochs
        )
        self.scorer = Scorer(
            supernet, self.trainer.task, train_loader, val_loader,
            devices=devices, recalibration_batches=self.config.recalibration_batches,
            fixed=not self.config.train_weights, teacher=teacher, seed=seed,
        )  # fmt: skip
        self.epoch = 0
        """Epochs done, the warm-up counted in."""
        self.result: SearchResult | None = None
        """How the search ended; None before."""
        self.usage = Usage()
        """What the search has spent."""
        self.last: dict[str, float | str] = {}

    @property
    def task(self) -> Task:
        """The task, with what its head has learned."""
        return self.scorer.task

    def run(
        self,
        *,
        progress: Progress | None = None,
        name: str = "search",
        on_epoch: Callable[[dict[str, Any]], None] = lambda _: None,
        on_finish: Callable[[], None] = lambda: None,
    ) -> SearchResult:
        """Run to the end, from wherever the state is.

        Args:
            progress: listener.
            name: of the phase after the warm-up, for progress.
            on_epoch: is called after each epoch with a record of it, whose ``tells`` lists the
                vectors, scores and the strategy's metrics of each; the time to save :meth:`state_dict`.
            on_finish: is called once the best is known; the last time to save.

        Raises:
            TrainingError: the loss is not finite.
        """
        progress = progress or Silent()
        warm = self.config.warmup_epochs
        steps = length(self.train_loader)
        uniform = RandomStrategy(
            self.supernet.candidates, seed=derive_seed(self.seed, "warm-up"), feasible=self.feasible
        )
        agreement = self.scorer.agreement
        counted = [self.supernet.model, *([] if agreement is None else [agreement.teacher])]
        with ExitStack() as stack:
            for network in counted:
                stack.enter_context(self.usage.counting(network))
            if self.epoch < warm:
                progress.begin("warm-up", warm * steps, self.epoch * steps)
                while self.epoch < warm:
                    uniform.generator.manual_seed(derive_seed(self.seed, "warm-up", self.epoch))
                    on_epoch(self._epoch(uniform, progress))
                progress.end()
            each = steps * self.config.train_weights + self.config.tells * self.config.samples
            if self.epoch < self.config.total_epochs:
                progress.begin(name, self.config.epochs * each, (self.epoch - warm) * each)
                while self.epoch < self.config.total_epochs:
                    on_epoch(self._epoch(self.strategy, progress))
                progress.end()
            if self.result is None:
                self.result = self._finish(progress)
                on_finish()
        return self.result

    def _epoch(self, strategy: Strategy, progress: Progress) -> dict[str, Any]:
        searching = self.epoch >= self.config.warmup_epochs
        with seeded(derive_seed(self.seed, "epoch", self.epoch), self.generators):
            trained = self._weights_phase(strategy, progress) if self.config.train_weights else {}
            tells = self._strategy_phase(progress) if searching else []
        self.epoch += 1
        phase = "search" if searching else "warm-up"
        record: dict[str, Any] = {"epoch": self.epoch, "phase": phase, **trained}
        return {**record, **strategy.metrics(), "tells": tells} if searching else record

    def _weights_phase(self, strategy: Strategy, progress: Progress) -> dict[str, float]:
        paths = strategy.ask(length(self.train_loader))
        loss = self.trainer.epoch(
            self.train_loader,
            self.epoch,
            progress,
            before_step=lambda step: self.supernet.select(paths[step]),
            values=lambda: self.last,
        )
        return {"loss": loss}

    def _strategy_phase(self, progress: Progress) -> list[dict[str, Any]]:
        config = self.config
        norm_batches = self.scorer.norm_batches()
        searched = self.epoch - config.warmup_epochs
        # What is in random order gives other samples each time; what is not is gone through in turn.
        in_turn = self.score_loader is self.val_loader
        val_batches = self._score_batches(
            searched * config.tells * config.score_batches if in_turn else 0
        )
        tells = []
        for _ in range(config.tells):
            batches = list(itertools.islice(val_batches, config.score_batches))
            vectors = self.strategy.ask(config.samples)
            scores = []
            for vector in vectors:
                scores.append(self.scorer.reward_of(vector, norm_batches, batches))
                progress.advance(1, reward=scores[-1], vector=short(vector), **self.last)
            self.scorer.forget()
            self.strategy.tell(vectors, scores)
            self.told.tell(vectors, scores)
            metrics = self.strategy.metrics()
            tells.append({"vectors": [list(v) for v in vectors], "scores": scores, **metrics})
            self.last = dict(metrics)
        return tells

    def _score_batches(self, position: int) -> Iterator[Any]:
        """Yield batches to score on for ever, round and round, from a position in the round."""
        skip = position % length(self.score_loader)
        while True:
            batch = None
            for batch in itertools.islice(self.devices.batches(self.score_loader), skip, None):
                yield batch
            if batch is None and skip == 0:
                raise DataError("the validation loader gave no batch. Give it data for each pass.")
            skip = 0

    def _finish(self, progress: Progress) -> SearchResult:
        recommended = self.strategy.recommend(self.config.top_k)
        vectors = list(dict.fromkeys([*recommended, *self._others()]))
        scored = self.scorer.rank(vectors, progress)
        return SearchResult(best=scored[0], top_k=tuple(scored))

    def _others(self) -> list[Vector]:
        """Return architectures of other costs, within the budget, to score for the front."""
        if self.cost is None:
            return []
        if isinstance(self.strategy, Ladder):
            return self.strategy.ladder(self.config.front)
        means = {
            vector: mean
            for vector, mean in self.told.means().items()
            if self.feasible is None or self.feasible.holds(vector)
        }
        return spread(means, self.cost, self.config.front)

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state: epoch, shared weights, optimizer and strategy."""
        return {
            "epoch": self.epoch,
            "reward": self.scorer.reward.metric,
            "trainer": self.trainer.state_dict(),
            "strategy": self.strategy.state_dict(),
            "told": self.told.state_dict(),
            "spent": [self.usage.forward, self.usage.backward],
            "norms": [(list(vector), norms) for vector, norms in self.scorer.norms.items()],
            "top_k": [(list(f.vector), f.score, f.agreement) for f in self.result.top_k]
            if self.result
            else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state.

        Raises:
            ValueError: its scores are of another kind.
        """
        if state.get("reward", self.task.metric) != self.scorer.reward.metric:
            raise ValueError(f"its scores are no {self.scorer.reward.metric}")
        self.epoch = state["epoch"]
        self.trainer.load_state_dict(state["trainer"])
        self.strategy.load_state_dict(state["strategy"])
        self.told.load_state_dict(state["told"])
        self.usage = Usage(*state["spent"])
        self.last = dict(self.strategy.metrics())
        self.scorer.norms = {tuple(vector): norms for vector, norms in state.get("norms", [])}
        if state["top_k"] is not None:
            scored = tuple(
                Scored(vector=tuple(vector), score=score, agreement=agreement)
                for vector, score, agreement in state["top_k"]
            )
            self.result = SearchResult(best=scored[0], top_k=scored)
