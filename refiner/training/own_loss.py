"""A task whose loss is the model's own, as models of transformers have one."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from refiner.core.batches import batch_size, output_of
from refiner.core.contents import tensors_in
from refiner.core.errors import DataError
from refiner.core.types import Batch
from refiner.training.mean_loss import MeanLoss


class OwnLoss(MeanLoss):
    """The loss that a model gives for a batch with labels.

    A batch is a mapping of the model's keyword arguments, labels among them. The output is a
    mapping with ``loss``, a scalar that is the mean over the samples, and the predictions. The
    score is the loss with a minus. Predictions are compared with a teacher's by squared error.
    """

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the model's loss, a scalar.

        Raises:
            DataError: the batch is no mapping, or the model gives no loss for it.
        """
        if not isinstance(batch, Mapping):
            raise DataError(
                f"a batch is a {type(batch).__name__}. For the model's own loss, give mappings of "
                "its arguments, labels among them."
            )
        output = model(**batch)
        loss = output.get("loss") if isinstance(output, Mapping) else None
        if not isinstance(loss, torch.Tensor):
            raise DataError(
                f"the model gives no loss for a batch of {', '.join(map(str, batch))}. Name the "
                "labels as its forward does, or choose another task."
            )
        return loss.mean()  # of several processes, in wrappers that keep them apart

    def measure(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return (sum of the losses, number of samples)."""
        loss, labels = self.loss(model, batch), batch.get("labels")
        return self.sums_of(loss, batch_size(dict(batch) if labels is None else {"labels": labels}))

    def run(self, model: nn.Module, batch: Batch) -> None:
        """Call the model on a batch, which needs no labels."""
        if isinstance(batch, Mapping):  # there may be labels of several kinds
            model(**{name: value for name, value in batch.items() if not name.endswith("labels")})
        else:
            output_of(model, batch)

    def compared(self, output: Any) -> torch.Tensor:
        """Return the logits of an output, or else its first tensor that is no loss.

        Raises:
            DataError: it has none.
        """
        if isinstance(output, Mapping):
            if isinstance(output.get("logits"), torch.Tensor):
                logits: torch.Tensor = output["logits"]
                return logits
            output = [value for name, value in output.items() if name != "loss"]
        found = [tensor for tensor in tensors_in(output) if tensor.dim() > 1]
        if not found:
            raise DataError("the model's output has no tensor to compare with a teacher's")
        return found[0]
