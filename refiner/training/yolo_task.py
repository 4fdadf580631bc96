"""Detection with a network of ultralytics: its own loss, mAP50-95, and a teacher for its raw maps.

A batch is a pair: images N x 3 x H x W from 0 to 1, and a mapping of ``cls`` (M x 1), ``bboxes`` (M
x 4: centre, width and height, as shares of the image) and ``batch_idx`` (M), as
:func:`refiner.data.yolo_data.yolo_data` gives it.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import nn
from torchvision.ops import box_convert

from refiner.core.errors import ConfigError
from refiner.core.surgery import copied
from refiner.core.ultralytics_models import hyperparameters, require_ultralytics
from refiner.training.dense_maps import classes_apart, draw_classes, draw_signs, seen_by
from refiner.training.mean_precision import add_image, empty_counts, mean_precision
from refiner.training.task import Classification

_Batch: TypeAlias = tuple[torch.Tensor, dict[str, torch.Tensor]]
_LEAST_CONFIDENCE, _OVERLAP, _MOST = 0.001, 0.7, 300
"""Of detections that are scored, as in ultralytics' validator."""
_HEADS = ("Detect",)
"""Of networks that detect; others of their kind also segment, turn boxes, and so on."""
_NO_LIMIT = 1e9
"""Seconds: with a limit, detections would depend on how fast the machine is."""


class YoloDetection:
    """A :class:`refiner.Task` for a detector of ultralytics.

    Args:
        model: the network, such as ``YOLO("best.pt").model``. It is left as it is.

    Raises:
        ConfigError: the network is no detector of ultralytics.
    """

    metric = "mAP50-95"

    def __init__(self, model: nn.Module) -> None:
        require_ultralytics()
        layers: Any = getattr(model, "model", None)
        head: Any = layers[-1] if isinstance(layers, nn.Sequential) else None
        if type(head).__name__ not in _HEADS:
            raise ConfigError(
                "this task is for detectors of ultralytics, and the model is a "
                f"{type(model).__name__}. Choose another task."
            )
        if getattr(head, "one2one_cv2", None) is not None:
            raise ConfigError(
                "the network has two heads, as YOLO26 and YOLOv10 have, and one of them predicts. "
                "This task cannot compare these yet. Give one with a single head, such as YOLO11."
            )
        self.classes, self.bins = int(head.nc), int(head.reg_max)
        original: Any = copied(model).cpu()
        original.args = hyperparameters(model)
        self._original = original
        self._losses: dict[torch.device, Any] = {}

    def check_classes(self, names: Sequence[str], data: str) -> None:
        """Raise a ConfigError unless the network has a class for each of the data's names."""
        if len(names) != self.classes:
            raise ConfigError(
                f"the model has {self.classes} classes, and {data} has {len(names)}. Name the data "
                "that the model was trained on."
            )

    def loss(self, model: nn.Module, batch: _Batch) -> torch.Tensor:
        """Return the loss of ultralytics' training: boxes, classes and distances, for an image."""
        images, truth = batch
        output = model(images)
        parts, _ = self._loss_on(images.device)(output, {**truth, "img": images})
        total: torch.Tensor = parts.sum() / len(images)
        return total

    def run(self, model: nn.Module, batch: _Batch) -> None:
        """Call the model on a batch, which needs no labels."""
        _call(model, batch[0])

    def measure(self, model: nn.Module, batch: _Batch) -> torch.Tensor:
        """Return the counts of :mod:`refiner.training.mean_precision`, flat."""
        images, truth = batch
        found = self._detections(_call(model, images))
        boxes = box_convert(truth["bboxes"], "cxcywh", "xyxy")
        height, width = images.shape[2:]
        boxes = boxes * boxes.new_tensor([width, height, width, height])
        counts = empty_counts(self.classes)
        for i, each in enumerate(found):
            own = truth["batch_idx"].view(-1) == i
            add_image(counts, each, torch.cat([boxes[own], truth["cls"].view(-1, 1)[own]], dim=1))
        return counts.flatten().to(images.device if images.device.type != "mps" else "cpu")

    def score(self, sums: torch.Tensor) -> float:
        """Return mAP50-95, 0 to 1."""
        return mean_precision(sums.reshape(self.classes, -1).double().cpu())

    def compared(self, output: Any) -> torch.Tensor:
        """Return the raw maps of an output in either mode, N x (classes + 4 bins) x anchors.

        These are the logits of the classes, then those of the distances to the four sides.
        """
        raw = output[1] if isinstance(output, tuple | list) else output
        return torch.cat([raw["scores"], raw["boxes"]], dim=1)

    def divergence(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the divergence of raw maps from a teacher's, a scalar in nats.

        It is that of the classes of all anchors, and that of the distances where the teacher sees
        an object, over the number of anchors that see one (:mod:`refiner.training.dense_maps`).
        """
        (ours, sides), (theirs, target_sides) = self._parts(output), self._parts(target)
        seen, number = seen_by(theirs)
        classes = classes_apart(ours, theirs)
        if self.bins == 1:  # distances themselves
            apart = (sides - target_sides).square().sum(dim=2)
        else:
            ours_log, theirs_log = sides.log_softmax(dim=2), target_sides.log_softmax(dim=2)
            apart = (theirs_log.exp() * (theirs_log - ours_log)).sum(dim=2)
        whole = classes.sum() + (seen * apart.mean(dim=1)).sum()
        return whole.clamp(min=0.0) / number  # it is never negative, but for rounding

    def fisher_draw(self, output: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return ``r`` of the shape of raw maps, so that a small change ``dz`` of these costs
        ``1/2 E[(r . dz)^2]`` of a sample's agreement.
        """
        scores, sides = self._parts(output)
        seen, number = seen_by(scores)
        classes = draw_classes(scores, generator)
        each = torch.Size((len(sides), 4, 1, sides.shape[3]))
        if self.bins == 1:
            of_sides = draw_signs(each, generator).to(sides)
        else:
            uniform = torch.rand(each, generator=generator).to(sides)
            of_bins = sides.softmax(dim=2)
            which = (of_bins.cumsum(dim=2) < uniform).sum(dim=2, keepdim=True)
            drawn = torch.zeros_like(sides).scatter_(2, which.clamp(max=self.bins - 1), 1.0)
            of_sides = drawn - of_bins
        of_sides = of_sides * (seen / 4).sqrt()[:, None, None]
        whole = torch.cat([classes, of_sides.flatten(1, 2)], dim=1)
        return whole * (len(output) / number).sqrt()

    def _parts(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits of the classes, and of the distances, N x 4 x bins x anchors."""
        scores, sides = maps.split([self.classes, 4 * self.bins], dim=1)
        return scores, sides.unflatten(1, (4, self.bins))

    def _loss_on(self, device: torch.device) -> Any:
        if device not in self._losses:
            self._losses[device] = self._original.to(device).init_criterion()
            self._original.cpu()
        return self._losses[device]

    def _detections(self, output: Any) -> list[torch.Tensor]:
        from ultralytics.utils.nms import non_max_suppression

        found: list[torch.Tensor] = non_max_suppression(
            output[0].detach().float(), _LEAST_CONFIDENCE, _OVERLAP, multi_label=True,
            max_det=_MOST, max_time_img=_NO_LIMIT, nc=self.classes,
        )  # fmt: skip
        return found


class YoloClassification(Classification):
    """Classification with a network of ultralytics, for images from 0 to 1 and labels N.

    In eval mode such a network gives probabilities and logits; logits are compared.
    """

    def compared(self, output: Any) -> torch.Tensor:
        """Return the logits of an output in either mode, N x C."""
        logits: torch.Tensor = output[1] if isinstance(output, tuple | list) else output
        return logits


def _call(model: nn.Module, images: torch.Tensor) -> Any:
    """Call a network in its own precision: in bfloat16, boxes would lie on a grid of 4 pixels.

    The head would also keep its anchors in that precision.
    """
    with torch.autocast(images.device.type, enabled=False):
        return model(images)
