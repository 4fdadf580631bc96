"""Models whose parameters all take no gradient, as trainers leave their checkpoints.

Such a model is not meant to keep its weights: it is trained like any other. Where only some
parameters take no gradient, these stay as they are.
"""

from torch import nn

from refiner.core.surgery import copied

NOTE = (
    "all parameters of the model had requires_grad=False, as trainers leave checkpoints; they are "
    "trained all the same"
)
"""For the report of a run."""


def is_frozen(model: nn.Module) -> bool:
    """Return whether a model has parameters and none of them takes a gradient."""
    parameters = [p for p in model.parameters() if p.is_floating_point()]
    return bool(parameters) and not any(p.requires_grad for p in parameters)


def thaw(model: nn.Module) -> None:
    """Let the parameters of a model take gradients, in place, if none of them does."""
    if is_frozen(model):
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.requires_grad_()


def thawed(model: nn.Module) -> nn.Module:
    """Return a model whose parameters take gradients: the model itself, or a copy if none does.

    Raises:
        ModelError: it cannot be copied.
    """
    if not is_frozen(model):
        return model
    copy = copied(model)
    thaw(copy)
    return copy
