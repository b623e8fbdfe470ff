"""
Residual structures by name.

``resolve("ar1")`` gives ``AR1()``; names from nlme, SAS, glmmTMB and mmrm are
understood.
"""

from __future__ import annotations

import difflib
import inspect
import re
from dataclasses import replace
from typing import Any

import numpy as np

from mixedar.exceptions import UnsupportedError
from mixedar.residual.ar1 import AR1, CAR1
from mixedar.residual.arma import ARMA
from mixedar.residual.base import ResidualStructure
from mixedar.residual.markov import Independent
from mixedar.residual.occasions import (
    AnteDependence,
    CompoundSymmetry,
    Toeplitz,
    Unstructured,
)
from mixedar.residual.spatial import (
    Exponential,
    Gaussian,
    Linear,
    Matern,
    RationalQuadratic,
    Spherical,
)
from mixedar.residual.variance.base import VarianceFunction
from mixedar.residual.wrapped import Heteroscedastic, Nugget, Stratified

STRUCTURES: dict[str, type[ResidualStructure]] = {
    cls.code: cls
    for cls in (
        Independent,
        AR1,
        CAR1,
        ARMA,
        CompoundSymmetry,
        Toeplitz,
        AnteDependence,
        Unstructured,
        Exponential,
        Gaussian,
        Matern,
        Spherical,
        RationalQuadratic,
        Linear,
    )
}

# With a variance of its own for every occasion.
_HETEROGENEOUS = {
    "ar1h": "ar1",
    "csh": "cs",
    "toeph": "toep",
    "adh": "ad",
    "un": "unr",
}

# Other names, from nlme, SAS, glmmTMB and mmrm.
_ALIASES = {
    alias: code
    for code, aliases in {
        "independent": "iid|id|none|vc",
        "ar1": "ar(1)|corar1",
        "ar1h": "arh(1)|arh1",
        "car1": "car(1)|corcar1|ou|sp(pow)|pow",
        "arma": "corarma",
        "cs": "corcompsymm|compsymm|exchangeable",
        "toep": "toeplitz",
        "toeph": "heterogeneous toeplitz",
        "ad": "ante|ante-dependence",
        "adh": "ante(1)|ante1",
        "un": "us|unstructured",
        "unr": "corsymm",
        "exp": "corexp|exponential|sp(exp)|sp_exp",
        "gau": "corgaus|gaussian|sp(gau)",
        "mat": "matern|sp(matern)",
        "sph": "corspher|spherical|sp(sph)",
        "ratio": "corratio|rational quadratic",
        "lin": "corlin|linear|sp(lin)",
    }.items()
    for alias in aliases.split("|")
}


def resolve(residual: str | ResidualStructure | type | None) -> ResidualStructure:
    """
    Turn what a user passes as ``residual=`` into a structure.

    Parameters
    ----------
    residual : str, ResidualStructure, class or None
        A registry name or alias (case does not matter), an instance, a class,
        or None for independent residuals.

    Returns
    -------
    ResidualStructure

    Raises
    ------
    UnsupportedError
        If nothing of that name exists; the message lists what does.
    """
    if residual is None:
        return Independent()
    if isinstance(residual, ResidualStructure):
        return completed(residual)
    if isinstance(residual, type) and issubclass(residual, ResidualStructure):
        if inspect.isabstract(residual):
            raise UnsupportedError(
                f"residual={residual.__name__} is what structures have in common and "
                "none itself; pass one such as AR1"
            )
        return residual()
    if isinstance(residual, str):
        return _by_name(residual)
    raise UnsupportedError(
        "residual= takes a name such as 'ar1', a structure such as AR1(0.5), or "
        f"None; got {type(residual).__name__}"
    )


def combine(
    structure: ResidualStructure, variance: VarianceFunction | None
) -> ResidualStructure:
    """
    A structure with a variance function.

    Parameters
    ----------
    structure : ResidualStructure
    variance : VarianceFunction or None

    Returns
    -------
    ResidualStructure

    Raises
    ------
    UnsupportedError
        If the structure has a variance function of its own already.
    """
    if variance is None:
        return structure
    if isinstance(structure, Heteroscedastic):
        raise UnsupportedError(
            f"residual={structure.label!r} has variances by occasion already; take the "
            "homogeneous structure ('ar1' for 'ar1h', 'unr' for 'un') and pass "
            "weights=VarComb(VarIdent(), ...)"
        )
    return Heteroscedastic(structure, variance)


def completed(structure: Any) -> ResidualStructure:
    """Wrap a structure that asks for a nugget or for strata."""
    known = hasattr(structure, "__dataclass_fields__")
    if not known or isinstance(structure, Stratified):
        return structure
    name, given = type(structure).__name__, vars(structure)
    nugget, by = given.get("nugget", False), given.get("by")
    if not isinstance(nugget, (bool, np.bool_)):
        raise UnsupportedError(
            f"{name}: nugget={nugget!r} is neither True nor False; its value is "
            "estimated"
        )
    if by is not None and not (isinstance(by, str) and by):
        raise UnsupportedError(
            f"{name}: by={by!r} is not the name of one column; for combinations "
            "of several make a column of them"
        )
    if by is not None:
        return Stratified(completed(replace(structure, by=None)), by)
    return Nugget(replace(structure, nugget=False)) if nugget else structure


def _by_name(name: str) -> ResidualStructure:
    key = re.sub(r"\s+", " ", name.strip().lower())
    key = _ALIASES.get(key, key)
    if key in _HETEROGENEOUS:
        from mixedar.residual.variance.ident import VarIdent

        return Heteroscedastic(STRUCTURES[_HETEROGENEOUS[key]](), VarIdent())
    if key in STRUCTURES:
        return STRUCTURES[key]()
    orders = _orders(key)
    if orders is not None:
        return ARMA(*orders)
    bands = re.fullmatch(r"toep\(?(\d+)\)?", key)
    if bands:
        return Toeplitz(int(bands[1]))
    plain = _without_arguments(key)
    if plain:
        raise UnsupportedError(
            f"residual={name!r} is a call of another program: write "
            f"residual={plain!r}, and name times and groups in time= and groups="
        )
    known = sorted([*STRUCTURES, *_HETEROGENEOUS, "arma11"])
    near = difflib.get_close_matches(key, [*known, *_ALIASES], n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise UnsupportedError(
        f"residual={name!r} is not a residual structure{hint}; "
        f"there are {', '.join(repr(k) for k in known)}"
    )


def _without_arguments(key: str) -> str:
    """The name in ``corar1(form=~t)``, ``sp(pow)(t)`` or ``ar 1, t(t)``; or empty."""
    before = re.split(r"[,=~]", key)[0]
    for text in (before, re.sub(r"\)\(.*", ")", key), re.sub(r"\(.*", "", key)):
        short = text.replace(" ", "")
        if short != key and (
            short in {*STRUCTURES, *_ALIASES, *_HETEROGENEOUS} or _orders(short)
        ):
            return short
    return ""


def _orders(key: str) -> tuple[int, int] | None:
    """``arma21``, ``arma(2,1)``, ``ar2`` and ``ma(1)`` as orders."""
    found = re.fullmatch(r"arma\(?(\d)\s?,?\s?(\d)\)?", key)
    if found:
        return int(found[1]), int(found[2])
    found = re.fullmatch(r"(ar|ma)\(?(\d)\)?", key)
    if found:
        order = int(found[2])
        return (order, 0) if found[1] == "ar" else (0, order)
    return None
