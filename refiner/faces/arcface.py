"""ArcFace: the additive angular margin loss that trains an embedding, with its head.

Source: Deng, Guo, Xue and Zafeiriou, "ArcFace: Additive Angular Margin Loss for Deep Face
Recognition", arXiv 1801.07698 (2018), equation 3, and the code its authors published (insightface).
Suffixes: N images of a batch, D numbers of an embedding, K identities.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from refiner.core.batches import output_and_target
from refiner.core.errors import ConfigError, DataError, ModelError, one_line
from refiner.core.inputs import ExampleInput, call
from refiner.core.modes import mode
from refiner.core.randomness import derive_seed
from refiner.core.types import Batch

EMBEDDING_SIZE = 512
"""D of the source, section 3.1."""
_LEAST_SQUARED_SINE = 1e-7
"""About the spacing of float32 numbers at 1; the sine of a nonzero angle lies above its root."""


class ArcFace(nn.Module):
    """A task and its head: logits s cos(theta), for the target s cos(theta + m), and cross entropy.

    theta is the angle between an embedding and the weights of an identity. A model under this task
    returns embeddings N x D, and a batch holds the numbers of their identities, N. The head is
    trained with the model and is not needed after that.

    Args:
        identities: K, their number.
        embedding_size: D.
        scale: s; by default that of the source.
        margin: m, in radians, 0 to pi / 2; by default that of the source.
        seed: draws the weights K x D, normal with mean 0 and standard deviation 0.01.

    Raises:
        ConfigError: a number is out of its range.
    """

    metric = "identification"

    def __init__(
        self,
        identities: int,
        embedding_size: int,
        *,
        scale: float = 64.0,
        margin: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, size in (("identities", identities), ("embedding_size", embedding_size)):
            if size < 1:
                raise ConfigError(f"{name} is {size}. Give 1 or more.")
        if not 0 < scale < math.inf:
            raise ConfigError(f"scale is {scale}. Give a number above 0.")
        if not 0 <= margin <= math.pi / 2:  # beyond it the loss would fall again as theta grows
            raise ConfigError(f"margin is {margin}. Give radians, 0 to pi / 2.")
        self.scale, self.margin = scale, margin
        generator = torch.Generator().manual_seed(derive_seed(seed, "arcface"))
        weight_KD = torch.empty(identities, embedding_size).normal_(0, 0.01, generator=generator)
        self.weight = nn.Parameter(weight_KD)

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the mean cross entropy of a batch, with the margin.

        Raises:
            DataError: the output is not N x D, or the labels are not N integers below K.
        """
        embeddings_ND, labels_N = self._run(model, batch)
        with torch.autocast(embeddings_ND.device.type, enabled=False):
            cosines_NK = self._cosines(embeddings_ND)
            target_N1 = labels_N[:, None]
            with_margin_N1 = _with_margin(cosines_NK.gather(1, target_N1), self.margin)
            logits_NK = self.scale * cosines_NK.scatter(1, target_N1, with_margin_N1)
            return F.cross_entropy(logits_NK, labels_N)

    def measure(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return (number of images whose own identity is the nearest, number of images).

        Raises:
            DataError: as :meth:`loss`.
        """
        embeddings_ND, labels_N = self._run(model, batch)
        with torch.autocast(embeddings_ND.device.type, enabled=False):
            right = (self._cosines(embeddings_ND).argmax(dim=1) == labels_N).sum()
        return torch.stack([right, torch.full_like(right, len(labels_N))])

    def score(self, sums: torch.Tensor) -> float:
        """Return the share of images whose own identity is the nearest, 0 to 1."""
        return float(sums[0] / sums[1])

    def _cosines(self, embeddings_ND: torch.Tensor) -> torch.Tensor:
        # float32 whatever the model computes in: 16 bits are too few for a cosine near 1.
        return F.normalize(embeddings_ND.float()) @ F.normalize(self.weight.float()).T

    def _run(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a batch's embeddings, N x D, and its labels, int64, N."""
        output, labels = output_and_target(model, batch)
        identities, size = self.weight.shape
        if not isinstance(labels, torch.Tensor) or labels.dim() != 1 or not _is_integer(labels):
            raise DataError(
                f"ArcFace wants one integer label per image, the loader gives {_kind(labels)}. "
                "Give numbers of identities."
            )
        if not isinstance(output, torch.Tensor) or output.shape != (len(labels), size):
            raise DataError(
                f"ArcFace wants embeddings of shape ({len(labels)}, {size}), the model gives "
                f"{_kind(output)}. Give it a last layer of {size} outputs, or ArcFace its size."
            )
        if bool(((labels < 0) | (labels >= identities)).any()):
            raise DataError(
                f"there are labels {int(labels.min())} to {int(labels.max())}, but ArcFace has "
                f"{identities} identities. Give labels 0 to {identities - 1}, or a larger head."
            )
        return output, labels.long()


def arcface_for(
    model: nn.Module, example_input: ExampleInput, classes: int, *, seed: int = 0
) -> ArcFace:
    """Return a head for a model; its size is that of the embeddings of ``example_input``.

    Args:
        model: any; it is not changed.
        example_input: a tensor, or a tuple or mapping of them.
        classes: number of identities.
        seed: draws the weights.

    Raises:
        ConfigError: the model's output is not an embedding N x D.
        ModelError: the model fails on the input.
    """
    with torch.no_grad(), mode(model, False):
        try:
            output = call(model, example_input)
        except Exception as error:
            raise ModelError(
                f"the model fails on an input of the data: {one_line(error)}. Give images that fit "
                "it, or another --image-size."
            ) from error
    if not isinstance(output, torch.Tensor) or output.dim() != 2:
        raise ConfigError(
            f"ArcFace wants embeddings of shape (batch, size), the model gives {_kind(output)}. "
            "Give a model whose output is the embedding."
        )
    return ArcFace(classes, output.shape[1], seed=seed)


def _with_margin(cosine: torch.Tensor, margin: float) -> torch.Tensor:
    """Return cos(theta + margin) for cos(theta), of any shape, and its continuation beyond pi.

    Where theta + margin exceeds pi, the cosine would rise again. There it is cos(theta) - m sin(m),
    as in the published code with ``easy_margin=False``: falling, and at most -1. This leaves a
    minimum in which nothing is learned: every embedding is opposite to all identities, at a loss of
    s m sin(m) + log K (22.5 for 1,345 identities). A learning rate too large for the batch leads
    there.
    """
    # The root has no finite slope at zero, where cos(theta) is 1 or -1.
    sine = ((1 - cosine) * (1 + cosine)).clamp(min=_LEAST_SQUARED_SINE).sqrt()
    shifted = cosine * math.cos(margin) - sine * math.sin(margin)
    return torch.where(cosine >= -math.cos(margin), shifted, cosine - margin * math.sin(margin))


def _is_integer(labels: torch.Tensor) -> bool:
    return not (labels.is_floating_point() or labels.is_complex() or labels.dtype is torch.bool)


def _kind(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return type(value).__name__
