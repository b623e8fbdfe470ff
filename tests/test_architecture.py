"""
Imports only go down.

The table gives each module its floor.  ``name.*`` is for a package with all its
modules, except those that have a line of their own.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import mixedar

FLOORS = {
    "mixedar.exceptions": 0,
    "mixedar.lazy": 0,
    "mixedar.unchanged": 0,
    "mixedar.containment": 0,
    "mixedar.linalg": 0,
    "mixedar.jets.*": 0,
    "mixedar.residual.base": 1,
    "mixedar.grouped": 1,
    "mixedar.residual.*": 2,
    "mixedar.variance.base": 2,
    "mixedar.variance.*": 2,
    "mixedar.variance": 3,
    "mixedar.compress": 2,
    "mixedar.covariance": 2,
    "mixedar.residual": 3,
    "mixedar.moments.*": 3,
    "mixedar.moments.arrays": 2,
    "mixedar.woodbury": 3,
    "mixedar.sums": 0,
    "mixedar.effects": 3,
    "mixedar.estimate": 4,
    "mixedar.newton": 4,
    "mixedar.starts": 4,
    "mixedar.identification": 3,
    "mixedar.likelihood": 3,
    "mixedar.problem": 3,
    "mixedar.simulate": 3,
    "mixedar.datasets": 4,
    "mixedar.design.*": 4,
    "mixedar.optimize": 4,
    "mixedar.summary.*": 4,
    "mixedar.timeaxis": 4,
    "mixedar.validate": 4,
    "mixedar.mixed.*": 5,
    "mixedar.panel.*": 5,
    "mixedar.inference.*": 4,
    "mixedar.prediction.*": 4,
    "mixedar.by_group.*": 4,
    "mixedar.diagnostics.*": 4,
    "mixedar.plotting.*": 4,
    "mixedar.report.*": 4,
    "mixedar.selection.*": 4,
    "mixedar.compare.*": 7,
    "mixedar.tidy": 7,
    "mixedar": 8,
    "mixedar.api": 8,
    "mixedar.formula.*": 8,
    "mixedar.cli.*": 8,
    "mixedar.__main__": 8,
}
FROM_FLOOR_4 = {
    "formulaic",
    "linearmodels",
    "matplotlib",
    "pandas",
    "patsy",
    "statsmodels",
    "tqdm",
}
LATE = ("linearmodels", "matplotlib", "tqdm")
ROOT = Path(mixedar.__file__).parent
LONGEST = 400


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def floor(module: str) -> int | None:
    """Return the floor of a module, None if the table has none."""
    if module in FLOORS:
        return FLOORS[module]
    package = module
    while package:
        if f"{package}.*" in FLOORS:
            return FLOORS[f"{package}.*"]
        package = package.rpartition(".")[0]
    return None


def imports(module: str) -> Iterator[str]:
    """Yield the modules that a module imports anywhere, in functions too."""
    path = PATHS[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                source = ".".join([*above, source] if source else above)
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield inner if inner in PATHS else source


def own_imports(module: str) -> list[str]:
    """Return the imports that are modules of the package."""
    return [name for name in imports(module) if name in PATHS and name != module]


@pytest.mark.parametrize("module", PATHS)
def test_module_has_a_floor(module: str) -> None:
    assert floor(module) is not None, f"give {module} a line in FLOORS"


@pytest.mark.parametrize("module", PATHS)
def test_imports_go_down(module: str) -> None:
    here = floor(module)
    assert here is not None
    upward = {}
    for name in own_imports(module):
        there = floor(name)
        if there is None or there > here:
            upward[name] = there
    assert not upward, f"{module} stands on floor {here}"


def test_no_import_cycles() -> None:
    # A package counts as its __init__.py only where that is what is imported.
    graph = {module: set(own_imports(module)) for module in PATHS}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("module", PATHS)
def test_low_floors_know_numpy_and_scipy_only(module: str) -> None:
    here = floor(module)
    assert here is not None
    if here < 4:
        outside = {name.partition(".")[0] for name in imports(module)}
        assert not outside & FROM_FLOOR_4


@pytest.mark.parametrize("module", PATHS)
def test_module_is_short_and_documented(module: str) -> None:
    text = PATHS[module].read_text(encoding="utf-8")
    lines = text.count("\n")
    assert lines <= LONGEST, f"{module} wants to be two modules"
    if module.rpartition(".")[2].startswith("_") and not module.endswith("__main__"):
        return
    assert ast.get_docstring(ast.parse(text)), f"{module} has no docstring"


def modules_after(statement: str) -> set[str]:
    """Return what stands in sys.modules of a new process after a statement."""
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        check=True,
        cwd=ROOT.parent,
        text=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("statement", ["import mixedar", "import mixedar.formula.api"])
def test_heavy_packages_load_late(statement: str) -> None:
    assert not modules_after(statement) & set(LATE)


def test_datasets_need_nothing_but_pandas() -> None:
    # Against pandas alone: the package's __init__ may load what it offers.
    source = imports("mixedar.datasets")
    outside = {name.partition(".")[0] for name in source} - sys.stdlib_module_names
    assert outside == {"pandas"}


def test_relative_and_submodule_imports_are_resolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new.py"
    path.write_text(
        "from . import base\nfrom ..linalg import x\nfrom mixedar import grouped\n"
        "def f():\n    import mixedar.residual.base\n"
    )
    monkeypatch.setitem(PATHS, "mixedar.residual.new", path)
    monkeypatch.setitem(PATHS, "mixedar.residual.base", path)
    monkeypatch.setitem(PATHS, "mixedar.linalg", path)
    monkeypatch.setitem(PATHS, "mixedar.grouped", path)
    assert list(imports("mixedar.residual.new")) == [
        "mixedar.residual.base",
        "mixedar.linalg",
        "mixedar.grouped",
        "mixedar.residual.base",
    ]
