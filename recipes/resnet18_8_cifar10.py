"""ResNet-18-8: ResNet-18 refined on CIFAR-10, each residual block one slot (section 4.2, tables 5,
6).

The paper: ResNet-18 93.46 %, ResNet-18-8 93.72 % with 11 % fewer FLOPs; its vector is
1,0,0,0,0,0,0,0. It does not tell how the networks were trained on CIFAR-10, so what is not named
with its source here is as in its search on faces (section 4.1). The search chooses by a
fifth of the training images. Accuracies are those of the test images, as the paper's are.
"""

import timm
from torch import nn

import refiner
from refiner.core.randomness import seeded
from refiner.graph.slots import Granularity
from refiner.runs.recipe import RecipeSettings

EPOCHS = 150
"""Of the search in all: SGDR with T_0 10 and T_mult 2 (section 4.1.1)."""
WARMUP_EPOCHS = 30
"""Of them on random paths in RP. The paper says "few epochs"; a fifth is ours."""
TRAIN_EPOCHS = 150
"""Of the final training. The paper is silent; as long as its search."""
BATCH_SIZE = 128
"""The paper is silent; He et al., 2016, section 4.2, on CIFAR-10."""
UPDATES, SAMPLES = 10, 10
"""Controller steps an epoch, architectures for each. The paper is silent; ENAS takes 50 and 20, in
its micro search 30 and 10."""
LR_MAX, LR_MIN = 0.1, 0.0001
"""Section 4.1.1."""
CANDIDATES = ("conv3x3", "depthwise3x3", "maxpool3x3", "avgpool3x3")
"""Section 3.4 and table 5."""


def build_model(num_classes: int = 10, width: int = 64, seed: int = 0) -> nn.Module:
    """Return timm's ResNet-18 with the stem usual for 32x32 images: a conv3x3, no pooling.

    The paper does not tell its stem; its 93.46 % is within reach of this one only. ``width`` is the
    number of channels of the first stage, the paper's 64; the stem keeps 64.
    """
    with seeded(seed):
        channels = (width, 2 * width, 4 * width, 8 * width)
        model: nn.Module = timm.create_model("resnet18", num_classes=num_classes, channels=channels)
        model.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        model.maxpool = nn.Identity()
    return model


def refine_on_cifar10(settings: RecipeSettings, slots: Granularity) -> refiner.Result:
    """Search, train ResNet-18 and the refined network with equal settings, and report."""
    scale = settings.scale
    images = scale.count("training images", 40_000, least=500)
    epochs = scale.count("search epochs", EPOCHS, least=3)
    warmup = max(1, round(epochs * WARMUP_EPOCHS / EPOCHS)) if settings.pretrain else 0
    train_epochs = scale.count("training epochs", TRAIN_EPOCHS, least=3)
    width = scale.width("channels of the first stage", 64)
    data = refiner.load_data(
        settings.data or "cifar10",
        batch_size=BATCH_SIZE,
        root=settings.data_root,
        limit=None if images == 40_000 else images,
        seed=settings.seed,
    )
    return refiner.refine(
        build_model(len(data.classes), width, settings.seed),
        data.train,
        data.val,
        test_loader=data.test,
        slots=slots,
        candidates=CANDIDATES,
        search=refiner.SearchConfig(
            epochs=epochs - warmup,
            warmup_epochs=warmup,
            trials=(epochs - warmup) * UPDATES * SAMPLES,
            samples=SAMPLES,
            weights=refiner.TrainConfig(lr_max=LR_MAX, lr_min=LR_MIN),
        ),
        train=refiner.TrainConfig(epochs=train_epochs, lr_max=LR_MAX, lr_min=LR_MIN),
        out=settings.out,
        resume=settings.resume,
        notes=scale.notes,
        **settings.running(),
    )


def run(settings: RecipeSettings) -> None:
    """Run the experiment: R without, RP with a warm-up on random paths."""
    refine_on_cifar10(settings, slots="block")
