"""The raw maps of a head of ultralytics that segments, and how far they are from a teacher's.

The mask of an anchor is a sum of prototypes, weighted with the anchor's coefficients.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from refiner.training.dense_maps import classes_apart, draw_classes, seen_by
from refiner.training.yolo_boxes import BoxMaps

_MOST = 32
"""Anchors of an image whose masks are compared: those that the teacher is surest of."""
_FOLD = 2
"""Prototypes have so many pixels for an anchor of the finest level, in height and in width."""


class MaskMaps(BoxMaps):
    """The maps of :class:`BoxMaps`, then coefficients of masks, then prototypes.

    Prototypes have more pixels than there are anchors, so 2 x 2 of them are folded into 4 rows.
    Zeros fill up the anchors of coarser levels.
    """

    metric = "mask mAP50-95"
    masks = True

    def __init__(self, head: Any) -> None:
        super().__init__(head)
        self.prototypes = int(head.nm)

    def compared(self, raw: Mapping[str, Any]) -> torch.Tensor:
        """Return the maps, N x (classes + 4 bins + 5 prototypes) x anchors."""
        maps, prototypes = super().compared(raw), raw["proto"]
        if isinstance(prototypes, tuple):  # YOLO26 in train mode: then maps of classes
            prototypes = prototypes[0]
        folded = F.pixel_unshuffle(prototypes, _FOLD).flatten(2)
        folded = F.pad(folded, (0, maps.shape[2] - folded.shape[2]))
        return torch.cat([maps, raw["mask_coefficient"], folded], dim=1)

    def divergence(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the divergence of maps from a teacher's, a scalar in nats.

        That of masks is added: the sum over pixels by the area of the teacher's mask, as a mean
        over the anchors that see an object.
        """
        ours, coefficients, prototypes = self._split(output)
        theirs, target_coefficients, target_prototypes = self._split(target)
        chosen, weight = self._chosen(theirs)
        logits = _logits(coefficients, prototypes, chosen)
        target_logits = _logits(target_coefficients, target_prototypes, chosen)
        apart = classes_apart(logits, target_logits).sum(dim=2) / _area(target_logits)
        masks = (weight * apart).sum().clamp(min=0.0)
        return super().divergence(ours, theirs) + masks

    def draw(self, output: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return ``r`` of the shape of maps, so that a small change ``dz`` of these costs
        ``1/2 E[(r . dz)^2]`` of a sample's divergence.
        """
        maps, coefficients, prototypes = self._split(output)
        chosen, weight = self._chosen(maps)
        logits = _logits(coefficients, prototypes, chosen)
        scale = (len(output) * weight / _area(logits)).sqrt()
        drawn = draw_classes(logits, generator) * scale[:, :, None]  # N x chosen x pixels
        of_chosen = torch.einsum("nap,nkp->nka", drawn, prototypes)
        of_coefficients = torch.zeros_like(coefficients).scatter_(
            2, _spread(chosen, coefficients), of_chosen
        )
        picked = coefficients.gather(2, _spread(chosen, coefficients))
        of_prototypes = torch.einsum("nap,nka->nkp", drawn, picked)
        of_prototypes = of_prototypes.unflatten(2, (_FOLD**2, -1)).flatten(1, 2)
        return torch.cat([super().draw(maps, generator), of_coefficients, of_prototypes], dim=1)

    def boxes(self, output: Any) -> torch.Tensor:
        """Return the boxes of a network's output in eval mode, with coefficients of masks."""
        found: torch.Tensor = output[0][0]
        return found

    def _split(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the maps of boxes, the coefficients N x K x anchors, and the prototypes, N x K x
        pixels.
        """
        k = self.prototypes
        boxes, coefficients, folded = maps.split([maps.shape[1] - 5 * k, k, 4 * k], dim=1)
        return boxes, coefficients, folded.unflatten(1, (k, _FOLD**2)).flatten(2)

    def _chosen(self, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the numbers of the anchors whose masks count, N x chosen, and by how much."""
        seen, _ = seen_by(boxes[:, : self.classes])
        weight, chosen = seen.topk(min(_MOST, seen.shape[1]), dim=1)
        return chosen, weight / weight.sum().clamp(min=1.0)


def _spread(chosen: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """Return numbers of anchors N x chosen for each row of coefficients."""
    return chosen[:, None].expand(-1, coefficients.shape[1], -1)


def _logits(
    coefficients: torch.Tensor, prototypes: torch.Tensor, chosen: torch.Tensor
) -> torch.Tensor:
    """Return the logits of the masks of chosen anchors, N x chosen x pixels."""
    picked = coefficients.gather(2, _spread(chosen, coefficients))
    return torch.einsum("nka,nkp->nap", picked, prototypes)


def _area(logits: torch.Tensor) -> torch.Tensor:
    """Return the area of masks in pixels, 1 at least, N x chosen; what fills up does not count."""
    return logits.sigmoid().masked_fill(logits == 0, 0.0).sum(dim=2).clamp(min=1.0)


def mask_overlap(
    prototypes: torch.Tensor,
    found: torch.Tensor,
    numbers: torch.Tensor,
    objects: int,
    size: tuple[int, int],
) -> torch.Tensor:
    """Return the intersection over union of true masks and those found, M x N.

    Args:
        prototypes: of the image, K x h x w.
        found: detections N x (6 + K): x1, y1, x2, y2, confidence, class, coefficients.
        numbers: of the true object that each pixel shows, 1 to M, or 0: H x W.
        objects: how many there are, M.
        size: height and width of the image.
    """
    from ultralytics.utils.metrics import mask_iou
    from ultralytics.utils.ops import process_mask

    ours = process_mask(prototypes.float(), found[:, 6:], found[:, :4], size)
    theirs = F.one_hot(numbers.long(), objects + 1).permute(2, 0, 1)[1:].float()
    if len(theirs) and theirs.shape[1:] != ours.shape[1:]:
        theirs = F.interpolate(theirs[None], ours.shape[1:], mode="bilinear")[0].gt(0.5).float()
    overlap: torch.Tensor = mask_iou(theirs.flatten(1), ours.flatten(1).float())
    return overlap
