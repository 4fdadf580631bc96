"""A run's folder: configuration, metrics and checkpoints, each written in one piece.

config.json  latency{,_measured,_check}.json  baselines.json  metrics.jsonl
checkpoint/{search,random_search,original,refined,random,uniform}.pt
architecture.json  network.json  report.{json,md,html}  pareto.json  pareto.svg
refined.ts  refined.safetensors
tensorboard/ (with --log tensorboard)
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from refiner.core.errors import RunError, one_line
from refiner.core.files import (
    new_partial,
    parse_json,
    put_in_place,
    read_json,
    read_text,
    write_text,
)
from refiner.core.types import JsonDict, StateDict
from refiner.training.devices import Devices

FORMAT_VERSION = 2
"""Of a folder's JSON documents and checkpoints. 2: config.json holds a fingerprint."""
_OWN_VERSION = ("report.json", "architecture.json", "pareto.json")
"""Documents whose readers check a format version of their own."""
_FREE_OF_LIMITS = ("report.json", "pareto.json", "baselines.json")
"""Documents of scores, which may be no number; all others hold finite numbers."""


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[JsonDict] = []
        """The lines of metrics.jsonl."""

    @classmethod
    def create(cls, path: str | os.PathLike[str], config: Mapping[str, object]) -> "RunFolder":
        """Make the folder of a new run.

        Raises:
            RunError: the path is taken, or the folder cannot be made.
        """
        folder = cls(Path(path))
        check_free(folder.path)
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{path} cannot be made: {one_line(error)}") from error
        folder.write_json("config.json", config)
        return folder

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "RunFolder":
        """Open the folder of an earlier run.

        Raises:
            RunError: there is no run, or its files are damaged.
        """
        folder = cls(Path(path))
        folder.config()
        metrics = folder.path / "metrics.jsonl"
        if os.path.lexists(metrics):
            try:
                lines = read_text(metrics).splitlines()
                folder.records = [dict(parse_json(line, finite=False)) for line in lines]
                if not all(type(record["epoch"]) is int for record in folder.records):
                    raise ValueError("a line has no epoch")
            except (OSError, ValueError, TypeError, KeyError) as error:
                raise RunError(f"{metrics} is damaged: {one_line(error)}") from error
        return folder

    def config(self) -> JsonDict:
        """Return the content of config.json.

        Raises:
            RunError: it is missing or damaged.
        """
        return self.read_json("config.json")

    def read_json(self, name: str) -> JsonDict:
        """Return a JSON document of the folder, without the version of its format.

        Raises:
            RunError: it is missing, damaged, or written by a newer refiner.
        """
        file = self.path / name
        try:
            document = read_json(file, finite=name not in _FREE_OF_LIMITS)
        except FileNotFoundError:
            if name != "config.json" and self.holds("config.json"):
                raise RunError(
                    f"{self.path} holds no {name}: this run is not finished. Continue it: "
                    f"refine --resume {self.path}"
                ) from None
            inner = sorted(path.parent for path in self.path.glob("*/config.json"))
            advice = (
                "Name one of its runs, such as " + str(inner[0])
                if inner
                else ("Name a folder that --out made")
            )
            raise RunError(f"{self.path} holds no {name}. {advice}.") from None
        except (OSError, ValueError) as error:
            raise RunError(f"{file} is damaged: {one_line(error)}") from error
        if not isinstance(document, dict):
            raise RunError(f"{file} is damaged: it holds no JSON object")
        if name in _OWN_VERSION:
            return document
        check_version(document, file)
        return {key: value for key, value in document.items() if key != "format_version"}

    def write_text(self, name: str, text: str) -> None:
        """Write a file of the folder in one piece."""
        write_text(self.path / name, text)

    def write_json(self, name: str, document: Mapping[str, object]) -> None:
        """Write a JSON document of the folder in one piece, with the version of its format."""
        versioned = {"format_version": FORMAT_VERSION, **document}
        self.write_text(name, json.dumps(versioned, indent=1) + "\n")

    def holds(self, name: str) -> bool:
        """Return whether the folder holds a file of that name."""
        return (self.path / name).exists()

    def record(self, record: JsonDict) -> None:
        """Add a line to metrics.jsonl."""
        self.records.append(dict(record))
        self.write_text("metrics.jsonl", "".join(json.dumps(r) + "\n" for r in self.records))

    def forget_after(self, epoch: int) -> None:
        """Drop the records of epochs after ``epoch``, that of the last checkpoint."""
        self.records = [record for record in self.records if record["epoch"] <= epoch]

    def save_checkpoint(self, name: str, state: StateDict) -> None:
        """Write a checkpoint in one piece."""
        file = self.path / "checkpoint" / f"{name}.pt"
        file.parent.mkdir(exist_ok=True)
        if file.parent.is_symlink():
            raise RunError(f"{file.parent} is a link, which may lead anywhere. Make it a folder.")
        partial = new_partial(file)
        torch.save({"format_version": FORMAT_VERSION, **state}, partial)
        put_in_place(partial, file)

    def drop_if_nothing_is_done(self) -> None:
        """Remove the folder of a run that ended before its first epoch."""
        if not self.records:
            for name in ("config.json", "latency.json", "checkpoint/search.pt"):
                (self.path / name).unlink(missing_ok=True)
            shutil.rmtree(self.path / "tensorboard", ignore_errors=True)
            with contextlib.suppress(OSError):  # it holds other files
                (self.path / "checkpoint").rmdir()
            with contextlib.suppress(OSError):
                self.path.rmdir()

    def load_checkpoint(self, name: str) -> StateDict | None:
        """Return a checkpoint on the CPU; None if there is none.

        Raises:
            RunError: the file is cut off, or is not a checkpoint.
        """
        file = self.path / "checkpoint" / f"{name}.pt"
        if not file.is_file():
            return None
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file makes torch's reader raise anything
            raise RunError(
                f"{file} is cut off or not a checkpoint ({one_line(error, 120)}). {_without(name)}"
            ) from error
        if not isinstance(state, dict):
            raise RunError(f"{file} is not a checkpoint. {_without(name)}")
        check_version(state, file)
        return {key: value for key, value in state.items() if key != "format_version"}


def _without(checkpoint: str) -> str:
    """Return the next step where a checkpoint cannot be used."""
    if checkpoint == "search":
        return "Begin a new run."
    if checkpoint == "random_search":
        return "Delete it to search at random again."
    return f"Delete it to train the {checkpoint} network again."


def check_version(document: Mapping[str, object], file: Path) -> None:
    """Raise a RunError for a document or a checkpoint that a newer refiner wrote."""
    version = document.get("format_version", 1)
    if type(version) is not int or version < 1:
        raise RunError(f"{file} is damaged: its format version is {version!r:.40}")
    if version > FORMAT_VERSION:
        raise RunError(
            f"{file} was written by a newer refiner: it has format version {version}, and this "
            f"one reads up to {FORMAT_VERSION}. Install that refiner to read it."
        )


def check_free(path: Path) -> None:
    """Raise a RunError if a new run at ``path`` would overwrite something."""
    if path.is_dir() and any(each.suffix != ".partial" for each in path.iterdir()):
        kind = "a run" if (path / "config.json").exists() else "files"
        resume = f", or --resume {path}" if (path / "checkpoint" / "search.pt").exists() else ""
        raise RunError(f"{path} holds {kind} already. Name another --out{resume}.")
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file. Name a new folder.")


def load_or_make(
    folder: RunFolder | None, name: str, make: Callable[[], JsonDict], devices: Devices
) -> JsonDict:
    """Return a JSON document that the main process makes once per run.

    Args:
        folder: of the run, which keeps the document; None keeps nothing.
        name: of the document's file.
        make: makes the document.
        devices: of the run; all processes get the same document.
    """

    def kept() -> JsonDict:
        if folder is None:
            return make()
        if not folder.holds(name):
            folder.write_json(name, make())
        return folder.read_json(name)

    return devices.from_main(kept)
