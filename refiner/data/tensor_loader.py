"""Batches of a small image set that is one tensor on the device and is augmented there."""

import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F

from refiner.core.randomness import derive_seed


class TensorLoader:
    """Batches of (images, labels) from an image set on one device, augmented there.

    Like torch's DataLoader, it draws one seed from torch's global generator when an iteration
    starts. All its randomness comes from a generator with that seed.

    Args:
        images: uint8, N x C x H x W.
        labels: int64, N.
        batch_size: images per batch.
        mean, std: of each channel, on the scale 0 to 1.
        train: shuffle, augment, and drop a last batch that is not full.
        pad: pixels of padding for the random crop in training; 0 means no crop.
        flip: mirror half of the training images from left to right.
    """

    def __init__(
        self,
        images: torch.Tensor,
        labels: torch.Tensor,
        *,
        batch_size: int,
        mean: torch.Tensor,
        std: torch.Tensor,
        train: bool,
        pad: int = 0,
        flip: bool = False,
    ) -> None:
        self.images, self.labels = images, labels
        self.batch_size = min(batch_size, len(images))
        self.mean, self.std = (v.view(1, -1, 1, 1) for v in (mean, std))
        self.train, self.pad, self.flip = train, pad, flip
        self.shuffle = train
        self.rank, self.world = 0, 1

    def to(self, device: torch.device) -> "TensorLoader":
        """Return a loader of the same images on ``device``."""
        moved = copy.copy(self)
        for name in ("images", "labels", "mean", "std"):
            setattr(moved, name, getattr(self, name).to(device))
        return moved

    def mixed(self) -> "TensorLoader":
        """Return a loader of the same images in a new random order each pass."""
        loader = copy.copy(self)
        loader.shuffle = True
        return loader

    def shard(self, rank: int, world: int) -> "TensorLoader":
        """Return a loader of every ``world``-th image, starting with number ``rank``."""
        part = copy.copy(self)
        part.rank, part.world = rank, world
        return part

    def __len__(self) -> int:
        count = len(self.images) // self.world
        if self.train:
            return max(1, count // self.batch_size)
        count = len(range(self.rank, len(self.images), self.world))
        return -(-count // self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        seed = int(torch.empty((), dtype=torch.int64).random_())
        order = torch.arange(len(self.images))
        if self.shuffle:
            # All shards share one order, so they are disjoint; each augments in its own way.
            generator = torch.Generator().manual_seed(seed)
            order = torch.randperm(len(order), generator=generator)
        generator = torch.Generator().manual_seed(derive_seed(seed, "shard", self.rank))
        order = order[self.rank :: self.world]
        for i in range(len(self)):
            index = order[i * self.batch_size : (i + 1) * self.batch_size].to(self.images.device)
            images = (self.images[index].float() / 255 - self.mean) / self.std
            if self.train:
                images = self._augment(images, generator)
            yield images, self.labels[index]

    def _augment(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return N x C x H x W images, cropped at random from padded copies, half mirrored."""
        n, _, h, w = images.shape
        device = images.device
        columns = torch.arange(w).repeat(n, 1)
        if self.flip:
            mirrored = torch.rand(n, 1, generator=generator) < 0.5
            columns = torch.where(mirrored, columns.flip(1), columns)
        rows = torch.arange(h).repeat(n, 1)
        if self.pad:
            images = F.pad(images, [self.pad] * 4)
            rows = rows + torch.randint(0, 2 * self.pad + 1, (n, 1), generator=generator)
            columns = columns + torch.randint(0, 2 * self.pad + 1, (n, 1), generator=generator)
        sample = torch.arange(n, device=device)[:, None, None]
        picked = images.permute(0, 2, 3, 1)[
            sample, rows.to(device)[:, :, None], columns.to(device)[:, None, :]
        ]
        return picked.permute(0, 3, 1, 2).contiguous()
