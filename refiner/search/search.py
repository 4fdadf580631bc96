"""The search (NAR). Its two phases alternate: weights on training batches, strategy on validation.

In a warm-up (the paper's PreTrain) paths are drawn uniformly and nothing is scored. In each epoch
after it, the shared weights take one pass over the training batches, with a new path from the
strategy at each step. Then the strategy asks for architectures, each is scored on validation
batches after BN recalibration on training batches, and the strategy learns the scores. In the end
the architectures that it recommends are scored on the whole validation part, refitted where the
search does so, and the best is taken.

Where the weights stay as they are (``train_weights=False``), BN recalibration uses the same batches
in all epochs, so that scores compare, and a strategy may ask for the same images
(:mod:`refiner.search.score_images`). With a teacher, the strategy learns from agreement with it
instead of the task's score.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict

from torch import nn

from refiner.core.progress import Progress, Silent
from refiner.core.randomness import derive_seed, seeded
from refiner.core.types import JsonDict, Loader, StateDict
from refiner.cost.feasible import FeasibleSet
from refiner.data.loaders import generators_of
from refiner.search.informing import Informing, inform
from refiner.search.measured_limit import MeasuredLimit
from refiner.search.norm_shift import NormShift
from refiner.search.other_costs import of_other_costs
from refiner.search.random_search import RandomStrategy
from refiner.search.ranked_refit import RankedRefit
from refiner.search.score_images import ScoreImages
from refiner.search.scores import Scores
from refiner.search.scoring import Scorer, WeightSharing, short
from refiner.search.search_config import SearchConfig
from refiner.search.search_result import SearchResult
from refiner.search.strategy import Strategy
from refiner.search.top_k import score_top_k
from refiner.space.architecture import Vector
from refiner.training.devices import Devices
from refiner.training.loop import WeightTrainer
from refiner.training.passes import length
from refiner.training.task import Task
from refiner.training.usage import Usage

__all__ = ["Search", "SearchConfig", "SearchResult"]


class Search:
    """One search; all that it needs to go on elsewhere is in :meth:`state_dict`.

    Args:
        supernet: the shared weights; they are trained in place.
        strategy: what proposes architectures.
        task: the loss and the score.
        train_loader, val_loader: as :meth:`Devices.loader` returned them.
        score_loader: validation batches that the strategy's rewards come from, a few at a time.
            They should mix the classes (:func:`refiner.data.loaders.mixed`). By default
            ``val_loader``.
        devices: where.
        teacher: a trained network, on the device. With it, the strategy's rewards are the agreement
            of an architecture's outputs with the teacher's, and the top-k are ranked by it. By
            default both go by the task's score.
        shift: the original's norm statistics; see :class:`refiner.search.scoring.Scorer`.
        refit: of networks before they are ranked among the top-k; see there.
        config: how long and how much.
        seed: fixes the run on a CPU to the bit.
        feasible: the architectures that may be drawn in the warm-up; all by default. The strategy
            knows its own.
        cost: of an architecture, by which those of the front are chosen.
        limit: a budget that the recommended architectures have to keep to, as measured.
    """

    def __init__(
        self,
        supernet: WeightSharing,
        strategy: Strategy,
        task: Task,
        train_loader: Loader,
        val_loader: Loader,
        score_loader: Loader | None = None,
        *,
        devices: Devices,
        teacher: nn.Module | None = None,
        shift: NormShift | None = None,
        refit: RankedRefit | None = None,
        config: SearchConfig | None = None,
        seed: int = 0,
        feasible: FeasibleSet | None = None,
        cost: Callable[[Vector], float] | None = None,
        limit: MeasuredLimit | None = None,
    ) -> None:
        self.scores = Scores()
        """What the strategy has learned from."""
        self.supernet, self.strategy = supernet, strategy
        self.feasible, self.cost, self.limit = feasible, cost, limit
        self.train_loader, self.val_loader = train_loader, val_loader
        self.score_loader = val_loader if score_loader is None else score_loader
        self.devices, self.config, self.seed = devices, config or SearchConfig(), seed
        self.generators = generators_of(train_loader, val_loader, self.score_loader)
        length(train_loader), length(val_loader)  # an empty one is refused now
        self.images = ScoreImages(
            self.score_loader,
            self.config.score_batches,
            in_order=self.score_loader is val_loader,
            devices=devices,
            generators=self.generators,
            seed=seed,
        )
        """What the strategy's rewards are scored on."""
        # Tasks see the user's own class, with its methods, around the mixed operations.
        self.trainer = WeightTrainer(
            supernet.model, task, devices, self.config.weights, self.config.total_epochs
        )
        self.scorer = Scorer(
            supernet,
            self.trainer.task,
            train_loader,
            val_loader,
            devices=devices,
            recalibration_batches=self.config.recalibration_batches,
            fixed=not self.config.train_weights,
            teacher=teacher,
            shift=shift,
            refit=refit,
            seed=seed,
        )
        self.epoch = 0
        """Epochs done, those of the warm-up included."""
        self.seconds = 0.0
        """Time spent in the epochs after the warm-up."""
        self._clock = time.monotonic()
        """When these epochs would have begun, had they run without a break."""
        self.result: SearchResult | None = None
        """How the search ended; None before."""
        self.usage = Usage()
        """What the search has spent."""
        self.informing = Informing()
        """What came of estimating the effects of swaps."""
        self.last: dict[str, float | str] = {}
        """The strategy's metrics after its last update."""

    @property
    def task(self) -> Task:
        """The task, with what its head has learned."""
        return self.scorer.task

    @property
    def trials(self) -> int:
        """Architectures evaluated so far."""
        return sum(map(self.scores.count, self.scores))

    def run(
        self,
        *,
        progress: Progress | None = None,
        name: str = "search",
        on_epoch: Callable[[JsonDict], None] = lambda _: None,
        on_finish: Callable[[], None] = lambda: None,
    ) -> SearchResult:
        """Run to the end, from wherever the state is.

        Args:
            progress: listener.
            name: of the phase after the warm-up, for progress.
            on_epoch: is called after each epoch with a record of it, whose ``updates`` lists the
                vectors, scores and the strategy's metrics of each update. The time to save
                :meth:`state_dict`.
            on_finish: is called once the best is known; the last time to save.

        Raises:
            TrainingError: the loss is not finite.
        """
        progress = progress or Silent()
        agreement = self.scorer.agreement
        counted = [self.supernet.model, *([] if agreement is None else [agreement.teacher])]
        with ExitStack() as stack:
            for network in counted:
                stack.enter_context(self.usage.counting(network))
            self._warm_up(progress, on_epoch)
            self._search(progress, name, on_epoch)
            if self.result is None:
                self.result = self._finish(progress)
                on_finish()
        return self.result

    def _warm_up(self, progress: Progress, on_epoch: Callable[[JsonDict], None]) -> None:
        """Train the shared weights on random paths for what is left of the warm-up."""
        epochs, steps = self.config.warmup_epochs, length(self.train_loader)
        if self.epoch >= epochs:
            return
        uniform = RandomStrategy(
            self.supernet.candidates, seed=derive_seed(self.seed, "warm-up"), feasible=self.feasible
        )
        progress.begin("warm-up", epochs * steps, self.epoch * steps)
        while self.epoch < epochs:
            uniform.generator.manual_seed(derive_seed(self.seed, "warm-up", self.epoch))
            with seeded(derive_seed(self.seed, "epoch", self.epoch), self.generators):
                trained = self._train_weights(uniform, progress)
            self.epoch += 1
            on_epoch({"epoch": self.epoch, "phase": "warm-up", **trained})
        progress.end()

    def _search(self, progress: Progress, name: str, on_epoch: Callable[[JsonDict], None]) -> None:
        """Alternate the two phases for what is left of the search."""
        config = self.config
        self._clock = time.monotonic() - self.seconds
        if self.result is not None or self.epoch >= config.total_epochs or self._timed_out():
            return
        steps = length(self.train_loader) * config.train_weights
        done = self.epoch - config.warmup_epochs
        trials = config.trials_before(config.updates_before(done))
        if not self.scores:
            images = self.images.by_visit([(0,) * len(self.supernet.candidates)], self.scores)
            self.informing = inform(self.strategy, self.scorer, images[0], progress)
        progress.begin(name, config.epochs * steps + config.trials, done * steps + trials)
        while self.epoch < config.total_epochs and not self._timed_out():
            with seeded(derive_seed(self.seed, "epoch", self.epoch), self.generators):
                trained = {}
                if config.train_weights:
                    trained = self._train_weights(self.strategy, progress)
                updates = self._update_strategy(progress)
            self.epoch += 1
            record = {"epoch": self.epoch, "phase": "search", **trained}
            on_epoch({**record, **self.strategy.metrics(), "updates": updates})
        progress.end()

    def _timed_out(self) -> bool:
        """Return whether no further trial may begin; all processes agree. The first update may."""
        self.seconds = time.monotonic() - self._clock
        limit = self.config.timeout
        if limit is None or not self.scores:
            return False
        return self.devices.from_main(lambda: self.seconds >= limit)

    def _train_weights(self, strategy: Strategy, progress: Progress) -> dict[str, float]:
        """Train the shared weights for one epoch, on a path of the strategy at each step."""
        paths = strategy.ask(length(self.train_loader))
        loss = self.trainer.epoch(
            self.train_loader,
            self.epoch,
            progress,
            before_step=lambda step: self.supernet.select(paths[step]),
            values=lambda: self.last,
        )
        return {"loss": loss}

    def _update_strategy(self, progress: Progress) -> list[JsonDict]:
        """Evaluate the trials of one epoch; the strategy learns their scores, update by update."""
        config = self.config
        norm_batches = self.scorer.norm_batches()
        searched = self.epoch - config.warmup_epochs
        first, last = config.updates_before(searched), config.updates_before(searched + 1)
        by_update = self.images.by_update(first)
        same_images = not config.train_weights and getattr(self.strategy, "same_images", False)
        updates: list[JsonDict] = []
        for update in range(first, last):
            if updates and self._timed_out():
                break
            count = config.trials_before(update + 1) - config.trials_before(update)
            vectors = self.strategy.ask(count)
            if same_images:
                images = self.images.by_visit(vectors, self.scores)
            else:
                images = [next(by_update)] * len(vectors)
            scores = []
            for vector, batches in zip(vectors, images, strict=True):
                scores.append(self.scorer.reward_of(vector, norm_batches, batches))
                progress.advance(1, reward=scores[-1], vector=short(vector), **self.last)
            self.scorer.forget()
            self.strategy.tell(vectors, scores)
            self.scores.add(vectors, scores)
            metrics = self.strategy.metrics()
            updates.append({"vectors": [list(v) for v in vectors], "scores": scores, **metrics})
            self.last = dict(metrics)
        self.seconds = time.monotonic() - self._clock
        return updates

    def _finish(self, progress: Progress) -> SearchResult:
        """Score what the strategy recommends, and architectures of other costs, on all images."""
        other_costs = of_other_costs(
            self.strategy, self.scores, self.feasible, self.cost, self.config.front
        )
        return score_top_k(
            self.strategy, self.scorer, self.config.top_k, other_costs, progress, self.limit
        )

    def state_dict(self) -> StateDict:
        """Return the whole state: epoch, time, shared weights, optimizer and strategy."""
        return {
            "epoch": self.epoch,
            "seconds": self.seconds,
            "reward": self.scorer.reward.metric,
            "trainer": self.trainer.state_dict(),
            "strategy": self.strategy.state_dict(),
            "scores": self.scores.state_dict(),
            "informing": asdict(self.informing),
            "usage": [self.usage.forward, self.usage.backward],
            "shift": None if self.scorer.shift is None else self.scorer.shift.state_dict(),
            "refit_pays": None if self.scorer.refit is None else self.scorer.refit.pays,
            "norms": [(list(vector), norms) for vector, norms in self.scorer.norms.items()],
            "top_k": None if self.result is None else self.result.state(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Take over a saved state.

        Raises:
            ValueError: its scores are of another kind.
        """
        if state.get("reward", self.task.metric) != self.scorer.reward.metric:
            raise ValueError(f"its scores are not {self.scorer.reward.metric}")
        self.epoch, self.seconds = state["epoch"], state["seconds"]
        self.trainer.load_state_dict(state["trainer"])
        self.strategy.load_state_dict(state["strategy"])
        self.scores.load_state_dict(state["scores"])
        self.informing = Informing(**state["informing"])
        self.usage = Usage(*state["usage"])
        self.last = dict(self.strategy.metrics())
        if self.scorer.shift is not None:
            self.scorer.shift.load_state_dict(state["shift"])
        if self.scorer.refit is not None:
            self.scorer.refit.pays = state.get("refit_pays")
        self.scorer.norms = {tuple(vector): norms for vector, norms in state["norms"]}
        if state["top_k"] is not None:
            self.result = SearchResult.of_state(state["top_k"])
