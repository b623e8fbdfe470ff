"""
Fixed effects of entities, of periods, or of both.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.exceptions import (
    IdentificationError,
    TimeError,
    UnsupportedError,
    check_choice,
    listing,
    shown,
)
from mixedar.panel.algebra import (
    Varying,
    check_freedom,
    column_sizes,
    gaussian_llf,
    regress,
    standardize,
    varying_columns,
)
from mixedar.panel.covariance import CovarianceRequest
from mixedar.panel.data import PanelData
from mixedar.panel.estimate import PanelEstimate
from mixedar.panel.estimators.least_squares import LeastSquaresModel
from mixedar.panel.linearmodels import WithinFit, fit_within

# The effects that are removed, and what the estimator is called then.
_EFFECTS: dict[str, tuple[tuple[str, ...], str]] = {
    "entity": (("entity",), "Fixed effects (within) regression"),
    "time": (("time",), "Fixed effects of periods"),
    "twoways": (("entity", "time"), "Two-way fixed effects regression"),
}
_TWO_WAYS = _EFFECTS["twoways"][0]
# A column that varies this little within entities, compared with its variation
# between them, goes to linearmodels without the latter, which takes it for absorbed.
_FAINT = 1e-4


# Smallest eigenvalue of the correlations of columns that linearmodels keeps apart.
_ALIKE = 1e-6


class FixedEffects(LeastSquaresModel):
    """
    Regression with fixed effects: ``y_it = a_i (+ g_t) + x_it'b + e_it``.

    Parameters
    ----------
    endog, exog, entity, time, delta, weights, missing
        As in :class:`PanelModel`.
    effects : {"entity", "time", "twoways"}
        Which effects are removed.

    Notes
    -----
    Regressors without variation once the effects are removed (time-invariant ones
    under ``effects="entity"``) have no coefficient; ``absorbed`` of the results
    names them.  The intercept, if the design has one, is the average effect,
    Stata's ``_cons``.

    References
    ----------
    Baltagi, B. H. (2021), Econometric Analysis of Panel Data, 6th ed., Springer,
    sections 2.2 and 3.2.

    Examples
    --------
    >>> from statsmodels.datasets import grunfeld
    >>> from mixedar.api import FixedEffects
    >>> firms = grunfeld.load_pandas().data.astype({"year": int})
    >>> exog = firms[["value", "capital"]].assign(const=1.0)
    >>> fit = FixedEffects(firms["invest"], exog, firms["firm"], firms["year"]).fit()
    >>> fit.params.round(2).to_dict()
    {'value': 0.11, 'capital': 0.31, 'const': -55.27}
    """

    kind = "fe"
    _takes_weights = _takes_sources = True

    def _check_source(self, effects: str = "entity", **options: Any) -> None:
        super()._check_source(**options)
        check_choice("effects", effects, tuple(_EFFECTS))
        if effects != "entity":
            raise UnsupportedError(
                f"effects={effects!r} of a source: periods cut through all batches; "
                "write their dummies into the formula, as in 'y ~ x + C(time)', and "
                "leave effects= out"
            )

    def _init(self, panel: PanelData, effects: str = "entity", **options: Any) -> None:
        check_choice("effects", effects, tuple(_EFFECTS))
        self.effects = effects
        self._needs_entities = effects != "time"
        self._needs_repeats = effects != "time"
        super()._init(panel, **options)
        if effects != "entity":
            if not panel.has_time:
                raise TimeError(
                    f"effects={effects!r} needs time=, the column with the periods"
                )
            if panel.n_periods == 1:
                raise TimeError(
                    f"all rows belong to one period, {shown(panel.time_labels[0])}: "
                    "effects of periods need several"
                )

    def _estimate(self, request: CovarianceRequest) -> PanelEstimate:
        panel, (effects, method) = self.panel, _EFFECTS[self.effects]
        slopes, constant = panel.slopes, panel.constant
        centred = panel.centre(panel.x[:, slopes])
        within = panel.remove_effects(centred, effects)
        found = varying_columns(centred, within)
        self._check_kept(found.kept, [panel.names[j] for j in slopes])
        columns = slopes[found.kept]
        within, centred = within[:, found.kept], centred[:, found.kept]
        faint = column_sizes(within) < _FAINT * column_sizes(centred)
        given = np.where(faint, within, centred)
        position = None
        if constant is not None:
            position = int(np.searchsorted(columns, constant))
            columns = np.insert(columns, position, constant)
            given = np.insert(given, position, panel.ones, axis=1)
            within = np.insert(within, position, panel.ones, axis=1)
        ones = None if panel.has_rows else panel.ones
        standard = standardize(given, position, False, ones)
        within = within @ standard.back
        # linearmodels takes every panel for one part, near collinearity for more, and
        # each row for one observation
        lengths = column_sizes(within)
        alike = np.linalg.eigvalsh((within / lengths).T @ (within / lengths))[0]
        own = not panel.has_rows or panel.weights is not None
        if own or self._parts > 1 or alike < _ALIKE:
            fit = _regress_within(panel, standard.x, within, effects, position)
        else:
            fit = fit_within(panel, standard.x, effects)
        if position is not None:
            back = _level(panel, columns, position) @ standard.back
            standard = replace(standard, back=back)
        return self._estimated(
            request,
            standard,
            fit.params,
            panel.by_root(within),
            fit.resid,
            fit.df_resid,
            columns,
            effects=effects,
            classical=fit.cov,
            method=method,
            scale=fit.scale,
            absorbed=tuple(panel.names[slopes[j]] for j in found.gone),
            notes=self._notes(found),
            sigma2_e=fit.scale,
            llf=fit.llf,
            f_pooled=None if faint.any() else fit.f_pooled,
        )

    @property
    def _parts(self) -> int:
        """Parts of the panel that two-way effects are compared within."""
        if self.effects != "twoways":
            return 1
        panel = self.panel
        return panel.n_entities + panel.n_periods - panel.count_effects(_TWO_WAYS)

    def _check_kept(self, kept: list[int], names: list[str]) -> None:
        panel = self.panel
        effects = panel.count_effects(_EFFECTS[self.effects][0])
        if not kept:
            what = listing(names) if names else "there is none"
            raise IdentificationError(
                f"the effects absorb every regressor ({what}): none varies once they "
                "are removed. Use random effects, or a regressor that varies within "
                f"{panel.entity_name}"
            )
        check_freedom(
            panel.nobs - effects - len(kept),
            f"{panel.nobs} observations",
            f"{effects} effects, {len(kept)} coefficients and a variance",
            "fewer regressors or random effects",
        )

    def _notes(self, found: Varying) -> tuple[str, ...]:
        panel, notes = self.panel, []
        absorbed, collinear = (
            [panel.names[panel.slopes[j]] for j in positions]
            for positions in (found.absorbed, found.collinear)
        )
        if absorbed:
            verb = "do" if len(absorbed) > 1 else "does"
            where = {
                "entity": f"not vary within {panel.entity_name}",
                "time": f"not vary within {panel.time_name}",
                "twoways": "not vary once both effects are removed",
            }[self.effects]
            notes.append(
                f"Absorbed by the effects, without a coefficient: "
                f"{', '.join(absorbed)} ({verb} {where})."
            )
        if collinear:
            notes.append(
                f"Without a coefficient: {', '.join(collinear)}, collinear with the "
                "other regressors once the effects are removed."
            )
        if self._parts > 1:
            notes.append(
                f"The panel falls into {self._parts} parts that share no "
                f"{panel.entity_name} and no {panel.time_name}: effects are compared "
                "within a part only."
            )
        if self.effects != "time":
            notes += self.singleton_notes(
                "say nothing about the slopes, but are counted in the numbers of "
                "observations and entities"
            )
        return tuple(notes)


def _regress_within(
    panel: PanelData,
    x: FloatArray,
    within: FloatArray,
    effects: tuple[str, ...],
    constant: int | None,
) -> WithinFit:
    """Least squares of columns without the effects; `x` is as it was with them."""
    n, rank = panel.nobs, panel.count_effects(effects)
    mean = panel.ones * panel.grand_mean(panel.y)
    y = panel.remove_effects((panel.y - mean)[:, None], effects)[:, 0]
    y = y if constant is None else y + mean
    fit = regress(panel.by_root(within), panel.by_root(y), tolerance=0.0)
    # the constant is the mean of the effects
    df_resid = n - rank - fit.rank + (constant is not None)
    scale = fit.ssr / df_resid
    x = np.column_stack([panel.ones, x])
    pooled = regress(panel.by_root(x), panel.by_root(panel.y))
    change = (pooled.ssr - fit.ssr) / (rank - 1)
    return WithinFit(
        fit.params,
        scale * fit.bread,
        fit.resid,
        scale,
        df_resid,
        gaussian_llf(fit.ssr, n, panel.weights),
        (change / scale, float(rank - 1), float(df_resid)),
    )


def _level(panel: PanelData, columns: IntArray, position: int) -> FloatArray:
    """Turns the intercept of centred columns into that of the columns themselves."""
    slopes = np.arange(len(columns)) != position
    back = np.eye(len(columns))
    back[position, slopes] = -panel.grand_mean(panel.x[:, columns[slopes]])
    back[position] /= panel.level
    return back
