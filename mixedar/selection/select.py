"""
Fitting several residual structures to one set of data.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mixedar._types import UNCHANGED
from mixedar.exceptions import MixedARError, MixedARWarning, UnsupportedError
from mixedar.inference.arguments import progress_bar
from mixedar.inference.criteria import CONVENTIONS
from mixedar.residual import ResidualStructure
from mixedar.residual.variance import VarianceFunction
from mixedar.selection.result import Candidate, ResidualSelection

#: What is compared unless `structures` says otherwise.
DEFAULT_STRUCTURES = ("independent", "ar1", "car1", "cs", "arma11", "toeplitz", "un")


def select_residual(
    model: Any,
    structures: str | Iterable[Any] | Mapping[str, Any] = DEFAULT_STRUCTURES,
    *,
    reml: bool = True,
    weights: Any = UNCHANGED,
    residual_data: Any = None,
    ic: str = "nlme",
    progress: bool = False,
    **fit_kwargs: Any,
) -> ResidualSelection:
    """
    Fit residual structures to the same data and compare them.

    Formulas are evaluated once, and structures that see the rows in the same way
    share their compressed data.

    Parameters
    ----------
    model : MixedLMAR
        Which response, fixed and random effects; its own residual structure does
        not matter.
    structures : sequence or mapping
        Names (``"ar1"``), structures (``AR1(by="sex")``), or pairs of a structure
        and a variance function (``("ar1", VarIdent("sex"))``).  A mapping gives
        them names of their own.
    reml : bool
        Restricted maximum likelihood, or maximum likelihood.
    weights : VarianceFunction, str, array_like or None, optional
        Variance function of all structures that come without one; that of the
        model by default.
    residual_data : DataFrame or mapping, optional
        Columns that the structures read, for models from arrays; see
        ``MixedLMAR.with_residual``.
    ic : {"nlme", "lme4", "sas"}
        Convention of AIC and BIC, see
        :func:`mixedar.inference.criteria.information_criteria`.
    progress : bool
        Show a progress bar.
    **fit_kwargs
        Passed on to ``MixedLMAR.fit``.

    Returns
    -------
    ResidualSelection
        A structure that cannot be fitted is a row with the reason.

    Raises
    ------
    UnsupportedError
        If `model` is no mixed model, `structures` is empty or names one twice, or
        `ic` is unknown.
    """
    model = getattr(model, "model", model)
    if not hasattr(model, "with_residual"):
        raise UnsupportedError(
            f"select_residual takes a MixedLMAR model, not {type(model).__name__}; "
            "build one with mixedlm(...)"
        )
    if ic not in CONVENTIONS:
        raise UnsupportedError(f"ic={ic!r}: choose {', '.join(map(repr, CONVENTIONS))}")
    named = _named(structures)
    names = list(named)
    candidates: dict[str, Candidate] = {}
    relatives: list[Any] = []
    for step in progress_bar(range(len(names)), progress, "residual structures"):
        residual, variance = named[names[step]]
        if variance is _NOT_GIVEN:
            variance = weights
        candidate, fitted = _fit(
            model, residual, variance, residual_data, relatives, reml, fit_kwargs
        )
        candidates[names[step]] = candidate
        if fitted is not None:
            relatives.append(fitted)
    return ResidualSelection(candidates, ic)


_NOT_GIVEN = object()


def _named(structures: Any) -> dict[str, tuple[Any, Any]]:
    """Structures and their variance functions by name."""
    if isinstance(structures, (str, ResidualStructure, type)):
        structures = [structures]
    if isinstance(structures, Mapping):
        items = [(str(name), item) for name, item in structures.items()]
    else:
        try:
            items = [(_name(item), item) for item in structures]
        except TypeError:
            raise UnsupportedError(
                "structures= takes a list of names or structures, or a mapping, not "
                f"{type(structures).__name__}"
            ) from None
    if not items:
        raise UnsupportedError("structures= is empty: name one or more")
    out: dict[str, tuple[Any, Any]] = {}
    for name, item in items:
        if name in out:
            raise UnsupportedError(
                f"structures= has {name!r} twice; pass a mapping to name them, such as "
                "{'one': ..., 'other': ...}"
            )
        pair = isinstance(item, tuple) and len(item) == 2
        out[name] = item if pair else (item, _NOT_GIVEN)
    return out


def _name(item: Any) -> str:
    if isinstance(item, tuple) and len(item) == 2:
        residual, weights = item
        if weights is None:
            return _name(residual)
        return f"{_name(residual)} + {_variance_name(weights)}"
    if isinstance(item, type):
        return str(getattr(item, "code", item.__name__))
    if isinstance(item, ResidualStructure):
        return item.label
    return "independent" if item is None else str(item)


def _variance_name(weights: Any) -> str:
    if isinstance(weights, VarianceFunction):
        return weights.label
    if isinstance(weights, type):
        return weights.__name__
    return weights if isinstance(weights, str) else "weights"


def _fit(
    model: Any,
    residual: Any,
    weights: Any,
    residual_data: Any,
    relatives: Sequence[Any],
    reml: bool,
    options: Mapping[str, Any],
) -> tuple[Candidate, Any]:
    """One structure, and its model if it could be fitted."""
    label = str(getattr(residual, "label", residual))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            sibling = model._sibling(residual, weights, residual_data, relatives)
            label = sibling.residual.label
            fit = sibling.fit(reml=reml, **options)
        except MixedARError as error:
            return Candidate(label, None, str(error)), None
        except (np.linalg.LinAlgError, FloatingPointError) as error:
            reason = f"the likelihood cannot be computed: {error}"
            return Candidate(label, None, reason), None
    notes = []
    for warning in caught:
        if issubclass(warning.category, MixedARWarning):
            notes.append(str(warning.message))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return Candidate(label, fit, "; ".join(notes)), sibling
