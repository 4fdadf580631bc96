import pytest

from refiner.core.errors import ArchitectureError, ConfigError
from refiner.enas.macro import MacroSpace

SPACE = MacroSpace(nodes=4, operations=("conv3x3", "maxpool3x3"))
# O1 O2 O3 S31 O4 S41 S42
VECTOR = (0, 1, 0, 1, 1, 0, 1)


def test_layout_of_four_nodes() -> None:
    assert SPACE.layout == ((1, None), (2, None), (3, None), (3, 1), (4, None), (4, 1), (4, 2))
    assert SPACE.operators == (0, 1, 2, 4)
    assert SPACE.skips == {3: (3, 1), 5: (4, 1), 6: (4, 2)}
    assert SPACE.node_of == (1, 2, 3, 3, 4, 4, 4)
    operator, skip = ("conv3x3", "maxpool3x3"), ("no skip", "skip")
    assert SPACE.choices == (operator, operator, operator, skip, operator, skip, skip)
    assert SPACE.sources(VECTOR) == ((), (), (1,), (2,))


def test_sizes_are_those_of_the_papers_example() -> None:
    space = MacroSpace()
    assert (len(space.operators), len(space.skips)) == (12, 55)
    assert 10**space.log10_operators == pytest.approx(6**12)
    assert 10**space.log10_skips == pytest.approx(2**55)
    assert f"{10**space.log10_operators:.0e}" == "2e+09"
    assert f"{10**space.log10_skips:.0e}" == "4e+16"


def test_errors() -> None:
    with pytest.raises(ArchitectureError, match="6 numbers, but the macro space has 7"):
        SPACE.check((0,) * 6)
    with pytest.raises(ArchitectureError, match="the skip 1 -> 3 has no index 2"):
        SPACE.check((0, 0, 0, 2, 0, 0, 0))
    with pytest.raises(ConfigError, match="nodes is 0"):
        MacroSpace(nodes=0)
    with pytest.raises(ConfigError, match="each once"):
        MacroSpace(operations=("conv3x3", "conv3x3"))
    with pytest.raises(ConfigError, match="keep0.5 is for groups"):
        MacroSpace(operations=("conv3x3", "keep0.5"))
    with pytest.raises(ConfigError, match="unknown candidate 'conv9x9'"):
        MacroSpace(operations=("conv9x9",))
