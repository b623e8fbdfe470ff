"""
From the data of a model to its fit: the search for the maxima.

Variances that depend on the fitted values are fitted, looked up and fitted again
until they stay (Pinheiro and Bates, 2000, section 5.2.1; Carroll and Ruppert, 1988).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import compress, pairwise

import numpy as np

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.data.model_data import ModelData, reads_fitted
from mixedar.data.random_terms import RandomTerm
from mixedar.data.vanishing import residual_covariance
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.estimate import Estimate, Flat, estimate_at
from mixedar.engine.newton import SearchPath, newton
from mixedar.engine.problem import LikelihoodProblem, ThetaEvaluation
from mixedar.engine.search import Optimum, find_modes
from mixedar.fit.fit import Fit
from mixedar.numeric.linalg import product
from mixedar.relations.base import KnownCovariance

# Fits with the fitted values of the one before, ...
_MOST = 200
# ... until they change by no more than this share of the response's deviation.
_TOLERANCE = 1e-9
# A standard error so many times the estimate may belong to a flat likelihood; a
# curvature so small, beside the largest, is none; how far along it a second maximum
# is looked for, and by how little lower; and rows of a group that are compared.
_WIDE, _NO_CURVATURE, _ASIDE, _AS_HIGH, _ROWS = 1e3, 1e-7, 0.5, 1e-6, 2000
# Steps of a search for it: where it takes more there is a corner, nothing flat.
_SOON = 20
# Eigenvalues of a covariance between levels that are none, relative to the largest.
_RANK = 1e-10
_FAINT = 1e-5
# Up to this distance, in unconstrained values, the end of a range is near.
_NEAR = 1.0


@dataclass(frozen=True)
class Start:
    """
    A point where the search begins, on the user's scale.

    Attributes
    ----------
    factor : ndarray, shape (k_cov,)
        Entries of ``Lambda``: lower triangle, then standard deviations.
    residual_params : ndarray, shape (k_params,)
    """

    factor: FloatArray
    residual_params: FloatArray

    def theta(self, problem: LikelihoodProblem) -> FloatArray:
        """The optimiser's coordinates, shape (k_theta,)."""
        theta = problem.theta_from(self.factor, self.residual_params)
        # exactly zero is a saddle of the factor: nothing would ever leave it
        lam, u = problem.split(theta)
        return np.concatenate([np.where(lam == 0.0, 1e-2, lam), u])


def maximise(
    data: ModelData,
    *,
    reml: bool = True,
    layout: RandomCovariance | None = None,
    start: Start | None = None,
    optimise: bool = True,
    method: str = "newton",
    gtol: float = 1e-6,
    maxiter: int = 200,
    keep_path: bool = False,
    progress: bool = False,
) -> Fit:
    """
    Maximise the (restricted) likelihood of a model.

    Parameters
    ----------
    data : ModelData
    reml : bool
    layout : RandomCovariance, optional
        Which entries of the random-effects factor are estimated; all that the
        model has by default.
    start : Start, optional
        A first start beside the usual ones.
    optimise : bool
        If False the fit is that at `start`.
    method : str
        A key of :data:`mixedar.engine.search.METHODS`.
    gtol, maxiter
        As in :func:`mixedar.engine.newton.newton`.
    keep_path : bool
    progress : bool
        Show evaluations of the likelihood, and the highest so far.

    Returns
    -------
    Fit

    Raises
    ------
    numpy.linalg.LinAlgError
        If the likelihood cannot be computed at any start.
    """
    layout = data.layout() if layout is None else layout
    unseen = _unseen(data, layout) if reml and optimise else {}
    layout = _without(layout, unseen)

    def search(data: ModelData, theta: FloatArray | None) -> Fit:
        problem = _likelihood(data, layout, reml)
        alone = theta is not None
        if theta is None and start is not None:
            theta = start.theta(problem)

        def is_endless(theta: FloatArray) -> bool:
            modes = _unsearched(problem, theta)
            return bool(fit_at(data, problem, layout, modes).unbounded)

        if optimise:
            with _shown(problem, progress):
                modes = find_modes(
                    problem,
                    start=theta,
                    alone=alone,
                    method=method,
                    gtol=gtol,
                    maxiter=maxiter,
                    keep_path=keep_path,
                    endless=is_endless,
                )
        else:
            assert theta is not None
            modes = _unsearched(problem, theta)
        return replace(fit_at(data, problem, layout, modes), unseen=unseen)

    fit = search(data, None)
    if not optimise:
        return fit
    if not reads_fitted(data.residual):
        fit = with_flat(fit) if reml else fit
        return _without_errors(fit) if fit.unbounded else fit
    tolerance = _TOLERANCE * float(np.std(data.endog))
    for step in range(1, _MOST):
        before = fit.fittedvalues
        data = data.with_fitted(before, rebind=step == 1)
        # the second fit has coordinates of its own, the later ones share them
        fit = search(data, None if step == 1 else fit.theta)
        if np.abs(fit.fittedvalues - before).max() <= tolerance:
            return _without_errors(fit) if fit.unbounded else fit
    return replace(fit, settled=False)


def _unsearched(problem: LikelihoodProblem, theta: FloatArray) -> list[Optimum]:
    """A point as it is, not a maximum."""
    llf = problem.evaluate(theta, derivatives=False).llf
    path = SearchPath(theta, llf, 0, 1, np.inf, False)
    return [Optimum(estimate_at(problem, theta), path)]


def _without_errors(fit: Fit) -> Fit:
    """The fit where a likelihood without a maximum was left, without any error."""
    best = fit.estimate
    lost = {
        name: np.full_like(getattr(best, name), np.nan)
        for name in ("cov_beta", "cov_theta")
    }
    left = replace(fit.modes[0], estimate=replace(best, **lost))
    return replace(fit, modes=(left, *fit.modes[1:]))


def fit_at(
    data: ModelData,
    problem: LikelihoodProblem,
    layout: RandomCovariance,
    modes: Sequence[Optimum],
) -> Fit:
    """The fit at maxima of a likelihood, the best first."""
    theta = modes[0].estimate.theta
    return Fit(
        nobs=data.nobs,
        n_groups=data.n_groups,
        k_fe=data.k_fe,
        k_re=data.k_re,
        k_vc=data.k_vc,
        smallest_group=data.smallest_group,
        largest_group=data.largest_group,
        names=tuple(data.param_names),
        crosses_factors=data.crosses_factors,
        effect_labels=tuple(data.effect_labels),
        factor_levels=tuple(
            (t.factor if t.smooth is None else t.columns[0], len(t.levels))
            for t in data.factor_terms
        ),
        effect_names=(
            *data.random_names,
            *data.component_names,
            *(name for term in data.terms for name in term.effect_names),
        ),
        endog_name=data.endog_name,
        time_unit=data.time_unit,
        notes=data.notes,
        scale_known=data.scale is not None,
        formula_spec=data.formula_spec,
        modes=tuple(modes),
        structure=problem.structure,
        layout=layout,
        reml=problem.reml,
        factor=problem.factor(theta),
        z_map=problem.z_map,
        parameters=problem.parameters,
        between=problem.between,
        held_data=data,
        held_problem=problem,
    )


@contextmanager
def _shown(problem: LikelihoodProblem, progress: bool) -> Iterator[None]:
    """Where evaluations of the likelihood are counted on the screen."""
    if not progress:
        yield
        return
    from tqdm.auto import tqdm

    best = -np.inf
    with tqdm(desc="likelihood", unit=" evaluations") as bar:

        def watch(llf: float) -> None:
            nonlocal best
            best = max(best, llf)
            bar.set_postfix_str(f"highest {best:.4f}", refresh=False)
            bar.update()

        problem.watch = watch
        try:
            yield
        finally:
            problem.watch = None


def likelihood_of(data: ModelData, *, reml: bool) -> LikelihoodProblem:
    """The likelihood that :func:`maximise` searches."""
    layout = data.layout()
    return _likelihood(
        data, _without(layout, _unseen(data, layout) if reml else {}), reml
    )


def _likelihood(
    data: ModelData, layout: RandomCovariance, reml: bool
) -> LikelihoodProblem:
    rows, n = data.compressed, data.nobs
    return LikelihoodProblem(
        rows, n, data.residual, layout, reml=reml, scale=data.scale
    )


def _without(layout: RandomCovariance, effects: Collection[int]) -> RandomCovariance:
    """The layout with some effects held at zero."""
    if not effects:
        return layout
    first, second = layout.effects
    hidden = np.isin(first, list(effects)) | np.isin(second, list(effects))
    return replace(layout, fixed=np.where(hidden, 0.0, layout.fixed))


def _unseen(data: ModelData, layout: RandomCovariance) -> dict[int, tuple[str, ...]]:
    """
    Random effects that the restricted likelihood cannot see.

    With the names of the fixed effects that span their columns.
    """
    if data.terms:
        exog, z, codes = data.exog, data.random_design, data.codes
    elif data.n_groups > data.k_fe or not layout.order:
        return {}  # the columns of so many groups are independent
    else:  # so few groups are as they were
        rows = data.compressed
        exog, z = rows.w[:, :-1], rows.z
        codes = np.repeat(np.arange(rows.n_clusters), np.diff(rows.offsets))
    basis = np.linalg.qr(exog)
    found = _absorbed_columns(*basis, z, codes)
    starts, sizes = layout.component_starts.tolist(), layout.vc_sizes
    columns = [range(j, j + 1) for j in range(layout.k_re)]
    columns += [range(j, j + k) for j, k in zip(starts, sizes, strict=True)]
    out = {}
    if layout.compound:  # seen if one of them is
        columns[: layout.k_re] = [range(layout.k_re), *[range(0)] * (layout.k_re - 1)]
    for effect, own in enumerate(columns):
        if own and all(j in found for j in own):
            by = np.unique(np.concatenate([found[j] for j in own]))
            out[effect] = tuple(data.exog_names[k] for k in by)
    for term, place in zip(data.terms, layout.term_places, strict=True):
        design, codes = _columns_of(term, len(basis[1]))
        absorbed = _absorbed_columns(*basis, design, codes)
        order = len(term.effects)
        for j in range(order):
            own = range(j, design.shape[1], order)
            if all(k in absorbed for k in own):
                by = np.unique(np.concatenate([absorbed[k] for k in own]))
                out[place.effects.start + j] = tuple(data.exog_names[k] for k in by)
    return out


def _columns_of(term: RandomTerm, p: int) -> tuple[FloatArray, IntArray]:
    """
    Columns of a term, and the levels that have them for themselves.

    A known covariance of rank `p` or less leaves its levels so many columns, which all
    rows share.
    """
    if term.relation is None or not isinstance(term.between, KnownCovariance):
        return term.design, term.codes
    k = term.between.matrix(np.empty(0)).value
    if np.trace(k) ** 2 > p * (k**2).sum():  # the rank is no less than this ratio
        return term.design, term.codes
    values, vectors = np.linalg.eigh(k)
    shared = vectors[term.codes][:, values > _RANK * values[-1]]
    columns = shared[:, :, None] * term.design[:, None, :]
    return columns.reshape(len(columns), -1), np.zeros_like(term.codes)


def _absorbed_columns(
    basis: FloatArray, root: FloatArray, columns: FloatArray, groups: IntArray
) -> dict[int, IntArray]:
    """
    Random-effects columns that fixed effects span, group by group, and which do.

    The restricted likelihood does not depend on the variance of such an effect: it
    is that of contrasts from which the fixed effects are removed.

    Parameters
    ----------
    basis, root : ndarray, shapes (n, p) and (p, p)
        QR decomposition of the fixed effects' design, of full rank.
    columns : ndarray, shape (n, q)
    groups : ndarray of int, shape (n,)
        Codes ``0 ... m - 1``.

    Returns
    -------
    dict of int to ndarray of int
    """
    count = int(groups.max()) + 1
    if len(root) < count:  # the columns of different groups are independent
        return {}
    found = {}
    alone = product(columns.T, basis)[:, None] if count == 1 else None
    for j, column in enumerate(columns.T):
        if alone is not None:
            size, inside = np.array([column @ column]), alone[j]
        else:
            size = np.bincount(groups, column**2, minlength=count)
            sums = [np.bincount(groups, part * column, count) for part in basis.T]
            inside = np.stack(sums, axis=1)
        outside = size - (inside**2).sum(axis=1)
        if size.any() and (outside <= 1e-9 * size.max()).all():
            shares = np.abs(np.linalg.solve(root, inside.T)).max(axis=1)
            found[j] = np.flatnonzero(shares > 1e-8 * shares.max())
    return found


def with_flat(fit: Fit) -> Fit:
    """
    The fit, and the directions in which its restricted likelihood is constant.

    There the fixed effects take up what changes, for instance dummies of the groups
    the common part of compound symmetry.  The likelihood has no curvature in them,
    and at some distance it is as high.
    """
    # a matrix of so many blocks does not vanish beside few columns
    converged = fit.modes[0].search.converged
    if not (2 * fit.k_fe >= fit.n_groups and converged and _without_error(fit)):
        return fit
    flat = _uncurved(fit)
    if all(_elsewhere(fit, x) is None for x in flat.T):
        return fit
    # from a place that does not depend on where the search began
    inside = np.clip(fit.theta, *fit.problem.ends)
    middle = _as_high(fit, inside - flat @ (flat.T @ inside))
    # near its end a parameter hardly matters, flat likelihood or not
    places = [fit.theta] if middle is None else [fit.theta, middle.search.theta]
    if all(_near_end(fit, theta) for theta in places):
        return fit
    centre = fit
    if middle is not None:
        modes = (middle, *fit.modes[1:])
        centre = fit_at(fit.data, fit.problem, fit.layout, modes)
    found = [_elsewhere(centre, direction) for direction in _uncurved(centre).T]
    others = [other.estimate for other in found if other is not None]
    moved = [_moved(centre, other) for other in others]
    if not np.any(moved):
        return fit
    params = np.logical_or.reduce(moved)
    columns = np.logical_or.reduce([_taken_up(centre, other) for other in others])
    estimate = centre.estimate
    cov = estimate.cov_theta.copy()
    cov[params] = cov[:, params] = np.nan
    best = replace(centre.modes[0], estimate=replace(estimate, cov_theta=cov))
    names = tuple(compress(fit.exog_names, columns))
    flat_part = Flat(params, names, len(others))
    modes = (best, *centre.modes[1:])
    return replace(centre, flat=flat_part, unseen=fit.unseen, modes=modes)


def _without_error(fit: Fit) -> bool:
    """Whether a parameter that varies freely has no standard error, or hardly one."""
    best, layout = fit.estimate, fit.layout
    sd, values = np.sqrt(np.diag(best.cov_theta)), np.abs(_values(best))
    wide = ~(sd <= _WIDE * np.maximum(values, best.scale))
    wide[: layout.k_cov] &= layout.is_free & (not best.singular)
    wide[layout.k_cov : -1] &= fit.parameters.is_free
    # near an end of a range an estimate hardly moves, flat likelihood or not
    curvature = fit.modes[0].search.curvature
    faint = curvature[fit.problem.k_cov_free :] < _FAINT * curvature.max(initial=0.0)
    return bool(wide.any() or faint.any())


def _uncurved(fit: Fit) -> FloatArray:
    """Directions in which the likelihood has no curvature, as columns."""
    point = fit.problem.evaluate(fit.theta, derivatives=True)
    values, vectors = np.linalg.eigh(-point.hessian)
    none = values < _NO_CURVATURE * values.max(initial=1.0)
    return np.asarray(vectors[:, none])


def _elsewhere(fit: Fit, direction: FloatArray) -> Optimum | None:
    """A maximum as high as that of the fit, begun some way along a direction."""
    ends = fit.problem.ends
    here = np.clip(fit.theta, *ends)
    step = _ASIDE * direction * np.sign(direction[np.abs(direction).argmax()])
    sides = [np.clip(here + way, *ends) for way in (step, -step)]
    # to the side on which the range has more room
    return _as_high(fit, max(sides, key=lambda x: float(np.abs(x - here).sum())))


def _near_end(fit: Fit, theta: FloatArray) -> bool:
    """Whether a parameter is near the end of its range."""
    low, high = fit.problem.ends
    return bool((np.minimum(theta - low, high - theta) < _NEAR).any())


def _moved(fit: Fit, other: Estimate) -> BoolArray:
    """Which values differ between the fit and another point."""
    own = _values(fit.estimate)
    change = np.abs(_values(other) - own)
    return np.asarray(change > 1e-3 * np.maximum(np.abs(own), 1e-3))


def _values(estimate: Estimate) -> FloatArray:
    """Variances and covariances, residual parameters, residual variance."""
    parts = estimate.cov_values, estimate.residual_params, [estimate.scale]
    return np.concatenate(parts)


def _as_high(fit: Fit, start: FloatArray) -> Optimum | None:
    """A maximum near `start` that is as high as that of the fit."""

    def evaluate(theta: FloatArray) -> ThetaEvaluation:
        return fit.problem.evaluate(theta, derivatives=True)

    try:
        path = newton(
            evaluate,
            start,
            gtol=1e-13,
            maxiter=_SOON,
            polish=False,
            ends=fit.problem.ends,
        )
        found = Optimum(estimate_at(fit.problem, path.theta), path)
    except np.linalg.LinAlgError:
        return None
    reached = path.converged or path.decrement < _AS_HIGH
    return found if reached and abs(path.llf - fit.llf) < _AS_HIGH else None


def _taken_up(fit: Fit, other: Estimate) -> BoolArray:
    """Columns of X without which two estimates would differ in likelihood."""
    data, best = fit.data, fit.estimate
    grouped = data.grouped
    basis, root = np.linalg.qr(grouped.sort(data.exog))
    # what a column adds to the contrasts of the others
    alone = basis @ np.linalg.inv(root).T
    alone /= np.sqrt((alone**2).sum(axis=0))
    z, changed = grouped.sort(data.random_design), np.zeros_like(alone)
    if np.diff(grouped.offsets).max() > _ROWS:
        return np.zeros(fit.k_fe, bool)
    k = fit.structure.k_free
    u = [fit.problem.split(one.theta)[1][:k] for one in (best, other)]
    for start, end in pairwise(grouped.offsets):
        here = np.arange(start, end)
        one, two = (
            at.scale
            * (residual_covariance(data, here, v) + z[here] @ at.psi @ z[here].T)
            for at, v in zip((best, other), u, strict=True)
        )
        changed[here] = (two - one) @ alone[here]
    outside = changed - basis @ (basis.T @ changed)
    seen = np.abs((alone * changed).sum(axis=0)) + np.sqrt((outside**2).sum(axis=0))
    return np.asarray(seen > 1e-5 * seen.max(initial=0.0))
