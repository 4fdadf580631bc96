"""Test images of another place than the rest of the data, prepared in the same way."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from refiner.core.errors import DataError, one_line
from refiner.core.lightning_modules import SOURCE as LIGHTNING
from refiner.core.types import Loader
from refiner.core.ultralytics_models import is_yaml
from refiner.core.user_code import load_function
from refiner.data.class_folders import listed
from refiner.data.coco_data import SOURCE as COCO
from refiner.data.datasets import image_set
from refiner.data.folder_parts import part_folders
from refiner.data.image_loaders import disk_loader, fits_in_memory, memory_loader
from refiner.data.lightning_data import named_data
from refiner.data.loaders import Data
from refiner.data.parts import LEAST_VALIDATION, ImageSet, Part


def with_test(
    data: Data,
    spec: str,
    *,
    root: str | Path = "data",
    batch_size: int = 64,
    limit: int | None = None,
    seed: int = 0,
) -> Data:
    """Return ``data`` with the test images that ``spec`` names.

    Args:
        data: gives the classes and the preprocessing.
        spec: a form of :func:`refiner.load_data`. Its test part is taken; of a folder without parts
            all images. A function returns the test loader, or three loaders.
        root: folder of torchvision's archives.
        batch_size: of training; test batches hold 256 or more.
        limit: use about this many images, but at least a thousand.
        seed: fixes the choice of ``limit``.

    Raises:
        DataError: there is no test part, or its classes or its preprocessing cannot agree.
    """
    notes = [data.note] if data.note else []
    if data.test is not None:
        notes.append(f"The test part of {data.name} is not used: {spec} is tested on.")
    if is_yaml(spec):
        raise DataError(
            f"{spec} is for training. Name the folder of test images as `test:` in the YAML file "
            "of --data."
        )
    if spec.startswith(COCO):
        raise DataError(f"{spec} has several parts. Put the test images into `test` of --data.")
    images = image_set(spec, root)
    if images is None:
        test = _user_loader(spec)
    else:
        most = None if limit is None else max(limit, LEAST_VALIDATION)
        part = _in_order(_test_part(images, spec), images, data, spec).limited(most, seed)
        test = _loader(part, data, spec, max(256, batch_size))
        notes += images.notes
    return replace(data, test=test, note="\n".join(notes))


def _test_part(images: ImageSet, spec: str) -> Part:
    """Return the test part of an image set; of one without parts all of it."""
    form, _, rest = spec.partition(":")
    parted = form == "folder" and part_folders(Path(rest))
    if images.test is not None:
        return images.test
    if form in ("folder", "hf") and images.val is None and not parted:
        return images.train
    advice = f"Name one of its folders, such as folder:{rest}/val" if parted else "Name another"
    raise DataError(f"{spec} has no test part. {advice}.")


def _in_order(part: Part, images: ImageSet, data: Data, spec: str) -> Part:
    """Return a part with the labels of ``data``, whose classes may stand in another order."""
    more = sorted(set(images.classes) - set(data.classes))
    fewer = sorted(set(data.classes) - set(images.classes))
    if more or fewer:
        faults = [f"it has {listed(more)}, which the data lacks"] if more else []
        faults += [f"it lacks {listed(fewer)}"] if fewer else []
        raise DataError(
            f"the classes of {spec} are not those of {data.name}: {'; '.join(faults)}. Give test "
            "images of the same classes."
        )
    numbers = np.array([data.classes.index(name) for name in images.classes])
    return replace(part, labels=numbers[part.labels])


def _loader(part: Part, data: Data, spec: str, batch_size: int) -> Loader:
    prepared = data.preprocessing
    if prepared is None:
        raise DataError(
            f"{data.name} does not say how it prepares images, so {spec} cannot be prepared in the "
            "same way. Return the test loader from a FILE.py:FUNCTION."
        )
    if fits_in_memory(len(part), prepared):
        return memory_loader(part, prepared, batch_size, train=False)
    return disk_loader(part, prepared, batch_size, train=False, photos=True)


def _user_loader(spec: str) -> Loader:
    """Return the test loader of a function of the user's."""
    form, colon, function = spec.rpartition(":")
    if spec == "digits" or form == "faces" or not colon or not function:
        raise DataError(
            f"{spec} has no test part. Name folder:PATH, cifar10, cifar100, torchvision:NAME, "
            "hf:NAME or FILE.py:FUNCTION."
        )
    made: Any
    if spec.startswith(LIGHTNING):
        made = named_data(spec, seed=0).test
        if made is None:
            raise DataError(f"{spec} has no test_dataloader. Give it one.")
        named: Loader = made
        return named
    try:
        made = load_function(spec, DataError)()
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{spec} raised {one_line(error)}") from error
    if isinstance(made, Data):
        made = made.test
    elif isinstance(made, tuple | list):
        made = made[2] if len(made) == 3 else None
    if not hasattr(made, "__iter__"):
        raise DataError(
            f"{spec} gives no test loader. Return one, or (training loader, validation loader, "
            "test loader)."
        )
    loader: Loader = made
    return loader
