"""
From a model to its results: the search, its verdict and the warnings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from statsmodels.regression.mixed_linear_model import MixedLMParams
from statsmodels.tools.sm_exceptions import (
    ConvergenceWarning as StatsmodelsConvergenceWarning,
)
from statsmodels.tools.sm_exceptions import SingularMatrixWarning

from mixedar._lazy import with_near_names
from mixedar._types import FloatArray
from mixedar.data.checks import float_array
from mixedar.data.elsewhere import OF_FITS, spelled_here
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.newton import SearchPath
from mixedar.engine.search import METHODS
from mixedar.exceptions import (
    BoundaryWarning,
    ConvergenceWarning,
    IdentificationError,
    UnsupportedError,
    check_choice,
    check_flags,
    check_positive,
    shown,
    warn,
)
from mixedar.fit.boundary import unseen_notes
from mixedar.fit.maximise import Start, maximise
from mixedar.mixed.construct import holding
from mixedar.mixed.results import MixedLMARResults
from mixedar.mixed.statsmodels_model import ParentModel
from mixedar.mixed.statsmodels_results import MixedLMARResultsWrapper
from mixedar.residual import ResidualStructure

# Accepted by statsmodels' fit; Newton's method has no use for these.
_IGNORED = {"eps", "maxcor", "ftol", "tol", "disp", "maxls"}
_COV_TYPES = ("nonrobust", "CR0", "CR1", "CR1p", "CR1S", "CR2", "CR3")


class SingularCovarianceWarning(BoundaryWarning, SingularMatrixWarning):
    """The random-effects covariance is singular at the maximum."""


class FitConvergenceWarning(ConvergenceWarning, StatsmodelsConvergenceWarning):
    """The optimiser did not reach a maximum."""


@with_near_names
def fit_model(
    model: ParentModel,
    start_params: ArrayLike | MixedLMParams | None,
    reml: bool,
    do_cg: bool,
    free: MixedLMParams | None,
    full_output: bool,
    method: str | Sequence[str] | None,
    gtol: float = 1e-10,
    maxiter: int = 200,
    cov_type: str = "nonrobust",
    collected: list[Warning] | None = None,
    progress: bool = False,
    **ignored: Any,
) -> MixedLMARResultsWrapper:
    """
    Maximise the likelihood of a model.  Arguments as in ``MixedLMAR.fit``.

    Returns
    -------
    MixedLMARResultsWrapper
    """
    _check_known(model, ignored)
    cov_type = _cov_type(cov_type)
    check_flags(reml=reml, do_cg=do_cg, full_output=full_output, progress=progress)
    _check_options(model, gtol, maxiter, free)
    model.reml = reml  # statsmodels' loglike reads it; results keep their own

    given = start_params is not None or not do_cg
    begin, layout = _begin(model, start_params, given, free)
    try:
        fit = maximise(
            model.arrays,
            reml=reml,
            layout=layout,
            start=begin,
            optimise=do_cg,
            method=_method(method),
            gtol=min(float(gtol), 1e-6),
            maxiter=int(maxiter),
            keep_path=full_output,
            progress=progress,
        )
    except np.linalg.LinAlgError as error:
        raise IdentificationError(
            f"the likelihood of {model.residual.label} residuals cannot be computed "
            f"for these data ({error}): covariances are singular to rounding wherever "
            "the search begins. Use a simpler residual structure, fewer random "
            "effects, or another unit"
        ) from error
    if fit.data is not model.arrays:  # other fitted values
        model = holding(model, fit.data)
    results = MixedLMARResults(model, fit, free)
    results.hist = [_history(m.search) for m in fit.modes] if full_output else None
    for warning in _verdict(results) if do_cg else ():
        if collected is None:
            warn(warning)
        else:
            collected.append(warning)
    wrapped = MixedLMARResultsWrapper(results)
    if cov_type == "nonrobust":
        return wrapped
    return wrapped.get_robustcov_results(cov_type)


def _cov_type(cov_type: str) -> str:
    """The name of a covariance in whatever case it was written."""
    named = {name.lower(): name for name in _COV_TYPES}
    found = named.get(str(cov_type).lower(), cov_type)
    check_choice("cov_type", found, _COV_TYPES)
    return found


def _check_options(
    model: ParentModel, gtol: object, maxiter: object, free: object
) -> None:
    if not isinstance(maxiter, (int, np.integer)) or maxiter < 1:
        raise UnsupportedError(
            f"maxiter={shown(maxiter)} is not a positive whole number"
        )
    check_positive("gtol", gtol)
    if free is None:
        return
    if not isinstance(free, MixedLMParams):
        raise UnsupportedError("free= takes a MixedLMParams of zeros and ones")
    if (free.k_re, free.k_vc) != (model.k_re, model.k_vc):
        raise UnsupportedError(
            f"free= is for {free.k_re} random effects and {free.k_vc} variance "
            f"components; the model has {model.k_re} and {model.k_vc}"
        )


def _check_known(model: ParentModel, options: Iterable[str]) -> None:
    """Raise for data removed, and options that no fit of statsmodels has either."""
    model.check_held(rows=False)
    unknown = sorted(set(options) - _IGNORED)
    if unknown:
        raise TypeError(
            f"fit() got an unexpected keyword argument {unknown[0]!r}"
            f"{spelled_here(unknown[0], OF_FITS)}"
        )


def _method(method: str | Sequence[str] | None) -> str:
    if method is None:
        return "newton"
    names = list(method) if isinstance(method, (list, tuple)) else [method]
    if not names or not all(isinstance(name, str) for name in names):
        raise UnsupportedError(
            f"method={method!r}: give a name such as 'newton' or 'bfgs'"
        )
    name = str(names[0]).lower()
    if name in ("ml", "reml"):
        raise UnsupportedError(
            f"method={method!r}: here method= names an optimiser; write "
            f"fit(reml={name == 'reml'})"
        )
    if name not in METHODS:
        raise UnsupportedError(
            f"method={method!r} is not known; there are {', '.join(sorted(METHODS))}"
        )
    return name


def _begin(
    model: ParentModel,
    start_params: ArrayLike | MixedLMParams | None,
    given: bool,
    free: MixedLMParams | None,
) -> tuple[Start | None, RandomCovariance]:
    """Where the search begins, if that is given, and what it is free to change."""
    begin, layout = None, model.arrays.layout()
    if not given and free is None:
        return begin, layout
    start, residual = _read_start(model, start_params)
    if given:
        vcomp = start.vcomp if model.k_vc else np.empty(0)
        model.check_compound(start)
        begin = Start(layout.root_entries(start.cov_re, vcomp), residual)
    return begin, layout if free is None else model.held(free, start)


def _read_start(
    model: ParentModel, start_params: ArrayLike | MixedLMParams | None
) -> tuple[MixedLMParams, FloatArray]:
    """Covariance parameters and residual parameters of a start, given or not."""
    if start_params is None:
        start_params = MixedLMParams.from_components(
            cov_re=np.eye(model.k_re), vcomp=np.ones(model.k_vc)
        )
    if isinstance(start_params, MixedLMParams):
        residual = getattr(start_params, "residual_params", None)
        return start_params, model.residual_default() if residual is None else residual
    values = np.atleast_1d(float_array(start_params, "start_params"))
    if not np.isfinite(values).all():
        raise UnsupportedError("start_params holds missing or infinite values")
    k_cov, k_residual = model.k_re2 + model.k_vc, model.residual.k_params
    for has_fe in (True, False):
        k = k_cov + (model.k_fe if has_fe else 0)
        for extra in (k_residual, 0):
            if len(values) == k + extra:
                packed = model.unpacked(values[:k], model.use_sqrt, has_fe)
                if not extra:
                    return packed, model.residual_default()
                _check_residual_start(model.residual, values[k:])
                return packed, values[k:]
    raise UnsupportedError(
        f"invalid start_params: {len(values)} values, but the model has {model.k_fe} "
        f"fixed effects, {k_cov} covariance and {k_residual} residual parameters"
    )


def _check_residual_start(structure: ResidualStructure, values: FloatArray) -> None:
    """Raise unless residual parameters lie inside their space."""
    try:
        with np.errstate(all="ignore"):
            u = structure.to_unconstrained(values)
            inside = bool(np.isfinite(u).all()) and not structure.at_boundary(values)
    except (ValueError, np.linalg.LinAlgError):
        inside = False
    if not inside and structure.k_free:
        named = ", ".join(
            f"{name} = {value:g}"
            for name, value in zip(structure.param_names, values, strict=True)
        )
        raise UnsupportedError(
            f"start_params: {named} is not inside the range of {structure.label} "
            "residuals"
        )


def _history(search: SearchPath) -> dict[str, Any]:
    return {
        "converged": search.converged,
        "iterations": search.iterations,
        "fcalls": search.evaluations,
        "decrement": search.decrement,
        "llf": search.llf,
        "path": list(search.path),
    }


def _verdict(results: MixedLMARResults) -> list[Warning]:
    """What a user has to know of a search that was no full success."""
    search, found = results.fit.modes[0].search, list[Warning]()
    if not results.fit.settled:
        text = (
            "the fitted values that the variance function reads did not settle; "
            "simplify weights=, or let it read a covariate"
        )
        found = [FitConvergenceWarning(text)]
    elif results.fit.unbounded:
        return [FitConvergenceWarning(results.boundary_notes[0])]
    elif not search.converged:
        text = (
            f"the optimiser stopped after {search.iterations} iterations with an "
            f"expected gain of {search.decrement:.2g} in log-likelihood; try "
            "fit(maxiter=1000), another start, or fewer random effects"
        )
        found = [FitConvergenceWarning(text)]
    # what the data do not tell is no matter of the search: the summary says it
    notes = results.boundary_notes[len(unseen_notes(results.fit)) :]
    if notes:
        singular = results.fit.singular
        kind = SingularCovarianceWarning if singular else BoundaryWarning
        found.append(kind("; ".join(notes)))
    return found
