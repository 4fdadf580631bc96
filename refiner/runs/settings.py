"""The settings of a run, each declared once.

:func:`refiner.refine` takes the fields as keyword arguments, ``config.json`` keeps them, and the
command makes its options from them (:mod:`refiner.core.options`).
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from refiner.core.errors import ConfigError
from refiner.core.options import option
from refiner.core.types import JsonDict
from refiner.cost.budget import Budget, parse_budgets
from refiner.cost.budget_text import budget_texts
from refiner.distill.distillation import DistillConfig
from refiner.distill.refit import RefitConfig
from refiner.graph.slots import GRANULARITIES, Granularity
from refiner.runtimes.choice import RUNTIMES, check_runtime
from refiner.search.informing import PHASE as EFFECTS
from refiner.search.search import SearchConfig
from refiner.search.strategies import (
    INFORMED,
    STRATEGIES,
    check_strategy,
    resolve_strategy,
    strategy_name,
)
from refiner.search.strategy import Strategy, StrategyFactory
from refiner.space.admissible import Offer
from refiner.space.keep_ratios import CHANNEL_BLOCK
from refiner.space.search_space import SearchSpace
from refiner.training.devices import DEVICES, PRECISIONS
from refiner.training.loop import TrainConfig

DISTILLED_SEARCH = SearchConfig(
    trials=500, epochs=10, warmup_epochs=0, train_weights=False, score_batches=2
)
"""The default search over distilled candidates. Nothing is trained: it only evaluates."""
ESTIMATED_SEARCH = replace(DISTILLED_SEARCH, trials=40, epochs=4, top_k=8)
"""The same for strategies that estimate the effects of single swaps instead of scoring them."""


def default_search(
    strategy: str | Strategy | StrategyFactory, *, trained: bool, budget: bool
) -> SearchConfig:
    """Return the search that suits a strategy, by the name that it has or that ``auto`` takes.

    Args:
        strategy: a name, or one of the user's own.
        trained: whether the model is trained.
        budget: whether there is a budget.
    """
    if not trained:
        return SearchConfig()
    if isinstance(strategy, str):
        strategy = resolve_strategy(strategy, trained=trained, budget=budget)
    return ESTIMATED_SEARCH if strategy in INFORMED else DISTILLED_SEARCH


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a model is refined."""

    slots: Granularity | Literal["auto"] = option(
        "auto",
        "What changes together: one conv (conv, all), a residual block (block), or convs that "
        "share their inner channels (group). auto takes what reaches most of the MACs.",
        panel="Search",
        choices=("auto", *GRANULARITIES),
    )
    candidates: tuple[str, ...] | None = option(
        None,
        "Candidates to choose from, separated by commas, as `refine slots` lists them. convs takes "
        "those that leave plain convs.",
        panel="Search",
        metavar="NAMES",
        commas=True,
    )
    """Names of candidates; None takes the defaults of :func:`refiner.search_space`."""
    allow_larger: bool = option(
        False, "Admit candidates that have more parameters than the original.", panel="Search"
    )
    channel_multiple: int = option(
        CHANNEL_BLOCK,
        "Channel pruning leaves multiples of N channels, or of a part of N in a narrow layer.",
        panel="Search",
        metavar="N",
    )
    """It sets the default keep ratios; a keep ratio that is named holds."""
    only: tuple[str, ...] = option(
        (),
        "Change only the convs of this name or pattern, such as layer3 or 'layer*.conv1'. Can be "
        "repeated.",
        panel="Search",
        metavar="PATTERN",
    )
    skip: tuple[str, ...] = option(
        (),
        "Leave the convs of this name or pattern as they are. Can be repeated.",
        panel="Search",
        metavar="PATTERN",
    )
    strategy: str | Strategy | StrategyFactory = option(
        "auto",
        "What proposes architectures. auto takes milp for a trained model with a budget, else "
        "controller. informed_controller is a controller that begins with milp's estimates.",
        panel="Search",
        choices=("auto", *STRATEGIES),
    )
    """A name, or an object of your own; see :mod:`refiner.search.strategy`."""
    budget: tuple[str, ...] = option(
        (),
        "The most that the refined model may cost: macs=60%, macs=0.6, params=5e6, latency=80% or "
        "latency=5ms. Can be repeated.",
        panel="Budget",
        metavar="RESOURCE=AMOUNT",
    )
    """The refined model is measured against it at the end. Milliseconds are those of one batch.

    ``0.6`` alone is a share of the MACs; a mapping such as ``{"macs": 0.6, "params": 5e6}`` works.
    """
    latency_batch: int = option(
        1, "Samples in the batch whose milliseconds are measured.", panel="Budget", metavar="N"
    )
    """For the budget of latency, and for the latencies of the report."""
    runtime: str = option(
        "auto",
        "Where milliseconds are measured: the runtime of the deployment. auto is onnxruntime on a "
        "CPU and eager PyTorch on a GPU.",
        panel="Budget",
        choices=RUNTIMES,
    )
    """The report shows eager PyTorch and, on a CPU, onnxruntime beside it."""
    threads: int | None = option(
        None,
        "CPU threads of a timed pass. By default as many as PyTorch uses.",
        panel="Budget",
        metavar="N",
    )
    distill: DistillConfig | None = None
    """For a trained model: fit every candidate to its layer, and keep the weights in the search."""
    refit: RefitConfig = field(default_factory=RefitConfig)
    """For a trained model: fit the chosen network as a whole to the original before fine-tuning."""
    search: SearchConfig | None = None
    """How many architectures are evaluated, and how; None takes what suits ``distill``."""
    train: TrainConfig | None = None
    """Fine-tuning of the refined model, the original and the baselines; None leaves it out."""
    baselines: bool = option(
        True,
        "Compare with random search of as many trials and with one operation everywhere. This "
        "takes about as long again.",
        panel="Search",
        shown_default="with baselines",
    )
    seed: int = option(0, "Seed; it fixes a run on a CPU to the bit.", panel="Search", metavar="N")
    device: str = option("auto", "Where to compute.", panel="Output", choices=DEVICES)
    precision: str = option("no", "Mixed precision.", panel="Output", choices=PRECISIONS)

    def __post_init__(self) -> None:
        kinds: tuple[tuple[object, type], ...] = (
            (self.search, SearchConfig),
            (self.train, TrainConfig),
            (self.distill, DistillConfig),
            (self.refit, RefitConfig),
        )
        for given, kind in kinds:
            if given is not None and not isinstance(given, kind):
                raise ConfigError(f"a {type(given).__name__} was given for a {kind.__name__}.")
        if self.candidates is not None and not self.candidates:
            raise ConfigError("candidates is empty. Name some, such as depthwise3x3,maxpool3x3.")
        if self.slots not in ("auto", *GRANULARITIES):
            raise ConfigError(
                f"unknown slots {self.slots!r}. Choose one of: auto, {', '.join(GRANULARITIES)}."
            )
        if self.distill is not None and self.search is not None and self.search.train_weights:
            raise ConfigError(
                "distill keeps the weights fixed during the search, and this SearchConfig trains "
                "them. Set warmup_epochs=0 and train_weights=False in it, or leave search out."
            )
        if not isinstance(self.latency_batch, int) or self.latency_batch < 1:
            raise ConfigError(f"latency_batch is {self.latency_batch}. Give 1 or more.")
        check_runtime(self.runtime)
        if self.threads is not None and (not isinstance(self.threads, int) or self.threads < 1):
            raise ConfigError(f"threads is {self.threads}. Give 1 or more.")
        assert self.offer  # it checks its fields
        check_strategy(self.strategy)
        object.__setattr__(self, "budget", budget_texts(self.budget))
        parse_budgets(self.budget)

    @classmethod
    def of(cls, options: Mapping[str, Any], settings: "Settings | None" = None) -> "Settings":
        """Return the settings of keyword arguments, or ``settings`` where those were given instead.

        Raises:
            ConfigError: both were given, an unknown name, or a value that no setting takes.
        """
        if settings is not None:
            if options:
                raise ConfigError(
                    f"settings holds {next(iter(options))} already. Give one of them."
                )
            return settings
        names = [each.name for each in fields(cls)]
        for name in options:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                advice = f"Did you mean {near[0]}?" if near else f"Settings: {', '.join(names)}."
                raise ConfigError(f"there is no setting {name!r}. {advice}")
        given = dict(options)
        for name in ("candidates", "only", "skip"):
            chosen = given.get(name)
            if isinstance(chosen, Sequence) and not isinstance(chosen, str):
                given[name] = tuple(chosen)
            elif chosen is None and name in given:
                del given[name]
        if given.get("slots", "") is None:
            del given["slots"]
        return cls(**given)

    @property
    def offer(self) -> Offer:
        """What the slots are offered."""
        return Offer(
            candidates=self.candidates,
            allow_larger=self.allow_larger,
            channel_multiple=self.channel_multiple,
            only=self.only,
            skip=self.skip,
        )

    @property
    def trained(self) -> bool:
        """Whether the model is refined from its trained weights."""
        return self.distill is not None

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The budgets, parsed."""
        return parse_budgets(self.budget)

    @property
    def refits(self) -> bool:
        """Whether the networks of the search are refitted."""
        return self.trained and self.refit.steps > 0

    @property
    def fine_tunes(self) -> bool:
        """Whether networks are trained after the search."""
        return self.train is not None and self.train.epochs > 0

    def check_tests(self, tests: Mapping[str, object]) -> None:
        """Raise a ConfigError where further measures are asked for and no network is trained."""
        if tests and not self.fine_tunes:
            raise ConfigError("tests measure fine-tuned networks. Give train= (--epochs).")

    def phases(self) -> list[str]:
        """Return the names of the phases of a run, in order, for its progress."""
        assert self.search is not None
        phases = ["latency"] if any(each.resource == "latency" for each in self.budgets) else []
        phases += ["warm-up"] if self.search.warmup_epochs else []
        phases += ["distillation"] if self.trained else []
        phases += [EFFECTS] if self.trained and self.strategy in INFORMED else []
        phases += ["search", "top-k"]
        random = [] if self.strategy == "random" else ["random baseline", "top-k"]
        phases += [*random, "uniform baseline"] if self.baselines else []
        phases += ["refit"] if self.refits else []
        if self.trained or not self.fine_tunes:
            phases.append("scores")
        if self.fine_tunes:
            kinds = ["random", "uniform"] if self.baselines else []
            phases += [f"train {name}" for name in ("original", "refined", *kinds)]
        return phases

    def resolved(self) -> "Settings":
        """Return the settings with a search and a strategy where they were left open."""
        search = self.search
        if search is None:
            search = default_search(self.strategy, trained=self.trained, budget=bool(self.budget))
        strategy = self.strategy
        if isinstance(strategy, str):
            strategy = resolve_strategy(strategy, trained=self.trained, budget=bool(self.budget))
        return replace(self, search=search, strategy=strategy)

    def to_json(self, space: SearchSpace) -> JsonDict:
        """Return what config.json keeps: all that has to be equal where a run goes on."""
        assert self.search is not None
        return {
            "slots": space.granularity,
            "candidates": [list(names) for names in space.candidates],
            "strategy": strategy_name(self.strategy),
            "budget": ",".join(map(str, self.budgets)) or "none",
            "latency_batch": self.latency_batch,
            "runtime": self.runtime,
            "threads": self.threads,
            "distill": None if self.distill is None else asdict(self.distill),
            "refit": asdict(self.refit) if self.refits else None,
            "search": asdict(self.search),
            "train": None if self.train is None else asdict(self.train),
            "baselines": self.baselines,
            "seed": self.seed,
            "precision": self.precision,
            **{name: list(given) for name in ("only", "skip") if (given := getattr(self, name))},
        }
