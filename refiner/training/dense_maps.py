"""The divergence of a detector's dense maps from a teacher's, and draws that estimate it.

Each anchor has the log-odds of some classes, and numbers for the sides of a box. Background is most
of an image, so boxes count where the teacher sees an object (Zheng et al., Localization
Distillation for Dense Object Detection, 2022). Sums are divided by the number of such anchors.

Suffixes: N images, K classes, A anchors.
"""

import torch
import torch.nn.functional as F


def seen_by(odds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how surely each anchor sees an object, N x A, and the sum of it, 1 at least.

    Args:
        odds: log-odds of the classes, N x K x A.
    """
    seen = odds.sigmoid().amax(dim=1)
    return seen, seen.sum().clamp(min=1.0)


def classes_apart(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Return the divergence of each class from the teacher's, in nats, N x K x A.

    Args:
        ours: log-odds of the classes, N x K x A.
        theirs: those of the teacher.
    """
    share = theirs.sigmoid()
    yes = share * (F.logsigmoid(theirs) - F.logsigmoid(ours))
    return yes + (1 - share) * (F.logsigmoid(-theirs) - F.logsigmoid(-ours))


def draw_classes(odds: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return ``r`` of the shape of log-odds, so that a small change ``dz`` of these costs ``1/2
    E[(r . dz)^2]``.
    """
    share = odds.sigmoid()
    drawn = torch.rand(odds.shape, generator=generator).to(odds)
    return (drawn < share).to(odds) - share


def draw_signs(shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """Return the square root of 2 with either sign, in a shape: draws for a squared error."""
    uniform = torch.rand(shape, generator=generator)
    return ((uniform < 0.5).float() * 2 - 1) * 2**0.5


def log_odds(logits: torch.Tensor) -> torch.Tensor:
    """Return the log-odds of each class of a softmax over the last dimension."""
    whole = logits.logsumexp(dim=-1, keepdim=True)
    best = logits.argmax(dim=-1, keepdim=True)
    others = logits.scatter(-1, best, -torch.inf).logsumexp(dim=-1, keepdim=True)
    log_share = logits - whole
    # All but the best class have at most a half, so 1 - share is far from 0.
    log_rest = torch.log1p(-log_share.clamp(max=-0.5).exp())
    log_rest = log_rest.scatter(-1, best, others - whole)
    return log_share - log_rest
