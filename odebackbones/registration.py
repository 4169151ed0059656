"""Registration of the models in timm as soon as timm is imported; users of the solvers alone do not wait for timm."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

MODELS = "odebackbones.models"
"""Module that registers the models when it is imported."""


def register_with_timm() -> None:
    """Import the models now if timm is already imported, or else right after timm."""
    if "timm" in sys.modules:
        import_module(MODELS)
    else:
        sys.meta_path.insert(0, TimmFinder())


class TimmFinder(MetaPathFinder):
    """A finder that locates timm as usual and has our models imported after it."""

    def __init__(self) -> None:
        self.is_searching = False

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return timm's spec with our loader; None for other modules."""
        if name != "timm" or self.is_searching:
            return None
        self.is_searching = True
        try:
            spec = find_spec(name)
        finally:
            self.is_searching = False
        if spec is not None and spec.loader is not None:
            spec.loader = ModelsAfter(spec.loader, self)
        return spec


class ModelsAfter(Loader):
    """A loader of timm and then of our models.

    Args:
        loader: timm's own loader.
        finder: The finder, which is removed once timm is loaded.
    """

    def __init__(self, loader: Loader, finder: TimmFinder) -> None:
        self.loader, self.finder = loader, finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create timm's module."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run timm's code and ours; timm's module gets its own loader back."""
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        if self.finder in sys.meta_path:
            sys.meta_path.remove(self.finder)
        import_module(MODELS)
