"""Share of mutants that the tests kill, by mutmut.

mutmut changes one place of a function at a time: an operator, a number, an argument, a condition.
A mutant is killed where a test then fails. Each is run in a process that is forked after PyTorch
was imported, with the tests that reach the function, out of those of the four packages.

A mutant is drawn by a hash of the seed and its name, so a change of one function leaves the draw
of the others as it is. Mutants that change nothing but the text of a message, an assertion or
zip's ``strict`` do not count. mutmut leaves out functions with decorators, such as properties and
context managers, and removes no statement.

It works on a copy in build/mutants, and goes on there: mutants that were killed are not run again
until their function changes. The survivors are listed in build/mutants/survivors.txt.
"""

import argparse
import ast
import difflib
import hashlib
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "mutants"
COPY = BUILD / "checkout"
PACKAGES = ("cost", "search", "training", "distill")
KILLED = ("killed", "timeout", "segfault")
CONFIG = """
[tool.mutmut]
source_paths = ["refiner"]
only_mutate = ["refiner/cost/*", "refiner/search/*", "refiner/training/*", "refiner/distill/*"]
also_copy = ["cli", "recipes", "benchmarks"]
pytest_add_cli_args = ["-p", "no:cacheprovider", "--hypothesis-profile=ci", "-k", "not two_processes_agree and not whole_runs_keep"]
pytest_add_cli_args_test_selection = ["tests/cost", "tests/search", "tests/training", "tests/distill"]
timeout_multiplier = 4.0
timeout_constant = 2.0
use_git_change_detection = false
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("packages", nargs="*", default=list(PACKAGES), help="default: all four")
    parser.add_argument("--share", type=float, default=0.2, help="of the mutants that are drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60, help="after which it stops")
    parser.add_argument("--again", action="store_true", help="run survivors again: tests are new")
    given = parser.parse_args()
    copy_checkout()
    mutmut("run", "generates.only.*", minutes=given.minutes)  # it ends at the names it cannot find
    mutants = [name for name in statuses() if name.split(".")[1] in given.packages]
    drawn = [name for name in mutants if is_drawn(name, given.seed, given.share)]
    drawn = [name for name in drawn if not is_text(name)]
    known = statuses()
    undecided = ("not checked", "no tests", *(("survived",) if given.again else ()))
    left = [name for name in drawn if known[name] in undecided]
    if left:
        mutmut("run", "--max-children", "1", *left, minutes=given.minutes)
    report(
        given.packages, {name: status for name, status in statuses().items() if name in set(drawn)}
    )


def copy_checkout() -> None:
    """Copy what git knows or would add; mutmut goes by the times of files."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    wanted = {name for name in listed if name and (ROOT / name).is_file()}
    for old in COPY.rglob("*.py") if COPY.exists() else ():
        name = str(old.relative_to(COPY))
        if name not in wanted and not name.startswith("mutants/"):
            old.unlink()
            (COPY / "mutants" / name).unlink(missing_ok=True)
    for name in wanted:
        target, data = COPY / name, (ROOT / name).read_bytes()
        if name == "pyproject.toml":
            data += CONFIG.encode()
        if not target.is_file() or target.read_bytes() != data:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    # Else mutmut would not see that a test reaches a function that moved.
    (COPY / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)


def mutmut(*arguments: str, minutes: float = 1.0) -> str:
    """Run mutmut in the copy, stop it after so many minutes, and return what it printed."""
    log = BUILD / "mutmut.log"
    # The copy's tests import the mutants, which lie before the installed package on the path.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with log.open("w+") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "mutmut", *arguments],
            cwd=COPY, env=environment, stdout=out, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(60 * minutes)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            os.killpg(process.pid, signal.SIGTERM)  # what was found so far is kept
            process.wait()
            return ""
        out.seek(0)
        text = out.read()
    if process.returncode and "nothing matches" not in text:
        sys.exit(f"mutmut failed:\n{text[-3000:]}")
    return text


def statuses() -> dict[str, str]:
    """Return the status of each mutant by name, such as ``refiner.cost.reach.x__shares__mutmut_1``."""
    lines = mutmut("results", "--all", "true").splitlines()
    return dict(sorted(line.strip().rsplit(": ", 1) for line in lines if "__mutmut_" in line))


def is_drawn(name: str, seed: int, share: float) -> bool:
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


@cache
def functions(path: Path) -> dict[str, ast.FunctionDef]:
    """Return the functions of a file by their names, those of a class as ``xǁCLASSǁNAME``."""
    found = {}
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found[f"x_{node.name}" if not node.name.startswith("x_") else node.name] = node
        elif isinstance(node, ast.ClassDef):
            for each in node.body:
                if isinstance(each, ast.FunctionDef):
                    own = each.name if "ǁ" in each.name else f"xǁ{node.name}ǁ{each.name}"
                    found[own] = each
    return found


def both_of(name: str) -> tuple[Path, ast.FunctionDef, ast.FunctionDef]:
    """Return the file of a mutant, the original function, and the mutant."""
    module, _, function = name.rpartition(".")
    path = Path(*module.split(".")).with_suffix(".py")
    original = functions(ROOT / path)[re.sub(r"__mutmut_\d+$", "", function)]
    return path, original, functions(COPY / "mutants" / path)[function]


class _WithoutText(ast.NodeTransformer):
    """Removes messages: what is raised with, f-strings, and strings with a space; and assertions."""

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return ast.Raise(exc=getattr(node.exc, "func", node.exc), cause=node.cause)

    def visit_Assert(self, _: ast.Assert) -> ast.AST:
        return ast.Pass()

    def visit_keyword(self, node: ast.keyword) -> ast.AST | None:
        self.generic_visit(node)
        return None if node.arg == "strict" else node

    def visit_JoinedStr(self, _: ast.JoinedStr) -> ast.AST:
        return ast.Constant("")

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        text = isinstance(node.value, str) and " " in node.value
        return ast.Constant("") if text else node


def is_text(name: str) -> bool:
    """Return whether a mutant differs from its original in messages and assertions alone."""
    _, *both = both_of(name)
    first, second = (
        [ast.dump(_WithoutText().visit(each)) for each in (node.args, *node.body)] for node in both
    )
    return first == second


def diff_of(name: str) -> Iterator[str]:
    """Yield the place of a mutant and the lines that it changes."""
    path, *both = both_of(name)
    texts = [(ROOT / path).read_text("utf-8"), (COPY / "mutants" / path).read_text("utf-8")]
    old, new = (
        text.replace(node.name, both[0].name).splitlines()[node.lineno - 1 : node.end_lineno]
        for text, node in zip(texts, both, strict=True)
    )
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    changed = [codes for codes in matcher.get_opcodes() if codes[0] != "equal"]
    line = both[0].lineno + (changed[0][1] if changed else 0)
    yield f"{path}:{line} {name.rpartition('.')[2]}"
    for _, a, b, c, d in changed:
        yield from (f"  - {text.strip()}" for text in old[a:b])
        yield from (f"  + {text.strip()}" for text in new[c:d])


def report(packages: list[str], found: dict[str, str]) -> None:
    """Print the table of README.md and write the survivors."""
    print("| package | mutants | killed | share |\n| --- | ---: | ---: | ---: |")
    for package in [*packages, "all"]:
        of = [s for n, s in found.items() if package in ("all", n.split(".")[1])]
        counts = Counter(of)
        run = len(of) - counts["not checked"]
        killed = sum(counts[status] for status in KILLED)
        print(f"| {package} | {run} | {killed} | {100 * killed / max(run, 1):.0f} % |")
    print(dict(Counter(found.values())))
    lines = [
        line
        for name, status in found.items()
        if status not in (*KILLED, "not checked")
        for line in (*diff_of(name), f"  {status}", "")
    ]
    (BUILD / "survivors.txt").write_text("\n".join(lines), encoding="utf-8")
    print(f"Survivors: {BUILD / 'survivors.txt'}")


if __name__ == "__main__":
    main()
