import pytest

from refiner.core.errors import ModelError
from refiner.core.models import ModelSpec, default_input_size
from refiner.core.user_code import functions_in, load_function


def test_a_function_of_a_package() -> None:
    spec = ModelSpec(source="refiner.recipes.lresnet50e_ir_faces:build_model")
    assert default_input_size(spec.build()) == (3, 112, 112)


def test_a_file_that_fails_on_import_is_not_half_loaded(tmp_path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("x = 1 / 0\n")
    for _ in range(2):
        with pytest.raises(ModelError, match="ZeroDivisionError"):
            ModelSpec(source=f"{path}:build").build()


def test_neighbours_of_a_file_are_found_relatively_absolutely_and_late(tmp_path) -> None:
    (tmp_path / "refiner_blocks_x.py").write_text("WIDTH = 4\n")
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "from .refiner_blocks_x import WIDTH\n"
        "import refiner_blocks_x as blocks\n"
        "def build():\n"
        "    from refiner_blocks_x import WIDTH as late\n"
        "    return nn.Conv2d(WIDTH, blocks.WIDTH, late)\n"
    )
    assert ModelSpec(source=f"{tmp_path}/net.py:build").build().kernel_size == (4, 4)


def test_the_functions_of_a_file_are_known_without_running_it(tmp_path) -> None:
    file = tmp_path / "net.py"
    file.write_text("raise RuntimeError\ndef build(): ...\ndef _own(): ...\n")
    assert functions_in(file) == " It has: build."
    file.write_text("def (:")
    assert functions_in(file) == ""


def test_two_files_of_one_name_are_two_modules(tmp_path) -> None:
    found = []
    for folder, number in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "refiner_same_name.py").write_text(
            f"def number():\n    return {number}\n"
        )
        source = f"{tmp_path / folder / 'refiner_same_name.py'}:number"
        found.append(load_function(source, ModelError)())
    assert found == [1, 2]
