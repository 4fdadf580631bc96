"""The processors that this process may use, and the memory of the machine."""

import math
import os
from pathlib import Path


def available_cpus(root: Path = Path("/")) -> int:
    """Return how many processors this process may use, at least 1.

    The affinity of the process and the quota of its control groups (cgroups) count, as a container
    sets them. Several processes of one run on this machine share them.

    Args:
        root: of the file system.
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        count = os.cpu_count() or 1
    quota = min(_quotas(root), default=math.inf)
    here = os.environ.get("LOCAL_WORLD_SIZE", "1")
    processes = int(here) if here.isdecimal() else 1
    return max(1, int(min(count, max(1.0, quota)) / max(1, processes)))


def total_memory() -> int | None:
    """Return the bytes of the machine's memory; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _quotas(root: Path) -> list[float]:
    """Return the processors that each control group above this process allows, where it limits."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    quotas = []
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / controllers
        group = top / path.strip("/")
        for folder in (group, *group.parents):
            quotas.append(_quota(folder))
            if folder == top:
                break
    return [quota for quota in quotas if quota is not None]


def _quota(folder: Path) -> float | None:
    """Return the processors that one control group allows, of version 2 or 1; None: no limit."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        share = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # "max" is not a number
        return None
    return share if share > 0 else None
