"""How the threads of OpenMP wait for each other, chosen before torch is loaded.

By default a thread that has nothing to do spins for milliseconds. Where other programs keep the
processors busy, it takes the time that the thread it waits for would need, and small convs become
many times slower. With a short spin it sleeps instead. The number of threads stays, and so do the
results, to the bit.
"""

import sys
from collections.abc import MutableMapping

_USERS_OWN = (
    "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY",
    "OMP_NUM_THREADS", "MKL_NUM_THREADS",
)  # fmt: skip
"""Variables with which a user decides how threads work."""
_SPINS = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}
"""A short spin, by the names of GNU's and of Intel's and LLVM's OpenMP."""


def let_threads_sleep(environment: MutableMapping[str, str]) -> None:
    """Let threads that wait sleep soon, where the user has set nothing and torch is not loaded.

    Only the command does this: a process that imports the library has its own settings.
    """
    if "torch" in sys.modules or any(name in environment for name in _USERS_OWN):
        return
    environment.update(_SPINS)
