"""Build models of torchvision by name, with a head for any number of classes."""

import inspect
from typing import Any

from torch import nn

from refiner.core.errors import ModelError
from refiner.core.surgery import replace_modules
from refiner.core.torchvision_detectors import detector_in


def build_torchvision(name: str, *, pretrained: bool = False, **arguments: Any) -> Any:
    """Return a model of torchvision.

    With published weights, a head for another number of classes starts with new weights.

    Raises:
        ModelError: it is a detector, whose head is of several layers, and its published weights
            are for another number of classes.
    """
    from torchvision.models import get_model_builder, get_model_weights

    builder = get_model_builder(name)
    if not pretrained:
        if "weights_backbone" in inspect.signature(builder).parameters:
            arguments.setdefault("weights_backbone", None)
        return builder(**arguments)
    classes = arguments.pop("num_classes", None)
    weights: Any = get_model_weights(name).DEFAULT
    model = builder(weights=weights, **arguments)
    published = len(weights.meta["categories"])
    if classes is None or classes == published:
        return model
    if detector_in(model) is not None:
        raise ModelError(
            f"the published weights of {name} are for {published} classes, and {classes} are "
            "needed. Train it on your data first, and give --weights FILE."
        )
    heads: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear) and module.out_features == published:
            heads[path] = nn.Linear(module.in_features, classes, module.bias is not None)
        elif isinstance(module, nn.Conv2d) and module.out_channels == published:
            size: Any = module.kernel_size
            heads[path] = nn.Conv2d(module.in_channels, classes, size, bias=module.bias is not None)
    replace_modules(model, heads)
    return model
