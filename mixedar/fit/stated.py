"""
Parameters as a user states them, for data that are to be drawn with an effect of a
given size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np

from mixedar._types import FloatArray
from mixedar.data.model_data import reads_fitted
from mixedar.exceptions import UnknownColumnError, UnsupportedError, shown
from mixedar.fit.fit import Fit

if TYPE_CHECKING:
    from typing_extensions import Self


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
    """

    fe_params: FloatArray
    root: FloatArray
    vcomp: FloatArray
    scale: float
    residual_params: FloatArray
    term_roots: tuple[FloatArray, ...] = ()

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
            root = _root(cov[:k, :k], fit.names[p : p + fit.k_re2])
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
        terms = tuple(_root(cov[a, a], fit.effect_names[a]) for a in places)
        return cls(params[:p], root, vcomp, scale, residual, terms)


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
    return values


def _root(cov: FloatArray, names: tuple[str, ...]) -> FloatArray:
    """A root of a covariance that a user states."""
    sizes, vectors = np.linalg.eigh(cov)
    if (np.diag(cov) < 0.0).any() or sizes[0] < -1e-10 * max(sizes[-1], 1e-300):
        raise UnsupportedError(
            f"params: {', '.join(map(repr, names))} are no covariance matrix: a "
            "variance is negative, or a covariance too large for its variances"
        )
    return np.asarray(vectors * np.sqrt(np.clip(sizes, 0.0, None)))


def _residual(fit: Fit, params: FloatArray, values: Mapping[str, float]) -> FloatArray:
    """Residual parameters, if they are inside their range."""
    names = fit.names[fit.k_fe + fit.layout.k_cov :]
    if not values.keys() & set(names):
        return fit.residual_params
    structure = fit.structure
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
            f"params: {', '.join(found)}: {structure.label} residuals cannot have that"
        )
    return params
