"""The score of a task that has no other measure than a loss."""

import torch


class MeanLoss:
    """Scores a network by the mean loss of a sample with a minus; higher is better."""

    metric = "minus loss"

    def sums_of(self, loss: torch.Tensor, samples: int) -> torch.Tensor:
        """Return (sum of the losses, number of samples) for the mean loss of a batch."""
        loss = loss.detach().double()
        return torch.stack([loss * samples, torch.full_like(loss, samples)])

    def score(self, sums: torch.Tensor) -> float:
        """Return the mean loss of a sample with a minus."""
        return -float(sums[0] / sums[1])
