"""Times of slots, kept for later runs with the same device, runtime, versions, threads and batch.

They lie in the user's cache folder (``XDG_CACHE_HOME``, by default ``~/.cache``), one JSON file for
each conditions; deleting them is safe. What is read is used only if the original, timed again,
takes as long as it did. So a device that was busy or slower then is measured again.

Only slots whose operations come from torch, torchvision, timm or this library are kept: code of the
user's own may change under the same name.
"""

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from torch import nn

from refiner.core.digests import digest
from refiner.core.errors import RefinerError
from refiner.core.files import new_partial, put_in_place, read_json
from refiner.cost.latency import Conditions
from refiner.space.candidates import is_own_candidate

TOLERANCE = 0.05
"""Share by which the original's time may differ from the kept one."""
_KNOWN = ("torch", "torchvision", "timm", "refiner")
"""Packages whose modules do the same under the same name and version."""
_MOST_BYTES = 64 * 2**20
_LONGEST = 1e6
"""Milliseconds of a pass beyond which a file is damaged."""

Times = Mapping[str, Sequence[float]]
"""Milliseconds of each candidate in each round, by its name."""


class LatencyCache:
    """The kept times of one set of conditions.

    Args:
        conditions: of the measurement.
        folder: where files lie; by default the user's cache folder.
    """

    def __init__(self, conditions: Conditions, folder: Path | None = None) -> None:
        versions = [f"{name} {_version(name)}" for name in _KNOWN]
        name = digest([repr(conditions), *versions])
        self.file = (folder or _user_folder()) / f"{name}.json"
        self._known = self._read()

    def get(self, key: str) -> Times | None:
        """Return kept times, None where there are none or the file is damaged."""
        found = self._known.get(key)
        if found is None:
            return None
        try:
            times = {str(name): [float(t) for t in each] for name, each in found.items()}
        except (AttributeError, TypeError, ValueError):
            return None
        lengths = {len(each) for each in times.values()}
        sound = all(0 < t < _LONGEST for each in times.values() for t in each)
        return times if sound and len(lengths) == 1 and 0 not in lengths else None

    def put(self, key: str, times: Times) -> None:
        """Keep times; where the folder cannot be written, nothing is kept."""
        rounded = {name: [round(t, 5) for t in each] for name, each in times.items()}
        known = self._read() | {key: rounded}  # another run may have added some
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            partial = new_partial(self.file)
            partial.write_text(json.dumps(known), encoding="utf-8")
            put_in_place(partial, self.file)
        except OSError:
            return
        self._known = known

    def _read(self) -> dict[str, Times]:
        try:
            if self.file.stat().st_size > _MOST_BYTES:
                return {}
            document = read_json(self.file)
        except (OSError, ValueError, RefinerError):
            return {}
        return document if isinstance(document, dict) else {}


def key_of(near: str, network: nn.Module, names: Sequence[str]) -> str | None:
    """Return the key of a slot with its candidates, None where it must not be kept.

    Args:
        near: key of its neighbourhood.
        network: the neighbourhood.
        names: of the candidates.
    """
    owners = {type(module).__module__.partition(".")[0] for module in network.modules()}
    if owners <= set(_KNOWN) and all(map(is_own_candidate, names)):
        return digest([near, *names])
    return None


def still_true(kept: Sequence[float], now: Sequence[float]) -> bool:
    """Return whether the original takes as long now as when times were kept."""
    return abs(statistics.median(now) / statistics.median(kept) - 1) <= TOLERANCE


def _user_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "refiner" / "latency"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
