"""Names of the open dimensions of an ONNX file, such as ``batch`` and ``height``.

``torch.export`` numbers them: ``s77``. A reader of the file cannot see which is which.
"""

import re
from pathlib import Path
from typing import Any

_SIDES: dict[int, tuple[str, ...]] = {
    3: ("length",),
    4: ("height", "width"),
    5: ("depth", "height", "width"),
}
"""Names of the dimensions after batch and channels, by the number of dimensions."""


def name_dimensions(file: Path) -> None:
    """Name the open dimensions of an ONNX file by what they mean in its first inputs, in place.

    Dimension 0 of an input is ``batch``. A dimension of another size with a name that is taken has
    the name of its input in front of it.
    """
    import onnx

    model = onnx.load(str(file))
    names = _names(model.graph.input)
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(r"\w+", lambda m: names.get(m[0], m[0]), dim.dim_param)
    onnx.save(model, str(file))


def _names(inputs: Any) -> dict[str, str]:
    """Return a name for each symbol that is an open dimension of an input by itself."""
    names: dict[str, str] = {}
    for value in inputs:
        dims = value.type.tensor_type.shape.dim
        meanings = ("batch", "channels", *_SIDES.get(len(dims), ()))
        for i, dim in enumerate(dims):
            if dim.dim_param.isidentifier() and dim.dim_param not in names:
                name = meanings[i] if i < len(meanings) else f"dimension{i}"
                taken = name in names.values()
                names[dim.dim_param] = f"{value.name}_{name}" if taken else name
    return names
