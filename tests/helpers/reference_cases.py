"""
The reference cases in ``tests/reference/mixed``, read into one type.

``tests/reference/mixed/README.md`` describes the files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from patsy import dmatrices, dmatrix

from helpers import oracle
from mixedar.residual import ARMA, Exponential
from mixedar.residual.variance import VarIdent, VarPower

FOLDER = Path(__file__).parents[1] / "reference" / "mixed"

Kind = Literal[
    "ar1",
    "car1",
    "independent",
    "arma",
    "exponential",
    "compoundsymmetry",
    "unstructured",
    "weights",
    "gls",
    "nested",
    "crossed",
    "diagonal",
    "boundary",
]


@dataclass(frozen=True)
class ReferenceCase:
    """
    A model and its values from another program.

    Attributes
    ----------
    name : name of the case
    data : rows in the order of the CSV
    formula, groups, re_formula, time : as in the file; None where absent
    vc : None, or the nested, crossed or diagonal structure as in the file
    residual : None, or the residual structure as in the file
    reml : True for REML
    expected : the values
    """

    name: str
    data: pd.DataFrame
    formula: str
    groups: str | None
    re_formula: str | None
    vc: Mapping[str, Any] | None
    time: str | None
    residual: Mapping[str, Any] | None
    reml: bool
    expected: Mapping[str, Any]

    @cached_property
    def kinds(self) -> frozenset[Kind]:
        """What the case is an example of."""
        return _kinds(
            self.vc, self.residual, self.re_formula, bool(self.expected["at_boundary"])
        )

    @property
    def structure(self) -> str:
        """Name of the residual structure: ``"ar1"``, ``"independent"``, ..."""
        return _structure(self.residual)

    @property
    def nested(self) -> tuple[str, str] | None:
        """Columns of the outer and of the inner grouping."""
        if self.vc is None or self.vc["type"] != "nested":
            return None
        outer, inner = self.vc["levels"]
        return outer["groups"][0], inner["groups"][-1]

    @property
    def crossed(self) -> tuple[str, ...]:
        """Columns of the crossed factors."""
        if self.vc is None or self.vc["type"] != "crossed":
            return ()
        return tuple(factor["groups"] for factor in self.vc["factors"])

    @property
    def series(self) -> str | None:
        """Column of the series that the residual structure runs in, if not groups."""
        if self.structure == "independent":
            return None
        if self.nested is not None:
            return self.nested[1]
        return self.vc["ar_group"] if self.crossed and self.vc else None

    @property
    def boundary(self) -> Mapping[str, Any]:
        """Where the maximum is: ``expected["boundary"]`` if nlme only nears it."""
        return cast("Mapping[str, Any]", self.expected.get("boundary", self.expected))


def case_names(*kinds: Kind, without: tuple[Kind, ...] = ()) -> list[str]:
    """
    Names of the cases that are of all ``kinds`` and of none in ``without``.

    Residual structures: ``"ar1"``, ``"car1"``, ``"independent"``, ...; with
    variance functions also ``"weights"``.  Random effects: ``"gls"`` (none),
    ``"nested"``, ``"crossed"``, ``"diagonal"``.  ``"boundary"``: singular.
    """
    names = []
    for path in sorted(FOLDER.glob("*.json")):
        raw = _read(path.stem)
        found = _kinds(
            raw["vc"],
            raw["residual"],
            raw["re_formula"],
            bool(raw["expected"]["at_boundary"]),
        )
        if found.issuperset(kinds) and found.isdisjoint(without):
            names.append(path.stem)
    return names


def load(name: str) -> ReferenceCase:
    """Read a case; the caller may change its data frame."""
    raw = _read(name)
    data = read_csv(FOLDER / "data" / f"{raw['data']}.csv")
    return ReferenceCase(
        name=raw["name"],
        data=data,
        formula=raw["formula"],
        groups=raw["groups"],
        re_formula=raw["re_formula"],
        vc=raw["vc"],
        time=raw["time"],
        residual=raw["residual"],
        reml=raw["reml"],
        expected=raw["expected"],
    )


def read_csv(path: Path) -> pd.DataFrame:
    """
    Read a CSV with every number as the nearest double; each caller has a copy.

    pandas' own parser rounds in the last place in some versions.  An empty cell
    is a missing value; a column that is not all numbers is text.
    """
    return _typed_columns(path).copy()


@cache
def _typed_columns(path: Path) -> pd.DataFrame:
    text = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    return pd.DataFrame({name: _typed(text[name]) for name in text})


def residual_of(case: ReferenceCase) -> Any:
    """What to pass as ``residual=``."""
    given = case.residual or {}
    if case.structure == "arma":
        return ARMA(given["p"], given["q"])
    if case.structure == "exponential":
        return Exponential(nugget=given["nugget"])
    if case.structure == "compoundsymmetry":
        return "cs"
    if case.structure == "unstructured":
        return "unr" if given.get("homoscedastic") else "un"
    return case.structure


def weights_of(case: ReferenceCase) -> Any:
    """What to pass as ``weights=``."""
    given = (case.residual or {}).get("weights")
    if given is None:
        return None
    if given["type"] == "varPower":
        return VarPower(given["covariate"])
    assert given["type"] == "varIdent"
    return VarIdent(given["by"])


def oracle_problem(case: ReferenceCase) -> oracle.Problem:
    """Return the arrays of a case with AR1, CAR1 or independent residuals."""
    data = case.data
    y, X = dmatrices(case.formula, data)
    vc: dict[str, NDArray[Any]] = {}
    if case.nested is not None:
        vc[case.nested[1]] = data[case.nested[1]].to_numpy()
    for factor in case.crossed:
        vc[factor] = data[factor].to_numpy()
    return oracle.Problem(
        y=np.asarray(y)[:, 0],
        X=np.asarray(X),
        groups=np.zeros(len(data), dtype=int)
        if case.groups is None
        else data[case.groups].to_numpy(),
        Z=None
        if case.re_formula is None
        else np.asarray(dmatrix(case.re_formula, data)),
        time=None if case.time is None else data[case.time].to_numpy(dtype=float),
        series=None if case.series is None else data[case.series].to_numpy(),
        vc=vc,
    )


def fixed_names(case: ReferenceCase) -> list[str]:
    """Names of the fixed effects in patsy's order, which need not be R's."""
    return list(dmatrices(case.formula, case.data)[1].design_info.column_names)


def oracle_parameters(case: ReferenceCase) -> oracle.Parameters:
    """Return the covariance parameters at the recorded maximum."""
    expected, at = case.expected, case.boundary
    levels = expected.get("cov_re_levels", {})
    vcomp: dict[str, float] = {}
    if case.nested is not None:
        outer, inner = case.nested
        vcomp[inner] = levels[f"{outer}/{inner}"][0][0]
    for factor in case.crossed:
        vcomp[factor] = levels[factor][0][0]
    return oracle.Parameters(
        sigma2=at["sigma2"],
        rho=at["residual_params"].get("phi", 0.0),
        cov_re=None if case.re_formula is None else np.array(at["cov_re"]),
        vcomp=vcomp,
    )


def _typed(column: pd.Series) -> pd.Series:
    values = column.to_list()
    for kind in (int, float):
        try:
            return pd.Series([kind(v) for v in values], index=column.index)
        except ValueError:
            continue
    return column


@cache
def _read(name: str) -> dict[str, Any]:
    text = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    return cast("dict[str, Any]", json.loads(text))


def _structure(residual: Mapping[str, Any] | None) -> str:
    return "independent" if residual is None else str(residual["type"]).lower()


def _kinds(
    vc: Mapping[str, Any] | None,
    residual: Mapping[str, Any] | None,
    re_formula: str | None,
    at_boundary: bool,
) -> frozenset[Kind]:
    kinds = {_structure(residual)}
    if residual is not None and "weights" in residual:
        kinds.add("weights")
    if vc is not None:
        kinds.add(vc["type"])
    elif re_formula is None:
        kinds.add("gls")
    if at_boundary:
        kinds.add("boundary")
    return cast("frozenset[Kind]", frozenset(kinds))
