"""Raw maps of a torchvision detector: the outputs of its heads, before boxes are chosen among them.

Detections vary in number and carry no gradient from the choice, so networks are compared by these
maps. Each anchor has four numbers of its box, in the units of the head's own loss, and for each
class the log-odds of the score that the detector would give it. The background is no class.

The second stage of an R-CNN reads the proposals of the first, which differ between two networks.
So it is compared on a fixed grid of boxes. There, each box and class is an anchor of one class, as
is each anchor of the first stage. A grid costs 3 % of a forward pass, or 13 % where each
box has convs of its own.

Suffixes: N images, K classes, A anchors, G boxes of a grid.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.ssd import SSD

from refiner.core.torchvision_detectors import ONE_STAGE
from refiner.training.dense_maps import log_odds

SIDES = 4
"""Numbers of a box; they come first in the maps."""
_SHARES = (2, 4, 8)
"""Parts of the image's height and width that the boxes of the grid have; they overlap by half."""
_NEAR_ONE = -1e-6
"""Largest logarithm of a score: its log-odds stay finite."""


class RawMaps(nn.Module):
    """The part of a detector from its backbone to its heads; its output is the raw maps.

    It takes images N x 3 x H x W as the detector's ``transform`` prepares them. Its hooks run in
    each forward pass of the detector as well, though nothing calls this module then.

    Args:
        detector: of torchvision.
    """

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.detector = detector
        self.head = detector.head if isinstance(detector, ONE_STAGE) else detector.rpn.head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the maps, N x (4 + K) x A."""
        features = _named(self.detector.backbone(images))
        return self._maps(features, self.head(list(features.values())), images.shape)

    def register_forward_pre_hook(self, hook: Any, **options: Any) -> Any:
        """Register a hook that gets the prepared images."""
        return self.detector.backbone.register_forward_pre_hook(hook, **options)

    def register_forward_hook(self, hook: Any, **options: Any) -> Any:
        """Register a hook that gets the maps; it cannot change them."""
        seen: dict[str, Any] = {}

        def keep(_module: nn.Module, args: tuple[torch.Tensor], features: Any) -> None:
            seen.update(args=args, features=_named(features))

        def after(_module: nn.Module, _args: object, output: Any) -> None:
            args, features = seen.pop("args"), seen.pop("features")
            hook(self, args, self._maps(features, output, args[0].shape))

        backbone, head = self.detector.backbone, self.head
        return _Handles(
            backbone.register_forward_hook(keep), head.register_forward_hook(after, **options)
        )

    def _maps(self, features: Mapping[str, Any], output: Any, shape: torch.Size) -> torch.Tensor:
        if not isinstance(self.detector, ONE_STAGE):
            return self._two_stages(features, output, shape)
        odds = output["cls_logits"]
        if isinstance(self.detector, SSD):
            odds = log_odds(odds)[..., 1:]
        if isinstance(self.detector, FCOS):
            odds = _of_product(odds, output["bbox_ctrness"])
        return torch.cat([output["bbox_regression"], odds], dim=-1).transpose(1, 2)

    def _two_stages(
        self, features: Mapping[str, Any], output: Any, shape: torch.Size
    ) -> torch.Tensor:
        """Return the maps of both stages, N x 5 x (A + G * K)."""
        levels = zip(*output, strict=True)
        first = [torch.cat([_rows(boxes, SIDES), _rows(odds, 1)], dim=-1) for odds, boxes in levels]
        roi, count = self.detector.roi_heads, shape[0]
        grid = grid_boxes(shape[2], shape[3]).to(first[0])
        sizes = [(shape[2], shape[3])] * count
        pooled = roi.box_roi_pool(features, [grid] * count, sizes)
        with _statistics_kept(roi.box_head):
            logits, boxes = roi.box_predictor(roi.box_head(pooled))
        odds = log_odds(logits)[:, 1:].reshape(count, -1, 1)
        boxes = boxes.unflatten(1, (-1, SIDES))[:, 1:].reshape(count, -1, SIDES)
        second = torch.cat([boxes, odds], dim=-1)
        return torch.cat([*first, second], dim=1).transpose(1, 2)


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Let norms normalise as their mode says, and keep their running statistics.

    These are those of the boxes that a network proposes, and not of the grid.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [(m.momentum, None if m.num_batches_tracked is None else int(m.num_batches_tracked))
            for m in norms]  # fmt: skip
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and count is not None:
                norm.num_batches_tracked.fill_(count)


class _Handles:
    """Handles of several hooks, removed together."""

    def __init__(self, *handles: Any) -> None:
        self._handles = handles

    def remove(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()


def grid_boxes(height: int, width: int) -> torch.Tensor:
    """Return boxes of several sizes that cover an image, G x 4: x1, y1, x2, y2 in pixels."""
    parts = []
    for share in _SHARES:
        begins = torch.arange(2 * share - 1) / (2 * share)
        y, x = torch.meshgrid(begins, begins, indexing="ij")
        parts.append(torch.stack([x, y, x + 1 / share, y + 1 / share], dim=-1).flatten(0, 1))
    return torch.cat(parts) * torch.tensor([width, height, width, height])


def _named(features: Any) -> Mapping[str, Any]:
    """Return the maps of a backbone by name, as a detector names a single one."""
    return {"0": features} if isinstance(features, torch.Tensor) else features


def _rows(level: torch.Tensor, numbers: int) -> torch.Tensor:
    """Return the map of a level, N x (anchors * numbers) x H x W, as N x A x numbers."""
    by_place: torch.Tensor = level.unflatten(1, (-1, numbers)).permute(0, 3, 4, 1, 2)
    return by_place.reshape(len(level), -1, numbers)


def _of_product(classes: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    """Return the log-odds of FCOS's score, the geometric mean of two sigmoids."""
    log_score = (F.logsigmoid(classes) + F.logsigmoid(centre)) / 2
    log_score = log_score.clamp(max=_NEAR_ONE)
    return log_score - torch.log(-torch.expm1(log_score))
