"""Detection with a network of ultralytics: its own loss, mAP50-95, and a teacher for its raw maps.

A batch is a pair: images N x 3 x H x W from 0 to 1, and a mapping of ``cls`` (M x 1), ``bboxes`` (M
x 4: centre, width and height, as shares of the image) and ``batch_idx`` (M), as
:func:`refiner.data.yolo_data.yolo_data` gives it. For a network that segments, it has masks, too.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import nn
from torchvision.ops import box_convert

from refiner.core.errors import ConfigError
from refiner.core.surgery import copied
from refiner.core.ultralytics_models import hyperparameters, require_ultralytics
from refiner.training.mean_precision import add_image, empty_counts, mean_precision
from refiner.training.task import Classification
from refiner.training.yolo_heads import head_of, maps_of
from refiner.training.yolo_masks import mask_overlap

_Batch: TypeAlias = tuple[torch.Tensor, dict[str, torch.Tensor]]
_LEAST_CONFIDENCE, _OVERLAP, _MOST = 0.001, 0.7, 300
"""Of detections that are scored, as in ultralytics' validator."""
_TWO_HEADS = ("one2many", "one2one")
"""Of YOLO26 and YOLOv10: the second one needs no suppression of boxes that overlap."""
_NO_LIMIT = 1e9
"""Seconds: with a limit, detections would depend on how fast the machine is."""


class YoloDetection:
    """A :class:`refiner.Task` for a detector of ultralytics.

    A network with two heads, such as YOLO26, is trained and compared by both. The score is that of
    the head that predicts: the one without suppression of boxes where ``model.end2end`` is true.

    Args:
        model: the network, such as ``YOLO("best.pt").model``. It is left as it is.

    Raises:
        ConfigError: the network is no detector of ultralytics.
    """

    metric: str
    """``mAP50-95``, or ``mask mAP50-95`` where the network segments."""

    def __init__(self, model: nn.Module) -> None:
        require_ultralytics()
        head = head_of(model)
        self._maps = maps_of(model)
        self.metric = self._maps.metric
        self._heads = 2 if getattr(head, "one2one_cv2", None) is not None else 1
        self._end_to_end = bool(getattr(head, "end2end", False))
        self.classes = self._maps.classes
        original: Any = copied(model).cpu()
        original.args = hyperparameters(model)
        original.args.overlap_mask = True  # as the data has them
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
        images, truth = self._checked(batch)
        output = model(images)
        parts, _ = self._loss_on(images.device)(output, {**truth, "img": images})
        total: torch.Tensor = parts.sum() / len(images)
        return total

    def run(self, model: nn.Module, batch: _Batch) -> None:
        """Call the model on a batch, which needs no labels."""
        _call(model, batch[0])

    def measure(self, model: nn.Module, batch: _Batch) -> torch.Tensor:
        """Return the counts of :mod:`refiner.training.mean_precision`, flat."""
        images, truth = self._checked(batch)
        output = _call(model, images)
        height, width = images.shape[2:]
        boxes = box_convert(truth["bboxes"], "cxcywh", "xyxy")
        boxes = torch.cat(
            [boxes * boxes.new_tensor([width, height] * 2), truth["cls"].view(-1, 1)], dim=1
        )
        counts = empty_counts(self.classes)
        for i, each in enumerate(self._detections(output)):
            own, overlap = boxes[truth["batch_idx"].view(-1) == i], None
            if self._maps.masks:
                overlap = mask_overlap(
                    output[0][1][i], each, truth["masks"][i], len(own), (height, width)
                )
            add_image(counts, each, own, overlap)
        return counts.flatten().to(images.device if images.device.type != "mps" else "cpu")

    def score(self, sums: torch.Tensor) -> float:
        """Return mAP50-95, 0 to 1."""
        return mean_precision(sums.reshape(self.classes, -1).double().cpu())

    def compared(self, output: Any) -> torch.Tensor:
        """Return the raw maps of an output in either mode, N x rows x anchors.

        The anchors of a second head follow those of the first.
        """
        raw = output[1] if isinstance(output, tuple | list) else output
        heads = [raw[name] for name in _TWO_HEADS] if self._heads == 2 else [raw]
        return torch.cat([self._maps.compared(each) for each in heads], dim=2)

    def divergence(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the divergence of raw maps from a teacher's, a scalar in nats.

        See :mod:`refiner.training.yolo_heads`. That of two heads is the mean of theirs.
        """
        pairs = zip(self._by_head(output), self._by_head(target), strict=True)
        return torch.stack([self._maps.divergence(*pair) for pair in pairs]).mean()

    def fisher_draw(self, output: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return ``r`` of the shape of raw maps, so that a small change ``dz`` of these costs
        ``1/2 E[(r . dz)^2]`` of a sample's agreement.
        """
        drawn = [self._maps.draw(each, generator) for each in self._by_head(output)]
        return torch.cat(drawn, dim=2) / math.sqrt(self._heads)

    def _by_head(self, maps: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return maps.chunk(self._heads, dim=2)

    def _checked(self, batch: _Batch) -> _Batch:
        if self._maps.masks and "masks" not in batch[1]:
            raise ConfigError(
                "the network segments, and the batches have no masks. Load them with "
                "refiner.load_data(..., masks=True)."
            )
        return batch

    def _loss_on(self, device: torch.device) -> Any:
        if device not in self._losses:
            self._losses[device] = self._original.to(device).init_criterion()
            self._original.cpu()
        return self._losses[device]

    def _detections(self, output: Any) -> list[torch.Tensor]:
        from ultralytics.utils.nms import non_max_suppression

        found: list[torch.Tensor] = non_max_suppression(
            self._maps.boxes(output).detach().float(), _LEAST_CONFIDENCE, _OVERLAP,
            multi_label=True, max_det=_MOST, max_time_img=_NO_LIMIT, nc=self.classes,
            end2end=self._end_to_end,
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
