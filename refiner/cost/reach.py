"""The share of a model's MACs that a search can reach, and the granularity that follows from it."""

from collections.abc import Mapping
from typing import Literal

from torch import nn

from refiner.core.batches import first_sample
from refiner.core.inputs import ExampleInput
from refiner.cost.costs import measure_cost
from refiner.graph.slots import Granularity
from refiner.graph.traced_model import TracedModel
from refiner.graph.tracing import trace_model
from refiner.space.admissible import Offer
from refiner.space.search_space import SearchSpace, named_space, preferred_space, spaces_in


def choose_space(
    model: nn.Module,
    example: ExampleInput,
    *,
    slots: Granularity | Literal["auto"],
    trained: bool,
    offer: Offer | None = None,
) -> tuple[SearchSpace, str]:
    """Return the search space of a run, and a sentence that says which slots were taken and why.

    ``auto`` prefers ``group``, ``all`` and ``conv`` in this order for a trained model, and in the
    order ``conv``, ``all``, ``group`` otherwise. It takes the first that holds at least 90 % of
    the MACs that the best of them holds. The model is traced once.

    Args:
        model: any conv model; never changed.
        example: a tensor, a tuple of positional or a mapping of keyword arguments.
        slots: ``auto``, or the granularity to take.
        trained: whether the weights of ``model`` are trained.
        offer: what slots are offered. Channel pruning needs ``group``.

    Returns:
        The space, and the sentence; it is empty where ``slots`` names a granularity.

    Raises:
        ModelError: the model cannot be traced, or has no slot.
        ConfigError: an unknown candidate or granularity.
    """
    offer = offer or Offer()
    offer.check("group" if slots == "auto" else slots)  # before the model is traced
    traced = trace_model(model, example)
    return choose_in(traced, example, slots=slots, trained=trained, offer=offer)


def choose_in(
    traced: TracedModel,
    example: ExampleInput,
    *,
    slots: Granularity | Literal["auto"],
    trained: bool,
    offer: Offer,
) -> tuple[SearchSpace, str]:
    """Return what :func:`choose_space` does, for a model that was traced on the example."""
    if slots != "auto":
        return named_space(traced, slots, offer), ""
    space, reached = preferred_space(traced, trained, offer)
    shares = _shares(traced, example, reached)
    taken = shares.pop(space.granularity)
    share = f"{100 * taken:.0f} % of the MACs"
    text = f"--slots auto takes {space.granularity}, which reaches {share}"
    others = ", ".join(f"{each} {100 * share:.0f} %" for each, share in reversed(shares.items()))
    return space, f"{text} ({others})." if others else f"{text}."


def shares_in_reach(
    traced: TracedModel, example: ExampleInput, offer: Offer
) -> dict[Granularity, float]:
    """Return the share of the model's MACs that the slots of each granularity hold, 0 to 1.

    A granularity that does not take the named candidates is left out.
    """
    spaces = spaces_in(traced, offer)
    return _shares(traced, example, {each: space.slot_macs for each, space in spaces.items()})


def _shares(
    traced: TracedModel, example: ExampleInput, macs: Mapping[Granularity, int]
) -> dict[Granularity, float]:
    whole = measure_cost(traced.source, first_sample(example), cross_check=False).macs
    return {each: count / max(whole, 1) for each, count in macs.items()}
