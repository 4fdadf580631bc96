"""Replace modules inside a module tree, in place."""

from collections.abc import Mapping

from torch import nn


def replace_modules(root: nn.Module, replacements: Mapping[str, nn.Module]) -> None:
    """Put each module of ``replacements`` where ``root`` has the submodule of that name.

    A submodule that hangs in the tree under several names is replaced under all of them.

    Raises:
        AttributeError: ``root`` has no submodule of that name.
    """
    new_of_old = {id(root.get_submodule(name)): new for name, new in replacements.items()}
    for parent in list(root.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and id(child) in new_of_old:
                parent._modules[name] = new_of_old[id(child)]
