"""
The shape of the house: one order of folders, short files, nothing fetched early.

A list of what still waits to be mended names just that: what is mended leaves it.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import mixedar
from mixedar.residual import MarkovStructure, ResidualStructure
from mixedar.residual.base import Parametric

# Each folder, or file at the top, imports only from those before it.
ORDER = (
    "exceptions",
    "_lazy",
    "_types",
    "datasets",
    "streams",
    "numeric",
    "residual",
    "relations",
    "smooths",
    "summary",
    "engine",
    "hypotheses",
    "data",
    "fit",
    "inference",
    "prediction",
    "plotting",
    "diagnostics",
    "by_group",
    "selection",
    "report",
    "posterior",
    "priors",
    "mixed",
    "planning",
    "panel",
    "compare",
    "sklearn",
    "api",
    "formula",
    "mixedar",  # __init__.py
    "cli",
    "__main__",
)
NUMPY_AND_SCIPY_ONLY = (
    "exceptions",
    "_lazy",
    "_types",
    "numeric",
    "residual",
    "engine",
)
OTHERS = {
    "formulaic",
    "linearmodels",
    "matplotlib",
    "pandas",
    "patsy",
    "sklearn",
    "statsmodels",
    "tqdm",
}
LATE = ("dask", "duckdb", "linearmodels", "matplotlib", "sklearn", "tqdm")
ROOT = Path(mixedar.__file__).parent
FILE_LINES, FUNCTION_LINES = 350, 60
# Waiting to be taken apart; nothing is added here without a reason.
LONG_FILES: set[str] = set()
LONG_FUNCTIONS: set[str] = set()
# Names of classes that still stand for two things.
TWICE: set[str] = set()
# Files of their own that one neighbour alone imports, and why.
ALONE = {
    "mixedar.compare.maketables": "all that is known of the package maketables",
    "mixedar.compare.foreign": "all that is known of other packages' fits",
    "mixedar.data.formula.products": "designs of many rows, apart from the engines",
    "mixedar.data.totals": "sums of rows, apart from how they are read",
    "mixedar.diagnostics.influence.linked": "the algebra of levels that are linked",
    "mixedar.engine.batch_newton": "steps of many searches, apart from their starts",
    "mixedar.engine.batch_patterns": "matrices of clusters, apart from the likelihood",
    "mixedar.engine.smoothing": "what states tell of new rows, apart from matrices",
    "mixedar.fit.population": "what all rows share, apart from the fit",
    "mixedar.fit.related": "what relates levels, apart from the fit",
    "mixedar.inference.constrained": "the likelihood that paths climb",
    "mixedar.mixed.fit": "the search, apart from the model's arguments",
    "mixedar.mixed.recipe": "how a model is written again, apart from its making",
    "mixedar.mixed.summary": "what stands in which table",
    "mixedar.panel.predictions": "rows with and without effects, and their errors",
    "mixedar.panel.summary": "what stands in which table",
    "mixedar.posterior.chains": "the fallback, and whether chains agree",
    "mixedar.posterior.coordinates": "the density, apart from what is asked of draws",
    "mixedar.posterior.defaults": "names and priors, apart from the density",
    "mixedar.posterior.given": "all that is exact given draws",
    "mixedar.posterior.leave_out": "parts of the likelihood by group",
    "mixedar.report.contents": "what stands in which section, apart from its form",
    "mixedar.report.facts": "numbers, apart from the page",
    "mixedar.report.html": "the form of a page",
    "mixedar.report.pdf": "the form of printed pages",
    "mixedar.report.pictures": "pictures alone",
    "mixedar.streams.distributed": "all that is known of Dask",
    "mixedar.streams.files": "all that is known of files",
}
# What these names stand for has a type, but where anything may come in.
TYPED = ("fit", "fits", "results", "model", "structure")
TAKE_ANYTHING = {
    "mixedar._lazy": "binds methods to whatever class has them",
    "mixedar._types": "takes statsmodels' wrapper off",
    "mixedar.compare.foreign": "fits of other packages",
    "mixedar.diagnostics.checkup": "results in statsmodels' wrapper",
    "mixedar.inference.anova": "results in statsmodels' wrapper",
    "mixedar.inference.likelihood_ratio": "results in statsmodels' wrapper",
    "mixedar.panel.linearmodels": "a class of linearmodels, untyped",
    "mixedar.residual.registry": "a structure before its class is known",
}
UNTYPED: set[str] = set()
# Folders of tests that mirror no folder of the package.
NO_MIRRORS = {"benchmarks", "docs", "helpers", "reference"}
TESTS = Path(__file__).parent


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return all nodes of the syntax tree of a file."""
    return tuple(ast.walk(parsed(path)))


def folder(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def imports(module: str) -> Iterator[str]:
    """Yield the modules that a module imports anywhere, in functions too."""
    path = PATHS[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in nodes(path):
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


@cache
def own_imports(module: str) -> list[str]:
    """Return the imports that are modules of the package."""
    return [name for name in imports(module) if name in PATHS and name != module]


def code_lines(node: ast.AST, lines: list[str]) -> int:
    """Count the lines of a module or a function that are code."""
    first = getattr(node, "lineno", 1)
    last = getattr(node, "end_lineno", len(lines))
    texts: set[int] = set()
    for inner in ast.walk(node):
        body = getattr(inner, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                texts |= set(range(value.lineno, (value.end_lineno or 0) + 1))
    return sum(
        bool(lines[k - 1].strip())
        and k not in texts
        and not lines[k - 1].lstrip().startswith("#")
        for k in range(first, last + 1)
    )


def test_every_folder_has_its_place() -> None:
    assert {folder(module) for module in PATHS} <= set(ORDER)


@pytest.mark.parametrize("module", PATHS)
def test_imports_go_down(module: str) -> None:
    here = ORDER.index(folder(module))
    upward = [name for name in own_imports(module) if ORDER.index(folder(name)) > here]
    assert not upward


def test_no_import_cycles() -> None:
    # A package counts as its __init__.py only where that is what is imported.
    TopologicalSorter({module: own_imports(module) for module in PATHS}).prepare()


@pytest.mark.parametrize("module", PATHS)
def test_the_numbers_know_numpy_and_scipy_only(module: str) -> None:
    if folder(module) in NUMPY_AND_SCIPY_ONLY:
        assert not {name.partition(".")[0] for name in imports(module)} & OTHERS


@pytest.mark.parametrize("module", PATHS)
def test_module_is_documented(module: str) -> None:
    assert ast.get_docstring(parsed(PATHS[module]))


def test_files_and_functions_are_short() -> None:
    files, functions = set(), set()
    for module, path in PATHS.items():
        tree, lines = parsed(path), path.read_text(encoding="utf-8").splitlines()
        if code_lines(tree, lines) > FILE_LINES:
            files.add(module)
        functions |= {
            f"{module}.{node.name}"
            for node in nodes(path)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            and code_lines(node, lines) > FUNCTION_LINES
        }
    assert files == LONG_FILES
    assert functions == LONG_FUNCTIONS


def test_a_file_serves_more_than_its_neighbour() -> None:
    importers: dict[str, set[str]] = defaultdict(set)
    for module in PATHS:
        for name in own_imports(module):
            importers[name].add(module)
    found = set()
    for module, (one, *others) in importers.items():
        # a package names what its files offer
        names = PATHS[one].name == "__init__.py" or PATHS[module].name == "__init__.py"
        same = module.rpartition(".")[0] == one.rpartition(".")[0]
        if not others and not names and same:
            found.add(module)
    assert found == set(ALONE)


def test_a_class_name_stands_for_one_thing() -> None:
    where: dict[str, set[str]] = defaultdict(set)
    for module, path in PATHS.items():
        for node in nodes(path):
            if isinstance(node, ast.ClassDef):
                where[node.name].add(module)
    assert {name for name, modules in where.items() if len(modules) > 1} == TWICE


def test_fits_models_and_structures_have_types() -> None:
    found = {
        module
        for module, path in PATHS.items()
        for node in nodes(path)
        if isinstance(node, ast.arg)
        and node.arg in TYPED
        and node.annotation is not None
        and "Any"
        in {n.id for n in ast.walk(node.annotation) if isinstance(n, ast.Name)}
    }
    assert found - set(TAKE_ANYTHING) == UNTYPED
    assert set(TAKE_ANYTHING) <= found


# In one new process, which takes a second to begin.
LIGHT = """
import sys, warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", "mine")
before = list(warnings.filters)
import mixedar.api, mixedar.compare.frames, mixedar.formula.api as mar
import mixedar.report.build, mixedar.report.pictures
mar.hausman
assert warnings.filters == before, warnings.filters
import pandas as pd
columns = {"y": [1.0, 2, 4, 3], "x": [1.0, 3, 2, 5], "i": [1, 1, 2, 2]}
table = pd.DataFrame({**columns, "t": [1, 2, 1, 2]})
model = mar.fixed_effects("y ~ x", table, "i", "t")
print(*sys.modules)
model.fit()
assert "linearmodels" in sys.modules
"""


def test_heavy_packages_load_late_and_filters_stay() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT],
        capture_output=True,
        check=False,
        cwd=ROOT.parent,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = set(done.stdout.split())
    assert "mixedar.panel" in found
    assert not found & set(LATE)


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
        "from . import base\nfrom ..numeric import x\nfrom mixedar import engine\n"
        "def f():\n    import mixedar.residual.base\n"
    )
    monkeypatch.setitem(PATHS, "mixedar.residual.new", path)
    assert list(imports("mixedar.residual.new")) == [
        "mixedar.residual.base",
        "mixedar.numeric",
        "mixedar.engine",
        "mixedar.residual.base",
    ]


def methods_of(cls: type) -> set[str]:
    """Return the methods that a class asks for or offers, not its properties."""
    return {
        name
        for name, value in vars(cls).items()
        if callable(value) and not name.startswith("_")
    }


def names_called(name: str) -> Iterator[str]:
    """Yield the names of the methods that the modules of a folder call."""
    for module, path in PATHS.items():
        if folder(module) != name:
            continue
        for node in nodes(path):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                yield node.func.attr


def test_the_engine_calls_what_the_contract_asks_for() -> None:
    called = set(names_called("engine"))
    # the data bind a structure before the engine runs; `natural` needs the third
    elsewhere = {"bind", "bind_layout", "from_variables"}
    for contract in (Parametric, ResidualStructure, MarkovStructure):
        assert methods_of(contract) - elsewhere <= called


# What one structure is, and another is not, is known here alone.
KNOW_STRUCTURES = {"mixedar.engine.residuals", "mixedar.engine.blocks"}


@pytest.mark.parametrize("module", PATHS)
def test_structures_are_told_apart_in_one_place(module: str) -> None:
    if folder(module) == "residual" or module in KNOW_STRUCTURES:
        return
    every = nodes(PATHS[module])
    kinds = {cls.__name__ for cls in subclasses(ResidualStructure)}
    kinds &= {
        alias.name
        for node in every
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("mixedar.residual")
        for alias in node.names
    }
    for node in every:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            named = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
            told = node.func.id in ("isinstance", "issubclass")
            assert not told or not named & kinds


def subclasses(cls: type) -> Iterator[type]:
    """Yield the classes of the package that derive from one."""
    for each in cls.__subclasses__():
        if each.__module__.startswith("mixedar."):
            yield each
        yield from subclasses(each)


REFERENCE = TESTS / "reference"  # scripts that made the values, as they ran
FILES_OF_TESTS = sorted(
    path for path in TESTS.rglob("*.py") if REFERENCE not in path.parents
)


def test_tests_mirror_folders() -> None:
    folders = {path.name for path in TESTS.iterdir() if any(path.glob("*.py"))}
    assert folders - NO_MIRRORS <= {folder(module) for module in PATHS}


@pytest.mark.parametrize("path", FILES_OF_TESTS, ids=lambda path: path.name)
def test_tests_share_by_helpers_and_look_at_no_clock(path: Path) -> None:
    for node in nodes(path):
        sources = []
        if isinstance(node, ast.Import):
            sources = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            sources = [node.module or ""]
        for source in sources:
            assert source not in ("time", "timeit")
            assert not source.rpartition(".")[2].startswith("test_")
