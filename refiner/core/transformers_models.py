"""Models of Hugging Face's transformers, from a folder that ``save_pretrained`` wrote.

Nothing is downloaded, and no code of the folder runs: its config names a class of the package.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

from torch import nn

from refiner.core.errors import ModelError, RefinerError, one_line
from refiner.core.files import read_json
from refiner.core.types import ARCHITECTURE_KEY

SOURCE = "transformers:"
"""Begins the names of these models."""
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json")
_PREPROCESSOR = "preprocessor_config.json"
_UNCUT = 384
"""Pixels from which a processor with ``crop_pct``, as that of ConvNeXt, cuts nothing off."""
RESAMPLE = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
"""Numbers of Pillow by the names of interpolations."""


def has_weights(source: str) -> bool:
    """Return whether the name of a model is that of a folder with trained weights."""
    return source.startswith(SOURCE) and _holds_weights(Path(source.removeprefix(SOURCE)))


def _holds_weights(folder: Path) -> bool:
    return any(any(folder.glob(pattern)) for pattern in _WEIGHTS)


def build_transformers(folder: str) -> nn.Module:
    """Return the model of a folder in float32; without weights in it, with new ones.

    Its images are prepared as the folder's preprocessor_config.json says, if there is one. That is
    noted on the model as ``pretrained_cfg``, where timm has it.

    Args:
        folder: with config.json. Nothing is downloaded.

    Raises:
        ModelError: transformers is not installed, or the folder holds none of its models, weights
            that do not fit, or a refined model.
    """
    require_transformers()
    path = Path(folder)
    document = read_config(path)
    if ARCHITECTURE_KEY in document:
        raise ModelError(
            f"{folder} holds a refined model. Refine the original again, or load this one with "
            "refiner.from_pretrained."
        )
    made = model_class(document, folder)
    network = loaded(made, path) if _holds_weights(path) else from_config(made, path)
    noted = _noted_preprocessing(path)
    if noted is not None:
        network.pretrained_cfg = noted
    whole: nn.Module = network.float()
    return whole


def read_config(folder: Path) -> dict[str, Any]:
    """Return the config.json of a folder.

    Raises:
        ModelError: there is none, or it is damaged.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise ModelError(
            f"{folder} holds no config.json. Give a folder that save_pretrained wrote; nothing is "
            "downloaded."
        )
    try:
        document = read_json(file, finite=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read: {one_line(error, 150)}") from error
    if not isinstance(document, dict):
        raise ModelError(f"{file} holds no config of transformers.")
    return document


def model_class(document: Mapping[str, Any], folder: str) -> Any:
    """Return the class that a config names; it is one of the package.

    Raises:
        ModelError: it names none.
    """
    transformers = require_transformers()
    kernel = document.get("attn_implementation", document.get("_attn_implementation"))
    if "/" in str(kernel):  # code of a repository
        raise ModelError(
            f"{folder} names the attention {str(kernel)!r:.80}, which is code from elsewhere. Take "
            "attn_implementation out of its config.json."
        )
    names = document.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    found = getattr(transformers, name, None) if isinstance(name, str) else None
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        named = "no class" if name is None else f"the class {name!r:.80}"
        raise ModelError(
            f"{folder} names {named} under `architectures`, and transformers "
            f"{transformers.__version__} has none of that name. Load it yourself: FILE.py:FUNCTION."
        )
    return found


def from_config(made: Any, folder: Path) -> Any:
    """Return a model of a class with new weights, by the config of a folder.

    Raises:
        ModelError: the config does not fit.
    """
    with quiet():
        try:
            return made(made.config_class.from_pretrained(folder, local_files_only=True))
        except Exception as error:
            raise ModelError(f"{folder} cannot be built: {one_line(error, 200)}") from error


def loaded(made: Any, folder: Path) -> Any:
    """Return a model of a class with the weights of a folder.

    Raises:
        ModelError: they do not fit.
    """
    with quiet():
        try:
            network, about = made.from_pretrained(
                folder, local_files_only=True, output_loading_info=True
            )
        except RefinerError:
            raise
        except Exception as error:
            raise ModelError(f"{folder} cannot be loaded: {one_line(error, 200)}") from error
    missing = [*about["missing_keys"], *about.get("mismatched_keys", ())]
    if missing:
        raise ModelError(
            f"the weights in {folder} lack {len(missing)} tensors of {made.__name__}, such as "
            f"{sorted(map(str, missing))[0]}. Save the whole model with save_pretrained."
        )
    return network


def _noted_preprocessing(folder: Path) -> dict[str, Any] | None:
    """Return what a folder notes of its images, as timm notes it.

    It is None if the folder notes nothing, or something that cannot be said in this way.
    """
    file = folder / _PREPROCESSOR
    try:
        noted = read_json(file, finite=False) if file.is_file() else None
    except (OSError, ValueError):
        return None
    if not isinstance(noted, dict) or _is_unusual(noted):
        return None
    cut = _sides(noted.get("crop_size" if noted.get("do_center_crop") else "size"))
    if cut is None:
        return None
    scaled = _sides(noted.get("size")) or cut
    share = noted.get("crop_pct") or max(cut) / max(*scaled, *cut)
    if "crop_pct" in noted and max(cut) >= _UNCUT:
        share = 1.0
    plain = not noted.get("do_normalize", True)
    return {
        "input_size": (3, *cut),
        "mean": [0.0] * 3 if plain else noted.get("image_mean"),
        "std": [1.0] * 3 if plain else noted.get("image_std"),
        "crop_pct": share,
        "interpolation": next(
            (name for name, n in RESAMPLE.items() if n == noted.get("resample")), "bilinear"
        ),
    }


def _is_unusual(noted: Mapping[str, Any]) -> bool:
    """Return whether pixels become other numbers than (pixel / 255 - mean) / std of RGB images."""
    factor = noted.get("rescale_factor", 1 / 255)
    usual = isinstance(factor, float) and abs(factor - 1 / 255) < 1e-6
    kind = str(noted.get("image_processor_type"))
    flips = "do_flip_channel_order" in noted or "MobileViT" in kind
    return flips or not usual or not noted.get("do_rescale", True) or bool(noted.get("include_top"))


def _sides(size: Any) -> tuple[int, int] | None:
    """Return height and width as a preprocessor writes them; None for anything else."""
    if isinstance(size, Mapping):
        edge = size.get("shortest_edge")
        size = [size.get("height", edge), size.get("width", edge)]
    sides = [size, size] if isinstance(size, int) else size
    if not isinstance(sides, list) or len(sides) != 2:
        return None
    return (sides[0], sides[1]) if all(type(s) is int and s > 0 for s in sides) else None


def is_transformers(model: Any) -> TypeGuard[Any]:
    """Return whether a model is one of transformers, without importing the package."""
    return any(
        kind.__name__ == "PreTrainedModel" and kind.__module__.startswith("transformers.")
        for kind in type(model).__mro__
    )


def task_of(source: str) -> str:
    """Return the name of the task that a folder's model was made for; for most, its own loss."""
    names = read_config(Path(source.removeprefix(SOURCE))).get("architectures") or [""]
    for ending, task in (
        ("ForImageClassification", "classification"),
        ("ForSemanticSegmentation", "segmentation"),
    ):
        if ending in str(names[0]):
            return task
    return "own_loss"


def class_names(model: Any) -> list[str]:
    """Return the names of a model's classes, in their order."""
    known = model.config.id2label
    return [str(known.get(i, i)) for i in range(model.config.num_labels)]


def require_transformers() -> Any:
    """Return the package.

    Raises:
        ModelError: it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ModelError(
            "this needs the package transformers. Install it: pip install transformers"
        ) from error
    return transformers


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what transformers says of its progress from the screen, and stay off the network."""
    from huggingface_hub import constants

    offline, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    logs = require_transformers().utils.logging
    level, bars = logs.get_verbosity(), logs.is_progress_bar_enabled()
    logs.set_verbosity_error()
    logs.disable_progress_bar()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline
        logs.set_verbosity(level)
        if bars:
            logs.enable_progress_bar()
