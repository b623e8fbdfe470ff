"""
Drawing responses: random effects of new groups, correlated residuals, and the
parameters that a user states for data with an effect of a given size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from mixedar._types import FloatArray
from mixedar.data.model_data import ModelData
from mixedar.engine.residuals import correlated_residuals
from mixedar.fit.fit import Fit
from mixedar.numeric.linalg import root_of, spectral_root
from mixedar.relations.base import with_parameters

if TYPE_CHECKING:
    from typing_extensions import Self
from collections.abc import Mapping
from itertools import compress

from mixedar.data.model_data import reads_fitted
from mixedar.exceptions import UnknownColumnError, UnsupportedError, shown


@dataclass(frozen=True)
class Responses:
    """
    Distribution of the response of the rows of a model.

    Attributes
    ----------
    data : ModelData
    mean : ndarray, shape (n,)
    cov_re : ndarray, shape (k_re, k_re)
        Covariance of the correlated random effects.
    vcomp : ndarray, shape (k_vc,)
        Variance components.
    scale : float
        Residual variance.
    residual_params : ndarray, shape (k_params,)
    term_covs : tuple of ndarray
        Covariance of the effects of each further term.
    between_levels : tuple of ndarray or None
        What relates the levels of each.
    """

    data: ModelData
    mean: FloatArray
    cov_re: FloatArray
    vcomp: FloatArray
    scale: float
    residual_params: FloatArray
    term_covs: tuple[FloatArray, ...] = ()
    between_levels: tuple[FloatArray | None, ...] = ()

    @classmethod
    def of(cls, fit: Fit) -> Self:
        """The distribution at the estimates of a fit."""
        return cls(
            fit.data,
            fit.fitted_marginal,
            fit.cov_re,
            fit.vcomp,
            fit.scale,
            fit.residual_params,
            fit.term_covs,
            fit.related.levels,
        )

    @cached_property
    def _root(self) -> FloatArray:
        """A root of the covariance of the correlated random effects."""
        return root_of(self.cov_re)

    @cached_property
    def _term_roots(self) -> list[tuple[FloatArray, FloatArray | None]]:
        """Roots of the covariances of each further term, and between its levels."""
        return [
            (root_of(cov), None if between is None else root_of(between))
            for cov, between in zip(self.term_covs, self.between_levels, strict=True)
        ]

    @cached_property
    def _widths(self) -> list[list[int]]:
        """Number of columns of each component in each group."""
        data = self.data
        if data.component_parts is None:
            return [[len(names) for names in part] for part in data.component_columns]
        groups = range(data.n_groups)
        return [
            [len(part.column_names(i, all_levels=True)) for i in groups]
            for part in data.component_parts
        ]

    def draw(self, rng: np.random.Generator | np.random.RandomState) -> FloatArray:
        """One response, in the caller's row order, shape (n,)."""
        data, y = self.data, self.mean
        if data.exog_re is not None:
            effects = rng.normal(size=(data.n_groups, data.k_re)) @ self._root.T
            y = y + (effects[data.codes] * data.exog_re).sum(axis=1)
        for variance, matrix, widths in zip(
            self.vcomp, data.components.matrices, self._widths, strict=True
        ):
            effects = np.zeros((data.n_groups, matrix.shape[1]))
            for i, width in enumerate(widths):
                effects[i, :width] = rng.normal(size=width)[: matrix.shape[1]]
            y = y + np.sqrt(variance) * (effects[data.codes] * matrix).sum(axis=1)
        for term, (root, wide) in zip(data.terms, self._term_roots, strict=True):
            if term.shared:
                continue  # part of the mean
            effects = rng.normal(size=(len(term.levels), len(root))) @ root.T
            if wide is not None:
                effects = wide @ effects
            y = y + (effects[term.codes] * term.design).sum(axis=1)
        grouped = data.grouped
        noise = grouped.sort(rng.normal(size=len(y)))
        noise = correlated_residuals(
            noise, grouped, data.residual, self.residual_params
        )
        return np.asarray(y + np.sqrt(self.scale) * grouped.unsort(noise))

    def some(
        self, rng: np.random.Generator, steps: Iterator[int], at_once: int
    ) -> Iterator[FloatArray]:
        """Responses of the steps, as many columns at once, shape (n, at_once)."""
        while here := list(islice(steps, at_once)):
            yield np.column_stack([self.draw(rng) for _ in here])


@dataclass(frozen=True)
class StatedParameters:
    """
    Parameters at which responses are drawn.

    Attributes
    ----------
    fe_params : ndarray, shape (p,)
    root : ndarray, shape (k_re, k_re)
        A root of the covariance of the correlated random effects.
    vcomp : ndarray, shape (k_vc,)
    scale : float
    residual_params : ndarray, shape (k_params,)
    term_roots : tuple of ndarray
        Roots of the covariances of the effects of each further term.
    relation_params : tuple of ndarray
        Unconstrained parameters of what relates the levels of each.
    """

    fe_params: FloatArray
    root: FloatArray
    vcomp: FloatArray
    scale: float
    residual_params: FloatArray
    term_roots: tuple[FloatArray, ...] = ()
    relation_params: tuple[FloatArray, ...] = ()

    @classmethod
    def of(cls, fit: Fit, stated: Mapping[str, float] | None = None) -> Self:
        """
        Those of a fit, but for the ones that are stated.

        Parameters
        ----------
        fit : Fit
        stated : mapping of str to float, optional
            By the names of ``params``, and ``"scale"``.

        Raises
        ------
        UnknownColumnError
            For a name that is none of them.
        UnsupportedError
            For values that are not possible.
        """
        k = fit.k_re
        # singular covariances have this root too
        root = np.sqrt(fit.scale) * (fit.z_map @ fit.factor)[:k, :k]
        # the search may end at either sign of a column; the draws shall not tell
        root = root * np.where(np.diag(fit.factor)[:k] < 0.0, -1.0, 1.0)
        values = _checked(fit, stated)
        p, q = fit.k_fe, fit.layout.k_cov
        params = np.array(
            [
                values.get(name, value)
                for name, value in zip(fit.names, fit.params, strict=True)
            ]
        )
        cov = fit.layout.matrix(params[p : p + q])
        if not np.array_equal(params[p : p + fit.k_re2], fit.params[p : p + fit.k_re2]):
            root = _stated_root(cov[:k, :k], fit.names[p : p + fit.k_re2])
        vcomp = params[p + fit.k_re2 : p + fit.layout.k_groups]
        if (vcomp < 0.0).any():
            j = p + fit.k_re2 + int(np.argmin(vcomp))
            raise UnsupportedError(
                f"params: {fit.names[j]!r} is {vcomp.min():g}, and no variance"
            )
        scale = float(values.get("scale", fit.scale))
        if not scale > 0.0:
            raise UnsupportedError(
                f"params: 'scale' is {scale:g}; it has to be positive"
            )
        residual = _residual(fit, params[p + q :], values)
        places = [place.effects for place in fit.layout.term_places]
        terms = tuple(
            term.whole(_stated_root(cov[a, a], fit.effect_names[a]))
            for term, a in zip(fit.layout.terms, places, strict=True)
        )
        u = fit.parameters.to_unconstrained(residual)[fit.structure.k_free :]
        own = tuple(part for _, part in with_parameters(fit.between, u))
        residual = residual[: fit.structure.k_params]
        return cls(params[:p], root, vcomp, scale, residual, terms, own)


def _checked(fit: Fit, stated: Mapping[str, float] | None) -> dict[str, float]:
    """Stated values by name, as finite numbers."""
    if stated is None:
        return {}
    if not hasattr(stated, "items"):
        raise UnsupportedError(
            "params= takes a mapping of names of parameters to values, such as "
            f"{{{fit.names[0]!r}: 0.5}}, not {type(stated).__name__}"
        )
    if reads_fitted(fit.structure):
        raise UnsupportedError(
            "params=: the residual variance is a function of the fitted values, which "
            "other parameters would change; draw at the estimates"
        )
    known, values = [*fit.names, "scale"], {}
    for name, value in stated.items():
        if name not in known:
            raise UnknownColumnError(
                f"params: {shown(name)} is no parameter of the model; there are "
                f"{', '.join(map(repr, known))}"
            )
        number = isinstance(value, (int, float, np.number))
        if not number or isinstance(value, bool) or not np.isfinite(float(value)):
            raise UnsupportedError(f"params: {name!r} is {shown(value)}, no number")
        values[str(name)] = float(value)
    at = dict(zip(fit.names, fit.params, strict=True))
    for term in fit.data.terms:
        for name in (*term.cov_names, *term.between_names) if term.shared else ():
            if values.get(name, at[name]) != at[name]:
                raise UnsupportedError(
                    f"params: {name!r} belongs to a smooth, which is part of the mean "
                    "and stays as it was estimated; leave it out"
                )
    return values


def _stated_root(cov: FloatArray, names: tuple[str, ...]) -> FloatArray:
    """A root of a covariance that a user states."""
    sizes, vectors = np.linalg.eigh(cov)
    q = len(cov)
    # all entries of the triangle have names, unless a variance is shared
    at = [i * (i + 3) // 2 if len(names) == q * (q + 1) // 2 else 0 for i in range(q)]
    for i in np.flatnonzero(np.diag(cov) < 0.0):
        raise UnsupportedError(
            f"params: {names[at[i]]!r} is {cov[i, i]:g}; a variance cannot be negative"
        )
    if sizes[0] < -1e-10 * max(sizes[-1], 1e-300):
        raise UnsupportedError(
            f"params: the values of {', '.join(map(repr, names))} make no covariance "
            "matrix: a variance is negative, or a covariance too large for its "
            "variances"
        )
    return spectral_root(sizes, vectors)


def _residual(fit: Fit, params: FloatArray, values: Mapping[str, float]) -> FloatArray:
    """Residual parameters, if they are inside their range."""
    names = fit.names[fit.k_fe + fit.layout.k_cov :]
    if not values.keys() & set(names):
        return fit.estimate.residual_params
    structure = fit.parameters
    held = [n for n, free in zip(names, structure.is_free, strict=True) if not free]
    if values.keys() & set(held):
        raise UnsupportedError(f"params: {held[0]!r} is held by the model")
    with np.errstate(all="ignore"):
        try:
            back = structure.from_unconstrained(structure.to_unconstrained(params))
        except (ValueError, ArithmeticError, np.linalg.LinAlgError):
            back = np.full(len(params), np.nan)
    wrong = ~(np.abs(back - params) <= 1e-6 * np.maximum(1.0, np.abs(params)))
    if wrong.any():
        pairs = zip(names, params, strict=True)
        found = [f"{name} = {value:g}" for name, value in compress(pairs, wrong)]
        raise UnsupportedError(
            f"params: {', '.join(found)}: {fit.structure.label} residuals, and what "
            "relates levels, cannot have that"
            if len(fit.parameters.is_free) > fit.structure.k_params
            else f"params: {', '.join(found)}: {fit.structure.label} residuals cannot "
            "have that"
        )
    return params
