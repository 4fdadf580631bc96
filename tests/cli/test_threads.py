"""How threads wait is set before torch is loaded, by the command alone."""

import os
import subprocess
import sys

import pytest
from refiner.cli import threads

SET = "GOMP_SPINCOUNT"
USERS = ("OMP_", "GOMP_", "KMP_", "MKL_")


def in_a_new_process(code: str, **environment: str) -> str:
    bare = {k: v for k, v in os.environ.items() if not k.startswith(USERS)} | environment
    done = subprocess.run(
        [sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1]


COMMAND = f"""
import os, sys

class AtTorch:
    def find_spec(self, name, *_):
        if name == "torch":
            seen.append(os.environ.get("{SET}"))

seen = []
sys.meta_path.insert(0, AtTorch())
from refiner.cli.app import main
main(["recipes"])
print(seen)
"""


def test_the_command_lets_waiting_threads_sleep_before_torch_is_loaded() -> None:
    assert in_a_new_process(COMMAND) == "['1000']"


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"])
def test_what_the_user_set_stays(name) -> None:
    assert in_a_new_process(COMMAND, **{name: "1"}) == "[None]"
    environment = {name: "1"}
    threads.let_threads_sleep(environment)
    assert environment == {name: "1"}


def test_the_library_sets_nothing() -> None:
    code = f"import os, refiner; refiner.search_space; print(os.environ.get('{SET}'))"
    assert in_a_new_process(code) == "None"


def test_with_torch_loaded_it_would_come_too_late(monkeypatch) -> None:
    environment: dict[str, str] = {}
    monkeypatch.setitem(sys.modules, "torch", object())
    threads.let_threads_sleep(environment)
    assert environment == {}
    monkeypatch.delitem(sys.modules, "torch")
    threads.let_threads_sleep(environment)
    assert environment[SET] == "1000"
