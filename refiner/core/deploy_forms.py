"""Models whose modules change to a cheaper form for deployment, such as RepVGG."""

from torch import nn

from refiner.core.layers import is_norm

_METHODS = ("reparameterize", "switch_to_deploy", "fuse")
_ON_THEIR_OWN = ("ultralytics", "torch")
"""Packages whose methods go on working after a refinement."""


def deploy_note(model: nn.Module) -> str | None:
    """Return a note for a model that has yet to change its form; None for any other.

    Such a method computes one conv from the weights of several. It fails where one of them has been
    replaced, and the budget would count branches that go away.
    """
    for name, module in model.named_modules():
        if not name or type(module).__module__.partition(".")[0] in _ON_THEIR_OWN:
            continue
        method = next((m for m in _METHODS if callable(getattr(type(module), m, None))), None)
        if method is not None and any(map(is_norm, module.modules())):
            return (
                f"{name} has a method {method}, which merges layers for deployment. If you deploy "
                "the merged model, refine that: call the method first"
            )
    return None
