"""
Variance functions of the residuals, and what ``weights=`` may be.

``resolve_variance("w")`` gives ``KnownWeights("w")`` for a column of precision
weights; nlme's names, such as ``"varPower"``, are understood.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from mixedar.exceptions import UnsupportedError
from mixedar.residual.variance.base import FITTED, VarianceFunction
from mixedar.residual.variance.ident import KnownWeights, VarFixed, VarIdent
from mixedar.residual.variance.log_linear import VarLogLinear
from mixedar.residual.variance.of_covariate import VarConstPower, VarExp, VarPower
from mixedar.residual.variance.product import VarComb, formulas_of, with_columns

VARIANCE_FUNCTIONS: dict[str, type[VarianceFunction]] = {
    cls.code: cls
    for cls in (
        KnownWeights,
        VarFixed,
        VarIdent,
        VarPower,
        VarExp,
        VarConstPower,
        VarLogLinear,
        VarComb,
    )
}

#: The column that stands for weights passed as an array.
WEIGHTS = "weights"

# Names that mean a function rather than a column of weights; where one cannot do
# without arguments, how it is written.
_NAMES: dict[str, tuple[type[VarianceFunction], str]] = {
    "varident": (VarIdent, ""),
    "varpower": (VarPower, ""),
    "varexp": (VarExp, ""),
    "varconstpower": (VarConstPower, ""),
    "varfixed": (VarFixed, "VarFixed('age')"),
    "varloglinear": (VarLogLinear, "VarLogLinear('treatment')"),
    "varcomb": (VarComb, "VarComb(VarIdent('sex'), VarPower('age'))"),
}


def resolve_variance(weights: object) -> VarianceFunction | None:
    """
    Turn what a user passes as ``weights=`` into a variance function.

    Parameters
    ----------
    weights : str, array_like, VarianceFunction, class, list, or None
        The name of a column with precision weights, or the weights themselves;
        nlme's name of a function that needs no argument (``"varIdent"`` by
        time, ``"varPower"`` of the fitted values, ...); an instance or a class;
        or a list of these, for their product.

    Returns
    -------
    VarianceFunction or None
        Weights passed as an array are ``KnownWeights("weights")``.

    Raises
    ------
    UnsupportedError
        If it cannot be understood; the message lists what there is.
    """
    if weights is None or isinstance(weights, VarianceFunction):
        return weights
    if isinstance(weights, type) and issubclass(weights, VarianceFunction):
        return _named(weights.__name__)
    if isinstance(weights, str):
        return _from_text(weights)
    if _is_list(weights):
        return VarComb(*(_part(each) for each in weights))
    if _is_array(weights):
        return KnownWeights(WEIGHTS)
    raise UnsupportedError(
        "weights= takes a column of weights, an array of them, or a variance function "
        f"such as VarIdent('sex'); got {type(weights).__name__}. There are {_known()}"
    )


def _part(weights: object) -> VarianceFunction:
    part = None if _is_array(weights) else resolve_variance(weights)
    if part is None:
        raise UnsupportedError(
            "weights= takes a list of variance functions and of names of columns; got "
            f"{type(weights).__name__} among them"
        )
    return part


def _from_text(text: str) -> VarianceFunction:
    name = text.strip()
    if name.lower() in _NAMES:
        return _named(name)
    if name.startswith("~"):
        inner = name.lstrip("~ ")
        raise UnsupportedError(
            f"weights={text!r} is a formula: pass VarFixed({inner!r}) for nlme's "
            "variance proportional to a covariate, VarLogLinear("
            f"{inner!r}) for a log-linear standard deviation, or the name of a column "
            "for precision weights"
        )
    call = re.match(r"(\w+)\s*\(", name)
    if call and call[1].lower() in _NAMES:
        cls = _NAMES[call[1].lower()][0].__name__
        columns = re.findall(r"[|~]\s*([^\W\d]\w*)\s*\)", name)
        column = repr(columns[0]) if columns else ""
        raise UnsupportedError(
            f"weights={text!r} is a call in a text: pass weights={cls}({column}), with "
            f"{cls} from mixedar.api"
        )
    return KnownWeights(name)


def near_function(name: str) -> str:
    """A variance function that a text may have meant, and otherwise which there are."""
    near = difflib.get_close_matches(name.strip().lower(), _NAMES, n=1, cutoff=0.65)
    if near:
        cls = _NAMES[near[0]][0].__name__
        return f" Did you mean the variance function {'v' + cls[1:]!r}?"
    plain = [
        repr("v" + cls.__name__[1:]) for cls, example in _NAMES.values() if not example
    ]
    return f" Variance functions without arguments: {', '.join(plain)}."


def _named(name: str) -> VarianceFunction:
    cls, example = _NAMES.get(name.lower(), (None, "KnownWeights('w')"))
    if cls is None or example:
        raise UnsupportedError(
            f"weights={name!r} needs to know its column: pass {example}"
        )
    return cls()


def _known() -> str:
    return ", ".join(cls.__name__ for cls in VARIANCE_FUNCTIONS.values())


def _is_list(weights: object) -> TypeGuard[Sequence[object]]:
    """Whether it is a list of functions rather than of numbers."""
    return isinstance(weights, (list, tuple)) and any(
        isinstance(each, (str, type, VarianceFunction)) for each in weights
    )


def _is_array(weights: Any) -> bool:
    if isinstance(weights, (Mapping, set)) or np.ndim(weights) != 1:
        return False
    dtype = getattr(weights, "dtype", None)
    if dtype is None:
        dtype = np.asarray(weights).dtype
    return getattr(dtype, "kind", "O") in "iufOb"


__all__ = [
    "FITTED",
    "VARIANCE_FUNCTIONS",
    "WEIGHTS",
    "KnownWeights",
    "VarComb",
    "VarConstPower",
    "VarExp",
    "VarFixed",
    "VarIdent",
    "VarLogLinear",
    "VarPower",
    "VarianceFunction",
    "formulas_of",
    "near_function",
    "resolve_variance",
    "with_columns",
]
