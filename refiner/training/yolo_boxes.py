"""The raw maps of a head of ultralytics that gives boxes, and how far they are from a teacher's."""

from collections.abc import Mapping
from typing import Any

import torch

from refiner.training.dense_maps import classes_apart, draw_classes, draw_signs, seen_by


class BoxMaps:
    """Logits of the classes, then those of the distances to the four sides.

    Maps are N x rows x anchors. A head without bins gives the distances themselves.
    """

    metric = "mAP50-95"
    masks = False
    """Whether labels need masks."""

    def __init__(self, head: Any) -> None:
        self.classes, self.bins = int(head.nc), int(head.reg_max)

    def compared(self, raw: Mapping[str, Any]) -> torch.Tensor:
        """Return the maps of a head's raw output, N x (classes + 4 bins) x anchors."""
        return torch.cat([raw["scores"], raw["boxes"]], dim=1)

    def divergence(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the divergence of maps from a teacher's, a scalar in nats.

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

    def draw(self, output: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return ``r`` of the shape of maps, so that a small change ``dz`` of these costs
        ``1/2 E[(r . dz)^2]`` of a sample's divergence.
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

    def boxes(self, output: Any) -> torch.Tensor:
        """Return the boxes of a network's output in eval mode, before any are suppressed."""
        found: torch.Tensor = output[0]
        return found

    def _parts(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits of the classes, and of the distances, N x 4 x bins x anchors."""
        scores, sides = maps.split([self.classes, 4 * self.bins], dim=1)
        return scores, sides.unflatten(1, (4, self.bins))
