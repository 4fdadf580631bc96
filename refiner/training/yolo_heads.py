"""The raw maps of a head of ultralytics, and how far they are from a teacher's.

Maps are N x rows x anchors. :func:`maps_of` chooses the class for a head: each says which rows its
maps have, how they diverge, and how random numbers for a search are drawn.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from refiner.core.errors import ConfigError

_KINDS = {"Detect": "detect", "v10Detect": "detect"}
"""What a head is for, by the name of its class."""


def maps_of(head: Any, model: str) -> "BoxMaps":
    """Return the maps of a head.

    Args:
        head: the last layer of a network of ultralytics.
        model: what the network is, for a message.

    Raises:
        ConfigError: the head is none of a detector, or is fused.
    """
    if type(head).__name__ not in _KINDS:
        raise ConfigError(
            f"this task is for detectors of ultralytics, and the model is a {model}. Choose "
            "another task."
        )
    if head.cv2 is None:
        raise ConfigError(
            "the network is fused, so it lacks a head that training needs. Give the checkpoint "
            "that training wrote."
        )
    return BoxMaps(head)


class BoxMaps:
    """Logits of the classes, then those of the distances to the four sides.

    A head without bins gives the distances themselves.
    """

    def __init__(self, head: Any) -> None:
        self.classes, self.bins = int(head.nc), int(head.reg_max)

    def compared(self, raw: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the maps of a head's raw output, N x (classes + 4 bins) x anchors."""
        return torch.cat([raw["scores"], raw["boxes"]], dim=1)

    def divergence(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the divergence of maps from a teacher's, a scalar in nats.

        It is that of the classes of all anchors, and that of the distances where the teacher sees
        an object (Zheng et al., Localization Distillation for Dense Object Detection, 2022), over
        the number of anchors that see one.
        """
        (ours, sides), (theirs, target_sides) = self._parts(output), self._parts(target)
        seen, number = _seen(theirs)
        share = theirs.sigmoid()
        classes = share * (F.logsigmoid(theirs) - F.logsigmoid(ours))
        classes = classes + (1 - share) * (F.logsigmoid(-theirs) - F.logsigmoid(-ours))
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
        seen, number = _seen(scores)
        share = scores.sigmoid()
        drawn = torch.rand(scores.shape, generator=generator).to(scores)
        classes = (drawn < share).to(scores) - share
        uniform = torch.rand(
            (len(sides), 4, 1, sides.shape[3]), generator=generator
        ).to(sides)  # fmt: skip
        if self.bins == 1:
            of_sides = ((uniform < 0.5).to(sides) * 2 - 1) * 2**0.5
        else:
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


def _seen(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how surely each anchor sees an object, N x anchors, and the sum, 1 at least."""
    seen = scores.sigmoid().amax(dim=1)
    return seen, seen.sum().clamp(min=1.0)
