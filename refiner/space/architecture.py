"""The architecture: one candidate index for each slot, saved as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from refiner.core.errors import ArchitectureError, one_line
from refiner.core.files import read_json, write_text
from refiner.core.records import checked_record
from refiner.core.types import Json, JsonDict
from refiner.graph.conv_spec import ConvSpec
from refiner.graph.gates import Gate
from refiner.graph.slots import ConvSite, Slot

Vector: TypeAlias = tuple[int, ...]
"""One candidate index for each slot; all zeros is the original model."""

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A point of a search space: all that :func:`refiner.rewrite` needs except the model."""

    vector: Vector
    slots: tuple[Slot, ...]
    candidates: tuple[tuple[str, ...], ...]
    """Names of the candidates of each slot; index 0 is ``original``."""
    model: JsonDict | None = field(default=None, compare=False)
    """How the model was made, if known; free-form, for people and the command line."""

    def __post_init__(self) -> None:
        check_vector(self.vector, self.slots, self.candidates)

    @property
    def operations(self) -> tuple[str, ...]:
        """Names of the chosen candidates, one for each slot."""
        return tuple(names[i] for names, i in zip(self.candidates, self.vector, strict=True))

    def save(self, path: str | PathLike[str]) -> None:
        """Write the architecture as JSON."""
        write_text(Path(path), self.to_json())

    def to_json(self) -> str:
        """Return the architecture as JSON text."""
        document = {
            "format_version": FORMAT_VERSION,
            "model": self.model,
            "vector": list(self.vector),
            "slots": [
                {
                    "name": slot.name,
                    "is_group": slot.is_group,
                    "is_branch": slot.is_branch,
                    "candidates": list(names),
                    "sites": [asdict(s) for s in slot.sites],
                    "gate_convs": [asdict(s) for s in slot.gate_convs],
                }
                for slot, names in zip(self.slots, self.candidates, strict=True)
            ],
        }
        return json.dumps(document, indent=1) + "\n"

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Architecture":
        """Read a file that :meth:`save` wrote.

        Raises:
            ArchitectureError: the file is missing, is not an architecture, or has another version.
        """
        try:
            document = read_json(Path(path))
        except FileNotFoundError:
            raise ArchitectureError(
                f"there is no file {path}. Name an architecture.json."
            ) from None
        except (OSError, ValueError) as error:
            raise ArchitectureError(f"{path} cannot be read as JSON: {one_line(error)}") from error
        return cls.from_json(document, path)

    @classmethod
    def from_json(cls, document: Any, path: str | PathLike[str]) -> "Architecture":
        """Return what :meth:`to_json` wrote, once it is parsed; ``path`` is for messages.

        Raises:
            ArchitectureError: it is not an architecture, or has another version.
        """
        version = document.get("format_version") if isinstance(document, dict) else None
        if not isinstance(document, dict) or version != FORMAT_VERSION:
            raise ArchitectureError(
                f"{path} is not an architecture of format version {FORMAT_VERSION} "
                f"(found {version!r}). Name an architecture.json that this version of refiner "
                "wrote."
            )
        try:
            architecture = cls(
                vector=tuple(document["vector"]),
                slots=tuple(
                    Slot(
                        name=slot["name"],
                        sites=tuple(_site(site) for site in slot["sites"]),
                        is_group=slot.get("is_group", False),
                        is_branch=slot.get("is_branch", False),
                        gate_convs=tuple(_site(site) for site in slot.get("gate_convs", ())),
                    )
                    for slot in document["slots"]
                ),
                candidates=tuple(tuple(slot["candidates"]) for slot in document["slots"]),
                model=document["model"],
            )
            return _checked(architecture)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArchitectureError(
                f"{path} is not an architecture, or damaged: {one_line(error)}. "
                "Name an architecture.json."
            ) from error


def _checked(architecture: Architecture) -> Architecture:
    """Raise a TypeError or a ValueError for an architecture that no search space holds."""
    checked_record(architecture)
    convs = [site.conv for slot in architecture.slots for site in slot.all_convs]
    if len(set(convs)) < len(convs):
        raise ValueError("a conv is in two slots")
    for slot, names in zip(architecture.slots, architecture.candidates, strict=True):
        if not slot.sites or names[:1] != ("original",):
            raise ValueError(f"slot {slot.name} has no conv, or does not begin with the original")
        for site in slot.all_convs:
            spec = site.spec
            numbers = (*spec.kernel_size, *spec.stride, *spec.dilation, spec.groups, site.unit)
            dims = 2 + len(spec.kernel_size)
            if min(numbers) < 1 or {len(site.in_shape), len(site.out_shape)} != {dims}:
                raise ValueError(f"{site.conv} is not a conv")
            if site.unit > 1 and not _are_units(spec.out_channels, site.unit):
                raise ValueError(f"{site.conv} has no units of {site.unit} channels")
    return architecture


def _are_units(channels: int, unit: int) -> bool:
    return unit < channels and channels % unit == 0


def _site(document: JsonDict) -> ConvSite:
    spec: JsonDict = {key: _tuples(value) for key, value in document["spec"].items()}
    return ConvSite(
        conv=document["conv"],
        norm=document["norm"],
        spec=ConvSpec(**spec),
        in_shape=tuple(document["in_shape"]),
        out_shape=tuple(document["out_shape"]),
        further_parameters=document.get("further_parameters", 0),
        norm_parameters=document.get("norm_parameters", 0),
        along=tuple(map(str, document.get("along", ()))),
        along_parameters=document.get("along_parameters", 0),
        along_macs=document.get("along_macs", 0),
        gates=tuple(Gate(**gate) for gate in document.get("gates", ())),
        unit=document.get("unit", 1),
    )


def _tuples(value: Json) -> object:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def check_vector(
    vector: Sequence[int], slots: Sequence[Slot], candidates: Sequence[Sequence[str]]
) -> None:
    """Raise an ArchitectureError unless ``vector`` has one valid index for each slot."""
    if len(vector) != len(slots):
        raise ArchitectureError(
            f"the vector has {len(vector)} numbers, but the model has {len(slots)} slots. "
            "`refine slots MODEL` lists them."
        )
    for slot, names, index in zip(slots, candidates, vector, strict=True):
        if not isinstance(index, int) or not 0 <= index < len(names):
            listed = ", ".join(f"{i} {name}" for i, name in enumerate(names))
            raise ArchitectureError(
                f"slot {slot.name} has no candidate {index!r}. Choose one of: {listed}."
            )


def with_model(architecture: Architecture, model: JsonDict | None) -> Architecture:
    """Return ``architecture`` with a note on how its model was made."""
    return replace(architecture, model=model)
