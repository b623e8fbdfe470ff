"""
Fits of one model to many responses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from mixedar._types import BoolArray, FloatArray
from mixedar.data.checks import (
    apart,
    check_finite,
    check_labels,
    check_response,
    float_array,
)
from mixedar.data.model_data import ModelData, reads_fitted
from mixedar.engine.batch import LikelihoodBatch
from mixedar.engine.batch_search import BatchSearch
from mixedar.engine.estimate import estimate_at
from mixedar.engine.newton import SearchPath
from mixedar.engine.problem import LikelihoodProblem
from mixedar.engine.search import Optimum
from mixedar.exceptions import LengthError, UnsupportedError, check_flags
from mixedar.fit.fit import Fit
from mixedar.fit.maximise import fit_at, likelihood_of, maximise
from mixedar.numeric.linalg import product
from mixedar.summary import ResultFrame

# Numbers of the responses that are taken together, and how many of these at most.
_NUMBERS, _AT_ONCE = 2**21, 1024
# A search ends where the log-likelihood can rise by no more, and one by itself.
_GTOL, _GTOL_ALONE = 1e-9, 1e-10


@dataclass(frozen=True, eq=False)
class Refits:
    """
    Estimates of one model from k responses.

    Rows of a response without a maximum are NaN.

    Attributes
    ----------
    fe_params : ndarray, shape (k, p)
        Fixed effects.
    cov_fe : ndarray, shape (k, p, p)
        Their covariance matrices.
    cov_values : ndarray, shape (k, k_cov)
        Covariances of the random effects and variance components, on the scale of the
        data.
    residual_params : ndarray, shape (k, k_residual)
    scale : ndarray, shape (k,)
        Residual variances.
    llf : ndarray, shape (k,)
        Log-likelihoods, restricted ones after REML.
    converged : ndarray of bool, shape (k,)
    names : tuple of str
        Of all parameters but the residual variance, the fixed effects first.
    df : ndarray, shape (p,)
        Containment degrees of freedom of the fixed effects.
    index : Index
        Labels of the responses.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> responses = model.fit().simulate(3, rng=1)
    >>> refits = model.refit_many(responses)
    >>> refits.bse_fe.shape
    (3, 2)
    >>> refits.params.columns.tolist()
    ['Intercept', 'age', 'subject Var', 'rho', 'scale']
    """

    fe_params: FloatArray
    cov_fe: FloatArray
    cov_values: FloatArray
    residual_params: FloatArray
    scale: FloatArray
    llf: FloatArray
    converged: BoolArray
    names: tuple[str, ...]
    df: FloatArray
    index: pd.Index

    @cached_property
    def params(self) -> pd.DataFrame:
        """All estimates, one row a response, the residual variance as ``scale``."""
        parts = [self.fe_params, self.cov_values, self.residual_params]
        names = [*apart(self.names, ("scale",), "coefficient"), "scale"]
        table = np.column_stack([*parts, self.scale])
        return ResultFrame.of(pd.DataFrame(table, self.index, names), "number")

    @property
    def _fixed(self) -> list[str]:
        return list(self.names[: self.fe_params.shape[1]])

    @cached_property
    def bse_fe(self) -> pd.DataFrame:
        """Standard errors of the fixed effects, one row a response."""
        variances = np.einsum("kii->ki", self.cov_fe)
        frame = pd.DataFrame(np.sqrt(variances), self.index, self._fixed)
        return ResultFrame.of(frame, "number")

    @cached_property
    def tvalues(self) -> pd.DataFrame:
        """Fixed effects by their standard errors."""
        estimates = pd.DataFrame(self.fe_params, self.index, self._fixed)
        return ResultFrame.of(estimates / self.bse_fe, "statistic")

    @cached_property
    def pvalues(self) -> pd.DataFrame:
        """Of two-sided t tests with the containment degrees of freedom."""
        found = 2.0 * stats.t.sf(np.abs(self.tvalues), self.df)
        frame = pd.DataFrame(found, self.index, self._fixed)
        return ResultFrame.of(frame, "pvalue")

    @classmethod
    def empty(
        cls, data: ModelData, problem: LikelihoodProblem, index: pd.Index
    ) -> Refits:
        """Those of responses for which no maximum is known yet."""
        k, p = len(index), data.k_fe
        return cls(
            np.full((k, p), np.nan),
            np.full((k, p, p), np.nan),
            np.full((k, problem.covariance.k_cov), np.nan),
            np.full((k, len(problem.parameters.is_free)), np.nan),
            np.full(k, np.nan),
            np.full(k, np.nan),
            np.zeros(k, dtype=bool),
            tuple(data.param_names),
            data.df_containment,
            index,
        )

    def take(self, k: int, fit: Fit) -> None:
        """Write down the fit to one response."""
        estimate = fit.estimate
        self.fe_params[k], self.cov_fe[k] = estimate.beta, estimate.cov_beta
        self.cov_values[k] = estimate.cov_values
        self.residual_params[k] = estimate.residual_params
        self.scale[k], self.llf[k] = estimate.scale, estimate.llf
        self.converged[k] = fit.converged


class ManyResponses:
    """
    The likelihood of a model for many responses at once.

    Parameters
    ----------
    data : ModelData
    problem : LikelihoodProblem
        Of its rows.

    Raises
    ------
    UnsupportedError
        If responses are as fast one by one, or levels of other factors link groups.
    """

    def __init__(self, data: ModelData, problem: LikelihoodProblem) -> None:
        self._data, self.problem = data, problem
        self._batch = LikelihoodBatch(problem, data.clusters(np.empty((data.nobs, 0))))
        most = _NUMBERS // max(self._batch.numbers_per_response, 1)
        self.at_once = min(max(most, 1), _AT_ONCE)

    @classmethod
    def of(cls, data: ModelData, problem: LikelihoodProblem) -> ManyResponses | None:
        """None where responses have to be taken one by one."""
        if data.terms:
            return None
        try:
            return cls(data, problem)
        except UnsupportedError:
            return None

    def search(
        self,
        endogs: FloatArray,
        starts: Sequence[FloatArray] = (),
        *,
        usual: bool = True,
        at_least: FloatArray | None = None,
        gtol: float = _GTOL,
        polish: bool = True,
    ) -> BatchSearch:
        """
        The highest maxima.

        Parameters
        ----------
        endogs : ndarray, shape (n, b)
        starts : sequence of ndarray, each of shape (k_theta,)
            Points where all searches begin.
        usual : bool
            Whether the usual starting points follow.
        at_least : ndarray, shape (b,), optional
            Where a maximum lies below, the usual ones follow in any case.
        gtol, polish
            As in :func:`mixedar.engine.newton.newton`.

        Returns
        -------
        BatchSearch
        """
        data = self._data
        y = endogs if data.offset is None else endogs - data.offset[:, None]
        batch = self._batch.of_responses(data.grouped.sort(y))
        found = BatchSearch(batch, np.arange(y.shape[1]), gtol=gtol, polish=polish)
        for theta in starts:
            found.follow(theta, hopeless=found.llf)
        if usual:
            found.usual_starts()
        elif at_least is not None:
            found.again(np.flatnonzero(~(found.llf >= at_least)))
        return found

    def write(self, out: Refits, first: int, found: BatchSearch) -> None:
        """Estimates at the maxima of a search, from a place of refits on."""
        problem, batch = self.problem, found.batch
        sound = np.flatnonzero(found.sound)
        if len(sound) == 0:
            return
        theta, some = found.theta[sound], found.which[sound]
        lam = theta[:, : problem.k_cov_free]
        # a standard deviation that is zero to rounding is zero
        lam[np.abs(lam) < 1e-7] = 0.0
        here, left = first + sound, batch.profiles(theta, some)
        scale = left.rss / batch.df if problem.scale is None else problem.scale
        out.scale[here], out.llf[here], out.converged[here] = scale, left.llf, True
        scale = out.scale[here, None]
        out.fe_params[here] = left.beta
        inverse = left.root @ left.root.transpose(0, 2, 1)
        out.cov_fe[here] = inverse * scale[:, :, None]
        out.cov_values[here] = batch.covariances(theta) * scale
        free = theta[:, problem.k_cov_free :]
        out.residual_params[here] = [
            problem.structure.from_unconstrained(u) for u in free
        ]


def refit_many(
    data: ModelData, endog: ArrayLike | pd.DataFrame, *, reml: bool = True
) -> Refits:
    """
    Fits of a model to many responses.

    Parameters
    ----------
    data : ModelData
    endog : array_like or DataFrame, shape (n, k)
        One response a column, in the order of the model's rows.
    reml : bool

    Returns
    -------
    Refits

    Raises
    ------
    MixedARError
        If a response is no column of finite numbers that vary.
    """
    check_flags(reml=reml)
    values, index = _responses(data, endog)
    problem = likelihood_of(data, reml=reml)

    def one(y: FloatArray) -> Fit:
        return maximise(data.changed(endog=y), reml=reml, gtol=_GTOL_ALONE)

    together = None if reads_fitted(data.residual) else ManyResponses.of(data, problem)
    return _refitted(data, problem, values, index, one, together)


def fit_each(
    data: ModelData, endogs: FloatArray, *, reml: bool = True
) -> Iterator[Fit | None]:
    """
    The fit to each column of responses, None where there is no maximum.

    For what :class:`Refits` does not hold, such as Kenward-Roger; maxima are searched
    together where that is possible.

    Parameters
    ----------
    data : ModelData
    endogs : ndarray, shape (n, k)
    reml : bool

    Yields
    ------
    Fit or None
    """
    problem = likelihood_of(data, reml=reml)
    together = None if reads_fitted(data.residual) else ManyResponses.of(data, problem)
    step = endogs.shape[1] if together is None else together.at_once
    for first in range(0, endogs.shape[1], step):
        some = endogs[:, first : first + step]
        found = None if together is None else together.search(some)
        for k, y in enumerate(np.ascontiguousarray(some.T)):
            other = data.changed(endog=y)
            try:
                if found is None or not found.sound[k]:
                    yield maximise(other, reml=reml, gtol=_GTOL_ALONE)
                    continue
                theta, own = found.theta[k], problem.of_rows(other.compressed)
                path = SearchPath(theta, float(found.llf[k]), 0, 1, 0.0, True)
                modes = [Optimum(estimate_at(own, theta), path)]
            except (np.linalg.LinAlgError, ValueError):
                yield None
                continue
            yield fit_at(other, own, problem.covariance, modes)


def refit_like(fit: Fit, endog: ArrayLike | pd.DataFrame) -> Refits:
    """
    Fits of the same model, in the same way, to many responses.

    Responses are searched together, which takes a twentieth of the time of one fit
    each where groups are small.

    Parameters
    ----------
    endog : array_like or DataFrame, shape (n, k)
        One response a column, in the order of the model's rows, as those of
        ``simulate``.

    Returns
    -------
    Refits
        ``params``, ``bse_fe``, ``tvalues`` and ``pvalues`` are frames with one row a
        response; ``llf`` and ``converged`` are arrays.

    Raises
    ------
    MixedARError
        If a response is no column of finite numbers that vary.

    Examples
    --------
    How often does a test find a difference of growth like the one in the data?

    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age*sex", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> refits = fit.refit_many(fit.simulate(200, rng=1))
    >>> power = (refits.pvalues.iloc[:, -1] < 0.05).mean()
    >>> bool(0.5 < power < 1.0)
    True
    """
    data, problem = fit.data, fit.problem
    values, index = _responses(data, endog)

    def one(y: FloatArray) -> Fit:
        other, layout = data.changed(endog=y), fit.layout
        return maximise(other, reml=fit.reml, layout=layout, gtol=_GTOL_ALONE)

    together = None if reads_fitted(data.residual) else ManyResponses.of(data, problem)
    return _refitted(data, problem, values, index, one, together)


def _responses(
    data: ModelData, endog: ArrayLike | pd.DataFrame
) -> tuple[FloatArray, pd.Index]:
    """Responses as finite columns that vary, and their labels."""
    if data.index is not None:
        check_labels("endog", endog, data.index, "model.endog")
    values = float_array(endog, "the responses")
    if values.ndim != 2 or len(values) != data.nobs:
        raise LengthError(
            f"the new responses have the shape {values.shape}; pass one column of "
            f"{data.nobs} observations for each response"
        )
    numbered: pd.Index = pd.RangeIndex(values.shape[1])
    index = endog.columns if isinstance(endog, pd.DataFrame) else numbered
    check_finite(values, [str(label) for label in index], "the responses'")
    basis = np.linalg.qr(data.exog)[0]
    left = values - product(basis, product(basis.T, values))
    left -= product(basis, product(basis.T, left))
    sizes, rest = np.linalg.norm(values, axis=0), np.linalg.norm(left, axis=0)
    bad = (np.ptp(values, axis=0) == 0.0) | (rest <= 1e-13 * sizes)
    for k in np.flatnonzero(bad).tolist():
        # says what is wrong with it
        w = np.column_stack([data.exog, values[:, k]])
        check_response(w, float(np.ptp(values[:, k])), str(index[k]))
    return values, index


def _refitted(
    data: ModelData,
    problem: LikelihoodProblem,
    endogs: FloatArray,
    index: pd.Index,
    one: Callable[[FloatArray], Fit],
    together: ManyResponses | None,
) -> Refits:
    """Fits to the columns of responses, together where that is possible."""
    out = Refits.empty(data, problem, index)
    if together is not None:
        step = together.at_once
        for first in range(0, endogs.shape[1], step):
            found = together.search(endogs[:, first : first + step])
            together.write(out, first, found)
    for k in np.flatnonzero(~out.converged):
        try:
            out.take(int(k), one(np.ascontiguousarray(endogs[:, k])))
        except (np.linalg.LinAlgError, ValueError):
            continue
    return out
