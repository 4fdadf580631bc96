"""Data sets by name, as loaders of (images, labels)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

from refiner.core.errors import ConfigError, DataError, one_line
from refiner.core.lightning_modules import SOURCE as LIGHTNING
from refiner.core.preprocessing import Preprocessing
from refiner.core.randomness import derive_seed
from refiner.core.ultralytics_models import is_yaml
from refiner.core.user_code import load_function
from refiner.data.coco_data import SOURCE as COCO
from refiner.data.coco_data import coco_data
from refiner.data.folder_parts import folder_images
from refiner.data.hugging_face import hugging_face_images
from refiner.data.identities import load_identities
from refiner.data.identity_choice import check_positive
from refiner.data.image_data import Options, image_data, with_scale
from refiner.data.image_files import as_they_are
from refiner.data.lightning_data import data_of, is_data_module, named_data
from refiner.data.loaders import Data
from refiner.data.normalisation import Normalisation
from refiner.data.parts import LEAST_VALIDATION, VALIDATION_SHARE, ImageSet, limited
from refiner.data.split import stratified
from refiner.data.tensor_loader import TensorLoader
from refiner.data.torchvision_data import torchvision_images
from refiner.data.yolo_data import yolo_data

DATA_FORMS = (
    "digits, cifar10, cifar100, folder:PATH, faces:PATH, torchvision:NAME, hf:NAME, coco:PATH, "
    "FILE.yaml of ultralytics, lightning:FILE.py:CLASS or FILE.py:FUNCTION"
)


def load_data(
    spec: str,
    *,
    batch_size: int = 64,
    channels: int = 3,
    image_size: int | None = None,
    root: str | Path = "data",
    limit: int | None = None,
    seed: int = 0,
    norm: str | None = None,
    mean: Sequence[float | str] | None = None,
    std: Sequence[float | str] | None = None,
    of_model: Preprocessing | None = None,
    keep_size: bool = False,
    masks: bool = False,
) -> Data:
    """Return the data set that ``spec`` names.

    Args:
        spec: ``digits``, ``cifar10``, ``cifar100``, ``folder:PATH``, ``faces:PATH`` (see
            :func:`load_identities`), ``torchvision:NAME``, ``hf:NAME`` of Hugging Face's
            ``datasets``, ``coco:PATH`` (see :func:`refiner.data.coco_data.coco_data`), a
            ``FILE.yaml`` of ultralytics (see :func:`refiner.data.yolo_data.yolo_data`),
            ``lightning:FILE.py:CLASS`` (a LightningDataModule), or ``FILE.py:FUNCTION``, a function
            that returns (training loader, validation loader or None), a test loader as third if
            there is one, a ``Data`` or a LightningDataModule.
        batch_size: images per training batch; other batches hold 256 or more.
        channels: of the images, 1 or 3.
        image_size: height and width; by default the model's own for photographs, the size that all
            images share, or 224. Images of other proportions are cropped, not distorted.
        root: folder of torchvision's archives.
        limit: use about this many training images at most, the same share of each class, and as
            many of the validation and the test part, but at least a thousand.
        seed: fixes the validation split and the choice of ``limit``.
        norm: how pixels are normalised: ``imagenet``, ``half`` (to -1..1), ``none`` (0..1),
            ``raw`` (0..255), ``data`` (by the training images) or ``model`` (as ``of_model``). By
            default that of the model, else that of the data.
        mean: of each channel, or one for all, on the scale 0 to 1; excludes ``norm``.
        std: standard deviation of each channel, to go with ``mean``.
        of_model: the preprocessing of the weights that the model starts from.
        keep_size: take the size of ``of_model`` for all images, not for photographs alone.
        masks: whether the batches of a ``FILE.yaml`` have masks, for a network that segments.

    Raises:
        ConfigError: a number is out of its range, or cannot be used with this data.
        DataError: the name is unknown, or the data is missing or unreadable.
    """
    check_positive(batch_size=batch_size, image_size=image_size, limit=limit)
    options = Options(
        batch_size=batch_size,
        channels=1 if channels == 1 else 3,
        image_size=image_size,
        limit=limit,
        seed=seed,
        normalisation=Normalisation(norm=norm, mean=mean, std=std),
        of_model=of_model,
        keep_size=keep_size,
    )
    if is_yaml(spec):
        _check_free(spec, replace(options, limit=None, image_size=None))
        return yolo_data(
            spec,
            batch_size=batch_size,
            image_size=image_size,
            limit=limit,
            seed=seed,
            masks=masks,
        )
    form, colon, rest = spec.partition(":")
    if spec == "digits":
        return _digits(options)
    images = image_set(spec, root)
    if images is not None:
        return image_data(images, options)
    if form == "faces" and colon:
        return load_identities(
            rest,
            batch_size=batch_size,
            channels=options.channels,
            image_size=image_size,
            limit=limit,
            seed=seed,
            normalisation=options.normalisation,
            of_model=of_model,
        )
    if spec.startswith(COCO):
        _check_free(spec, replace(options, limit=None))
        return coco_data(spec.removeprefix(COCO), batch_size=batch_size, limit=limit, seed=seed)
    if spec.startswith(LIGHTNING):
        _check_free(spec, options)
        return named_data(spec, seed=seed)
    if colon and not spec.endswith(":"):
        return _user_data(spec, options)
    raise DataError(f"unknown data {spec!r}. Choose {DATA_FORMS}.")


def image_set(spec: str, root: str | Path) -> ImageSet | None:
    """Return the images of a folder or of a data set by name; None for any other form of data.

    Raises:
        DataError: they are missing or unreadable.
    """
    form, colon, rest = spec.partition(":")
    if spec in ("cifar10", "cifar100"):
        return replace(torchvision_images(spec.upper(), Path(root)), name=spec)
    if form == "folder" and colon:
        return folder_images(Path(rest))
    if form == "torchvision" and rest:
        return torchvision_images(rest, Path(root))
    if form == "hf" and rest:
        return hugging_face_images(rest)
    return None


def _digits(options: Options) -> Data:
    """Return scikit-learn's digits, which ship with it as arrays of 8 x 8."""
    from sklearn.datasets import load_digits

    digits, side = load_digits(), options.image_size or 32
    pixels = torch.from_numpy(digits.images).float()[:, None] * (255 / 16)
    pixels = F.interpolate(pixels, size=(side, side), mode="bilinear", align_corners=False)
    images = pixels.round().to(torch.uint8).repeat(1, options.channels, 1, 1)
    labels = torch.from_numpy(digits.target).long()
    keep, held = stratified(labels.numpy(), VALIDATION_SHARE, derive_seed(options.seed, "split"))
    others = None if options.limit is None else max(options.limit, LEAST_VALIDATION)
    keep = keep[limited(labels.numpy()[keep], options.limit, options.seed)]
    held = held[limited(labels.numpy()[held], others, options.seed)]
    names = [str(name) for name in digits.target_names]
    plain = as_they_are(options.channels, (side, side))
    prepared = with_scale(plain, lambda: images[keep], options, names)
    mean, std = torch.tensor(prepared.mean), torch.tensor(prepared.std)

    def loader(part: list[int], batch: int, train: bool) -> TensorLoader:
        pad = side // 16 if train else 0
        return TensorLoader(
            images[part], labels[part], batch_size=batch, mean=mean, std=std, train=train, pad=pad
        )

    return Data(
        train=loader(keep.tolist(), options.batch_size, True),
        val=loader(held.tolist(), max(256, options.batch_size), False),
        name="digits",
        classes=tuple(names),
        note="digits: 1,797 real images of handwritten digits that ship with scikit-learn, resized "
        f"from 8x8 to {side}x{side}. They show that all works; they are too easy to rank "
        "architectures.",
        mean=mean,
        std=std,
        preprocessing=prepared,
    )


def _check_free(spec: str, options: Options) -> None:
    """Raise a ConfigError for an option that the data decides itself."""
    given = {
        "--limit": options.limit,
        "--image-size": options.image_size,
        "--norm, --mean or --std": options.normalisation.given or None,
    }
    for option, value in given.items():
        if value is not None:
            raise ConfigError(f"{option} does not apply to {spec}, which decides. Leave it out.")


def _user_data(spec: str, options: Options) -> Data:
    _check_free(spec, options)
    function = load_function(spec, DataError)
    try:
        loaders = function()
    except Exception as error:
        raise DataError(f"{spec} raised {one_line(error)}") from error
    if isinstance(loaders, Data):
        return replace(loaders, name=spec)
    if is_data_module(loaders):
        return data_of(loaders, name=spec, seed=options.seed)
    if isinstance(loaders, tuple | list) and len(loaders) in (2, 3):
        test = loaders[2] if len(loaders) == 3 else None
        return Data(train=loaders[0], val=loaders[1], test=test, name=spec)
    raise DataError(
        f"{spec} returned {type(loaders).__name__}. Return (training loader, validation loader), "
        "or a test loader as third; None for the second splits a validation part off."
    )
