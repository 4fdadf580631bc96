"""Which listener a command takes."""

import io

from refiner.cli.bars import Bars
from refiner.cli.screen import PlainLines, listener, listening


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_are_for_terminals(monkeypatch) -> None:
    assert isinstance(listener(), PlainLines)
    monkeypatch.setattr("sys.stderr", Terminal())
    assert isinstance(listener(), Bars)


def test_a_stopped_run_prints_the_command_that_resumes_it(tmp_path, capsys) -> None:
    (tmp_path / "config.json").touch()
    try:
        with listening(tmp_path, "refine --resume DIR net.py:build"):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert "to go on: refine --resume DIR net.py:build\n" in capsys.readouterr().err
