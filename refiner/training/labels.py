"""Labels of a batch in the form that a loss takes, whatever integers or shares a loader gives."""

import torch
import torch.nn.functional as F

from refiner.core.contents import Nested
from refiner.core.errors import DataError

_ROUNDING = 0.02
"""Most that the shares of a sample, in half precision perhaps, may differ from 1 in sum."""


def as_tensor(target: Nested, output: object) -> torch.Tensor:
    """Return a batch's target as a tensor, on the device of the output.

    Raises:
        DataError: it is not a tensor, an array or a list of numbers.
    """
    if isinstance(target, torch.Tensor):
        return target
    device = output.device if isinstance(output, torch.Tensor) else None
    try:
        return torch.as_tensor(target, device=device)
    except (TypeError, ValueError, RuntimeError):
        held = f" of {type(target[0]).__name__}" if isinstance(target, list | tuple) else ""
        raise DataError(
            f"the target of a batch is a {type(target).__name__}{held}, and the built-in tasks "
            "take a tensor. Pass a task of your own (see refiner.Task)."
        ) from None


def class_targets(output: object, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits N x C in float32, and labels: int64 of shape N, or shares N x C in float32.

    Integers of any dtype are taken, of shape N or N x 1. Real numbers of the shape of the output,
    and one-hot integers, are shares of the classes, as mixup gives them.

    Raises:
        DataError: the output or the labels are of another kind.
    """
    if not isinstance(output, torch.Tensor) or output.dim() != 2 or len(output) != len(labels):
        raise unfit("classification", "an output of shape (batch, classes)", output)
    if output.shape[1] == 1:
        raise DataError(
            "classification needs an output for each class. The model gives one number per sample. "
            "Give the model two outputs, or pass a task of your own (see refiner.Task)."
        )
    if labels.shape == output.shape and labels.dtype is not torch.bool:
        shares = labels.float()
        if not bool(((shares.sum(dim=1) - 1).abs() <= _ROUNDING).all()):
            raise DataError(
                f"classification needs shares that add up to 1, in labels of shape "
                f"{tuple(labels.shape)}. For several classes per sample, pass a task of your own "
                "(see refiner.Task)."
            )
        return output.float(), shares
    if labels.shape == (len(output), 1):
        labels = labels[:, 0]
    if labels.dim() != 1 or labels.is_floating_point() or labels.is_complex():
        raise DataError(
            "classification needs one integer label per sample, or a share of each class. The "
            f"loader gives {labels.dtype} of shape {tuple(labels.shape)}. Give class numbers."
        )
    return output.float(), labels.long()


def class_numbers(labels: torch.Tensor) -> torch.Tensor:
    """Return the class of each sample, N: the one with the largest share where there are shares."""
    return labels.argmax(dim=1) if labels.dim() == 2 else labels


def pixel_targets(output: object, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits N x C x H x W in float32, resized to the labels, and labels N x H x W in int64.

    Integers of any dtype are taken, of shape N x H x W or N x 1 x H x W.

    Raises:
        DataError: the output or the labels are of another kind.
    """
    if labels.dim() == 4 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if (
        not isinstance(output, torch.Tensor)
        or output.dim() != 4
        or labels.dim() != 3
        or labels.is_floating_point()
        or labels.is_complex()
    ):
        raise unfit(
            "segmentation",
            "an output of shape (batch, classes, height, width), and integer labels of shape "
            "(batch, height, width)",
            output,
            labels,
        )
    logits = output.float()
    if logits.shape[2:] != labels.shape[1:]:
        logits = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
    return logits, labels.long()


def check_pixels(labels: torch.Tensor, classes: int, ignore_index: int) -> torch.Tensor:
    """Return which pixels count: those whose label is not ``ignore_index``.

    Raises:
        DataError: a label that counts is not a class of the model.
    """
    known = labels != ignore_index
    wrong = known & ((labels >= classes) | (labels < 0))
    if bool(wrong.any()):
        label = int(labels[wrong][0])
        hint = " An int8 mask cannot hold 255; use uint8 or int64." if label == -1 else ""
        raise DataError(
            f"there is a label {label}, but the model has {classes} classes. Give numbers from 0 "
            f"to {classes - 1}, or {ignore_index} for pixels to ignore.{hint}"
        )
    return known


def unfit(task: str, needed: str, output: object, labels: torch.Tensor | None = None) -> DataError:
    """Return the error for an output, or labels, that a task cannot use."""
    shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    theirs = "" if labels is None else f", and the loader {labels.dtype} {tuple(labels.shape)}"
    return DataError(
        f"{task} needs {needed}. The model gives {shape}{theirs}. Pass another task, or one of "
        "your own (see refiner.Task)."
    )
