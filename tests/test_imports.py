"""That the three houses are ours: other distributions on PyPI carry the same names."""

import importlib
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("house", ["rules", "worker", "scheduler"])
def test_houses_are_ours(house: str) -> None:
    """A house is imported from this tree, and not from a distribution that is called the same."""
    module = importlib.import_module(house)

    assert module.__file__ is not None
    assert Path(module.__file__).parent == ROOT / house


def test_houses_are_the_packages() -> None:
    """Every house is packaged and has its place in the layers, and nothing else does."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    houses = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "bench"}

    packaged = {name for name in settings["setuptools"]["packages"]["find"]["include"] if not name.endswith(".*")}
    layers = next(contract["layers"] for contract in settings["importlinter"]["contracts"] if "layers" in contract)

    assert packaged == houses
    assert set(layers) == houses
