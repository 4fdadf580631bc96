import pytest
from refiner.cli.app import main


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("m.py:f --bugdet 3", "there is no option --bugdet. Did you mean --budget?"),
        ("m.py:f --xyzzy", "there is no option --xyzzy."),
        ("m.py:f --epochs ten", "--epochs wants a whole number."),
        ("m.py:f --epochs 1.5", "--epochs wants a whole number."),
        ("m.py:f --lr fast", "--lr wants a number."),
        ("m.py:f --epochs", "--epochs wants a value."),
        ("m.py:f --pretrained=yes", "--pretrained takes no value. Write it alone."),
        ("m.py:f more words", "there are too many arguments: more words. Leave out"),
        ("m.py:f --precision int4", "--precision is not 'int4'. Choose one of: no, bf16."),
        ("export", "FOLDER is missing."),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(words: str, told: str, capsys) -> None:
    assert main(words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {told}")
    assert line.endswith("--help` lists all options.")
