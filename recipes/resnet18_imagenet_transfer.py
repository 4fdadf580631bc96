"""ResNet-18, -8 and -16, found on CIFAR-10, trained on ImageNet (section 4.2.2, table 6).

The paper's top-1: 69.39, 69.42 and 69.18 %. Give the images by --data folder:PATH, with
train/CLASS/*.jpg and val/CLASS/*.jpg. The paper is silent on how they were trained, so that is
torchvision's reference training of ResNet-18: 90 epochs, batches of 256, learning rate 0.1 with
steps, weight decay 1e-4, parts of 8 to 100 % of the area (its references/classification; He et
al., 2016, section 3.4).
"""

import timm
from torch import nn

import refiner
from refiner.core.errors import ConfigError
from refiner.core.randomness import seeded
from refiner.data.loaders import example_of
from refiner.graph.slots import Granularity
from refiner.runs.recipe import RecipeSettings

EPOCHS, BATCH_SIZE, IMAGE_SIZE = 90, 256, 224
ARCHITECTURES: dict[str, tuple[Granularity, tuple[int, ...]]] = {
    "resnet18": ("conv", (0,) * 16),
    "resnet18-8": ("block", (1, 0, 0, 0, 0, 0, 0, 0)),
    "resnet18-16": ("conv", (1, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2)),
}
"""Table 5."""


def build_model(num_classes: int = 1000, width: int = 64, seed: int = 0) -> nn.Module:
    """Return timm's ResNet-18; ``width`` is the number of channels of the first stage, the paper's
    64."""
    with seeded(seed):
        channels = (width, 2 * width, 4 * width, 8 * width)
        model: nn.Module = timm.create_model("resnet18", num_classes=num_classes, channels=channels)
    return model


def run(settings: RecipeSettings) -> None:
    """Train the three networks with equal settings, each into a folder of its own below
    ``settings.out``."""
    if settings.data is None:
        raise ConfigError("this recipe needs ImageNet's images. Give --data folder:PATH.")
    scale = settings.scale
    images = scale.count("training images", 1_281_167, least=500)
    epochs = scale.count("training epochs", EPOCHS, least=3)
    width = scale.width("channels of the first stage", 64)
    size = scale.width("height and width of the images", IMAGE_SIZE)
    data = refiner.load_data(
        settings.data,
        batch_size=BATCH_SIZE,
        image_size=size,
        limit=None if images == 1_281_167 else images,
        seed=settings.seed,
    )
    model = build_model(len(data.classes), width, settings.seed)
    example = example_of(data.train)
    for name, (slots, vector) in ARCHITECTURES.items():
        space = refiner.search_space(model, example, granularity=slots)
        out = settings.out / name
        refiner.train_architecture(
            model,
            data.train,
            data.val,
            test_loader=data.test,
            architecture=space.architecture(vector),
            config=refiner.TrainConfig(epochs=epochs, schedule="step", weight_decay=1e-4),
            out=out,
            resume=settings.resume and out.exists(),
            notes=scale.notes,
            **settings.running(),
        )
