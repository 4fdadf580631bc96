import os

import pytest

from refiner.core.cpus import available_cpus, total_memory


@pytest.fixture(autouse=True)
def _eight_processors(monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)


def write(root, files) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        (  # a group above this one limits it
            {
                "proc/self/cgroup": "0::/pod/task\n",
                "sys/fs/cgroup/pod/task/cpu.max": "max 100000\n",
                "sys/fs/cgroup/pod/cpu.max": "300000 100000\n",
            },
            3,
        ),
        (  # version 1
            {
                "proc/self/cgroup": "4:memory:/a\n2:cpu,cpuacct:/docker/a\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/cpu.max": "100000 100000\n",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": "2:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
        ({"proc/self/cgroup": "odd\n"}, 8),
    ],
)
def test_the_quota_of_the_control_groups_counts(files, expected, tmp_path) -> None:
    write(tmp_path, files)
    assert available_cpus(tmp_path) == expected


def test_affinity_counts_and_processes_share(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 3, 5, 6})
    assert available_cpus(tmp_path) == 4
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert available_cpus(tmp_path) == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert available_cpus(tmp_path) == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 32)
    assert available_cpus(tmp_path) == 2


def test_the_memory_is_told_in_bytes_or_not_at_all(monkeypatch) -> None:
    memory = total_memory()
    assert memory is None or memory > 2**28

    def unknown(_name: str) -> int:
        raise ValueError

    monkeypatch.setattr(os, "sysconf", unknown)
    assert total_memory() is None
