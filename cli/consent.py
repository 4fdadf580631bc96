"""The code that a run's folder may run: none, until the command line names or trusts it."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from refiner.core.errors import RunError
from refiner.core.user_code import only_named

from .paths import absolute

_NAMES_OF_DATA = ("timm:", "torchvision:", "folder:", "faces:", "hf:", "huggingface:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """What the user named again, beside a folder, and what they trust."""

    named: Mapping[str, str] = field(default_factory=dict)
    """Sources by the option that named them; MODEL is an option of the name ``""``."""
    trust: bool = False
    """Whether all code may run that the folder names."""
    trust_weights: bool = False
    """Whether objects in files of weights may be unpickled."""

    @classmethod
    def of(
        cls,
        *,
        trust: bool,
        trust_weights: bool = False,
        positional: str | None = None,
        **named: str | None,
    ) -> "Consent":
        """Return the consent of a command: MODEL as ``positional``, and options by their names."""
        named = {"": positional, **named}
        given = {
            f"--{name}" if name else "": absolute(source)
            for name, source in named.items()
            if source is not None
        }
        return cls(named=given, trust=trust, trust_weights=trust_weights)

    @property
    def sources(self) -> tuple[str, ...]:
        """What the user named again."""
        return tuple(self.named.values())

    @contextmanager
    def given(self, folder: Path, wanted: Mapping[str, object], command: str) -> Iterator[None]:
        """Run no code inside that only the folder names.

        Args:
            folder: of a run.
            wanted: the sources that it names, by the option that would name them again.
            command: that the user typed, without these options.

        Raises:
            RunError: it names code that the user did not name, or another than the user named.
        """
        for option, source in self.named.items():
            if wanted.get(option) != source:
                what = option or "MODEL"
                raise RunError(
                    f"{folder} was made with {what} {wanted.get(option)}, not with {source}. Leave "
                    f"{what} out, or name the same."
                )
        code = {o: s for o, s in wanted.items() if isinstance(s, str) and names_code(s)}
        unnamed = [source for option, source in code.items() if option not in self.named]
        if unnamed and not self.trust:
            words = [word for option, source in code.items() for word in (option, source) if word]
            raise RunError(
                f"{folder} asks to run code of its own: {', '.join(unnamed)}. A folder is data, so "
                f"nothing was run. If you trust this code, name it again: {command} "
                f"{shlex.join(words)}; or add --trust."
            )
        trust = self.trust or "--recipe" in self.named  # its code may do anything by itself
        with only_named(folder, self.sources, trust=trust):
            yield


def names_code(source: str) -> bool:
    """Return whether a source is ``FILE.py:FUNCTION``, ``package.module:FUNCTION`` or a recipe."""
    if source.startswith(_NAMES_OF_DATA):
        return False
    head, colon, _ = source.rpartition(":")
    return source.endswith(".py") or head.endswith(".py") or bool(colon)


def again(wanted: Mapping[str, object]) -> str:
    """Return the words that name a run's own code again, to put behind the command that resumes."""
    code = [(o, s) for o, s in wanted.items() if isinstance(s, str) and names_code(s)]
    return "".join(f" {shlex.quote(word)}" for pair in code for word in pair if word)
