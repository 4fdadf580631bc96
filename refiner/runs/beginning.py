"""Begin a run in a new folder, or go on with what a folder holds."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from refiner.core.errors import ConfigError, RunError
from refiner.core.types import JsonDict
from refiner.runs.fingerprint import check_fingerprint
from refiner.runs.run_folder import RunFolder, check_free


def open_or_create(
    out: str | os.PathLike[str] | None,
    resume: bool,
    settings: Mapping[str, object],
    provenance: Mapping[str, object] | None,
    fingerprint: Callable[[], JsonDict],
    *,
    main: bool,
) -> RunFolder | None:
    """Return the folder of a new run or of one to resume; None where no folder was named.

    With several processes, only the main one makes a folder; all of them read an existing one.

    Args:
        out: the folder.
        resume: whether it holds a run to go on with.
        settings: that have to be equal then.
        provenance: how the model was made.
        fingerprint: returns what else has to be equal; see :mod:`refiner.runs.fingerprint`.
        main: whether this is the main process.

    Raises:
        ConfigError: there is no folder to resume.
        RunError: a new run's folder is taken, or the run to resume was begun with other settings,
            weights, data or versions.
    """
    if out is None:
        if resume:
            raise ConfigError("resume needs the run's folder. Give out=DIR.")
        return None
    if not resume and not main:
        return None
    if not resume:
        check_free(Path(out))  # before anything is read
        config = {"provenance": provenance, "settings": settings, "fingerprint": fingerprint()}
        return RunFolder.create(out, config)
    folder = RunFolder.open(out)
    config = folder.config()
    before, now = config.get("settings"), json.loads(json.dumps(settings))
    if not isinstance(before, dict):
        raise RunError(f"{folder.path} holds no settings, so it cannot go on. Begin a new run.")
    for key in {**now, **before}:
        if before.get(key) != now.get(key):
            raise RunError(
                f"{folder.path} was made with another setting: {key} is {before.get(key)!s:.200} "
                f"there and {now.get(key)!s:.200} here. Resume with the same settings, or begin a "
                "new run."
            )
    check_fingerprint(folder.path, config.get("fingerprint"), fingerprint())
    return folder


@contextmanager
def dropped_on_error(folder: RunFolder | None) -> Iterator[None]:
    """Remove a run's folder if the run fails before its first epoch; an interrupt keeps it."""
    try:
        yield
    except Exception:
        if folder is not None:
            folder.drop_if_nothing_is_done()
        raise
