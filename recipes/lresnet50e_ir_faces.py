"""LResNet50E-IR refined on a proxy task of faces, then trained on all of them (section 4.1, tables
2, 3).

The paper, in % on LFW, CFP-FP and AgeDB-30: LResNet50E-IR 99.68, 97.54, 96.86; LResNet50E-IR-R
(without a warm-up) 99.73, 97.59, 97.32; LResNet50E-IR-RP 99.75, 97.61, 97.13 with 4.69e9 for
6.32e9 FLOPs, its vector 0,0,2,0,0,0,1,0,0,0,0,0,0,0,0,1,1,0,2,2,1,0,1,0. Give the images by --data
faces:PATH, with train/IDENTITY/*.jpg, aligned as ArcFace does; and to verify with, pairs.txt
beside train (its images in val/) or packs such as lfw.bin, cfp_fp.bin and agedb_30.bin.

The network is ArcFace's with 50 layers. Improved residual units (IR): norm, conv3x3, norm, PReLU,
conv3x3 with the stride, norm. Output setting E: norm, dropout, fully connected, norm. 112x112
images, a stem without stride (L). 4.36e7 parameters and 6.31e9 MACs; 24 slots of granularity
``block``.

Where the paper is silent, the values are those of ArcFace, as it says: Deng et al., ArcFace:
Additive Angular Margin Loss for Deep Face Recognition, 2018, sections 2.2, 2.3 and 3.1, and the
code that its authors published (insightface).
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

import refiner
from refiner.core.errors import ConfigError, DataError
from refiner.core.randomness import seeded
from refiner.data.identities import FACE_MEAN, FACE_STD, load_identities
from refiner.data.loaders import Data, example_of
from refiner.faces.arcface import EMBEDDING_SIZE, ArcFace, arcface_for
from refiner.faces.pairs import find_pairs, pair_tests
from refiner.runs.recipe import RecipeSettings
from refiner.runs.report import Report
from refiner.space.architecture import Architecture

STAGES = ((1, 3), (2, 4), (4, 14), (8, 3))
"""(channels over those of the stem, units) of each stage; the first unit of each halves the
image."""
WIDTH, IMAGE_SIZE = 64, 112
"""Channels of the stem and side of the images: ArcFace, sections 2.2 and 3.1. An embedding has its
512 numbers."""
IDENTITIES, IMAGES, TRAIN_IMAGES = 4_000, 40, 36
"""Of the proxy task: 36 images of each identity train, the rest validate (section 4.1.1)."""
EPOCHS, LEAST_EPOCHS = 150, 30
"""Of the search in all: SGDR with T_0 10 and T_mult 2 (section 4.1.1). Its first two cycles are
30."""
WARMUP_EPOCHS = 30
"""Of them on random paths in RP. The paper says "few epochs"; a fifth is ours."""
UPDATES, SAMPLES = 10, 10
"""Controller steps an epoch, architectures for each. The paper is silent; ENAS takes 30 to 50 and
10."""
TRAIN_EPOCHS, LEAST_TRAIN_EPOCHS = 35, 15
"""Of the final trainings: SGDR with T_0 5 and T_mult 2 (section 4.1.3). Its first two cycles are
15."""
BATCH_SIZE, LEAST_BATCH_SIZE = 512, 64
"""ArcFace, section 3.1; at a small scale the batches are smaller, so that there are steps
enough."""
LR_MAX, LR_MIN = 0.1, 0.0001
"""Sections 4.1.1 and 4.1.3. They are those of whole batches, and smaller with smaller ones (the
linear rule of Goyal et al., 2017). Batches of 64 with the whole rate were tried, and at its first
restart the network fell into the minimum in which each embedding lies opposite to all identities
(arcface.py): 54.6 % of the pairs after ten epochs, with the rule 82.6 % (7,003 images of 1,345
people, 32x32, width 8, one run each)."""
WEIGHT_DECAY, MOMENTUM = 5e-4, 0.9
"""ArcFace, section 3.1."""
GRADIENT_CLIP = 5.0
"""Largest norm of the gradient. It is insightface's arcface_torch's, which clips the backbone
alone; here it is the norm over backbone and head together. ArcFace's gradients are large, since
its scale is 64. Tried once, on 3,000 images of 250 people, 48x48, width 8, batches of 64, rate
0.1: after five epochs 70.7 % of the pairs of other people were judged rightly, and 64.7 % where no
gradient was cut."""
HELD_OUT = 0.01
"""Share of all images that the final trainings leave for a score. The paper scores with pairs
alone."""
CANDIDATES = ("conv3x3", "depthwise3x3", "maxpool3x3", "avgpool3x3")
"""Section 3.4 and table 2."""


class ImprovedResidualUnit(nn.Module):
    """Two conv3x3 between norms, and a skip connection around them."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(channels),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the unit's output, N x channels x H / stride x W / stride."""
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        output: torch.Tensor = self.bn3(self.conv2(y)) + self.shortcut(x)
        return output


class LResNet50EIR(nn.Module):
    """The backbone: images, N x 3 x image_size x image_size, to embeddings, N x embedding_size."""

    def __init__(
        self, embedding_size: int, width: int, image_size: int, dropout: float = 0.4
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width)
        )
        units: list[nn.Module] = []
        in_channels = width
        for times, count in STAGES:
            for i in range(count):
                units.append(ImprovedResidualUnit(in_channels, times * width, 2 if i == 0 else 1))
                in_channels = times * width
        self.units = nn.Sequential(*units)
        self.bn = nn.BatchNorm2d(in_channels)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(in_channels * (image_size // 16) ** 2, embedding_size)
        self.features = nn.BatchNorm1d(embedding_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the embeddings, before they are normalised."""
        x = self.dropout(self.bn(self.units(self.stem(x))))
        output: torch.Tensor = self.features(self.fc(x.flatten(1)))
        return output


def build_model(
    embedding_size: int = EMBEDDING_SIZE,
    width: int = WIDTH,
    image_size: int = IMAGE_SIZE,
    seed: int = 0,
) -> nn.Module:
    """Return the network with fresh weights.

    Args:
        embedding_size: numbers of an embedding.
        width: channels of the stem and the first stage.
        image_size: height and width of the images, a multiple of 16.
        seed: draws the weights.

    Raises:
        ConfigError: the image size is not a multiple of 16.
    """
    if image_size < 16 or image_size % 16:
        raise ConfigError(f"image_size is {image_size}. Give a multiple of 16.")
    with seeded(seed):
        model = LResNet50EIR(embedding_size, width, image_size)
    model.default_cfg = {"input_size": (3, image_size, image_size)}  # type: ignore[assignment]
    return model


def run(settings: RecipeSettings) -> None:
    """Search on the proxy task, train the original and the refined network on all images, and
    verify both.

    R without, RP with a warm-up on random paths. The folders below ``settings.out`` are ``search``,
    ``original`` and ``refined``; the report of the last holds the scores of both networks.
    """
    root = _root(settings)
    pairs = find_pairs(root)
    if root.is_dir() and not pairs:
        raise DataError(f"{root} holds no pairs.txt and no *.bin to verify with. Add one.")
    scale = settings.scale
    size = scale.width("height and width of the images", IMAGE_SIZE, step=16, least=32)
    width = scale.width("channels of the stem", WIDTH)
    batch_size = scale.count("images a batch", BATCH_SIZE, least=LEAST_BATCH_SIZE)
    train_epochs = scale.count("training epochs", TRAIN_EPOCHS, least=LEAST_TRAIN_EPOCHS)
    model = build_model(width=width, image_size=size, seed=settings.seed)
    tests = pair_tests(model, pairs, size=(size, size), mean=FACE_MEAN, std=FACE_STD)
    found = _search(model, root, size, batch_size, settings).architecture
    data = load_identities(
        root,
        batch_size=batch_size,
        min_images=1,
        image_size=size,
        validation_share=HELD_OUT,
        seed=settings.seed,
    )

    def train(name: str, architecture: Architecture, original: Report | None) -> Report:
        out = settings.out / name
        return refiner.train_architecture(
            model,
            data.train,
            data.val,
            architecture=architecture,
            task=_head(model, data, settings),
            config=_training(train_epochs, batch_size),
            tests=tests,
            original=original,
            out=out,
            resume=settings.resume and out.exists(),
            notes=(*scale.notes, data.note),
            **settings.running(),
        ).report

    original = replace(found, vector=(0,) * len(found.vector))
    train("refined", found, train("original", original, None))


def _search(
    model: nn.Module, root: Path, size: int, batch_size: int, settings: RecipeSettings
) -> refiner.Result:
    """Search an architecture on the proxy task."""
    scale = settings.scale
    images = scale.width("images of each", IMAGES, step=1, least=10)
    epochs = scale.count("search epochs", EPOCHS, least=LEAST_EPOCHS)
    warmup = max(1, round(epochs * WARMUP_EPOCHS / EPOCHS)) if settings.pretrain else 0
    updates = scale.count("controller updates per epoch", UPDATES, least=2)
    data = load_identities(
        root,
        batch_size=batch_size,
        identities=scale.count("identities of the proxy task", IDENTITIES, least=10),
        images_per_identity=images,
        train_images=round(images * TRAIN_IMAGES / IMAGES),
        image_size=size,
        seed=settings.seed,
    )
    out = settings.out / "search"
    return refiner.refine(
        model,
        data.train,
        data.val,
        task=_head(model, data, settings),
        slots="block",
        candidates=CANDIDATES,
        search=refiner.SearchConfig(
            epochs=epochs - warmup,
            warmup_epochs=warmup,
            trials=(epochs - warmup) * updates * SAMPLES,
            samples=SAMPLES,
            weights=_training(0, batch_size),
        ),
        out=out,
        resume=settings.resume and out.exists(),
        notes=(*scale.notes, data.note),
        **settings.running(),
    )


def _root(settings: RecipeSettings) -> Path:
    """Return the folder of the faces."""
    if settings.data is None or not settings.data.startswith("faces:"):
        raise ConfigError("this recipe needs faces. Give --data faces:PATH.")
    return Path(settings.data.removeprefix("faces:"))


def _head(model: nn.Module, data: Data, settings: RecipeSettings) -> ArcFace:
    """Return ArcFace for the identities of some data; scale 64 and margin 0.5 are ArcFace's."""
    return arcface_for(model, example_of(data.train), len(data.classes), seed=settings.seed)


def _training(epochs: int, batch_size: int) -> refiner.TrainConfig:
    """Return how weights are trained."""
    return refiner.TrainConfig(
        epochs=epochs,
        lr_max=LR_MAX * batch_size / BATCH_SIZE,
        lr_min=LR_MIN * batch_size / BATCH_SIZE,
        momentum=MOMENTUM,
        weight_decay=WEIGHT_DECAY,
        gradient_clip=GRADIENT_CLIP,
    )
