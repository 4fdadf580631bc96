"""Rewrite a model to an architecture: a plain new module without traces of the search."""

from functools import partial

from torch import nn

from refiner.core.errors import ArchitectureError
from refiner.core.layers import CONV_TYPES
from refiner.core.randomness import derive_seed
from refiner.core.surgery import copied, replace_modules
from refiner.core.thawing import thaw
from refiner.graph.conv_spec import conv_spec
from refiner.space.architecture import Architecture
from refiner.space.filling import fill
from refiner.space.remembered import remember


def rewrite(model: nn.Module, architecture: Architecture, *, seed: int = 0) -> nn.Module:
    """Return a copy of ``model`` in which each slot holds its chosen operation.

    Only the convs of slots with a non-zero index are replaced, under their own names in the module
    tree. The norms after them stay, except that channel pruning cuts them, and other modules with
    numbers for each channel. Everything else is that of the original: the model's class, its
    ``forward`` and the remaining weights. So the zero vector gives a plain copy. If no parameter of
    the original takes a gradient, all of the copy do.

    Args:
        model: the model that the architecture was made for; it is never changed.
        architecture: from a search, a search space, or :meth:`Architecture.load`.
        seed: determines the initial weights of the new operations.

    Raises:
        ArchitectureError: the architecture was made for another model.
    """
    rewritten = copied(model)
    thaw(rewritten)
    modules: dict[str, nn.Module] = dict(rewritten.named_modules(remove_duplicate=False))
    replacements: dict[str, nn.Module] = {}
    for i, (slot, operation) in enumerate(
        zip(architecture.slots, architecture.operations, strict=True)
    ):
        for site in slot.all_convs:
            missing = [name for name in (site.conv, *site.after) if name not in modules]
            if missing:
                raise ArchitectureError(
                    f"the architecture was made for another model: {type(model).__name__} has no "
                    f"module {missing[0]}. Give the model it was made for."
                )
            conv = modules[site.conv]
            if (
                not isinstance(conv, CONV_TYPES)
                or conv_spec(conv, site.in_shape, site.out_shape) != site.spec
            ):
                raise ArchitectureError(
                    f"the architecture was made for another model: {site.conv} is {conv} in "
                    f"{type(model).__name__}. Give the model it was made for."
                )
        replacements |= fill(slot, operation, modules, partial(derive_seed, seed, "rewrite", i))
    replace_modules(rewritten, replacements)
    remember(rewritten, model, architecture)
    return rewritten
