"""
Fixed effects of entities, of periods, or of both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedar._types import FloatArray
from mixedar.exceptions import IdentificationError, TimeError, UnsupportedError, shown
from mixedar.panel.algebra import frames, lean, standardize
from mixedar.panel.checks import (
    absorbed_columns,
    check_collinear,
    check_residuals,
    listing,
    singleton_notes,
)
from mixedar.panel.covariance import (
    CovarianceRequest,
    Regression,
    cluster_codes,
    sandwich,
)
from mixedar.panel.data import PanelData
from mixedar.panel.estimators.base import CovarianceInfo, PanelEstimate, PanelModel
from mixedar.panel.results import PanelResults, two_way_effects

_EFFECTS: dict[str, tuple[str, ...]] = {
    "entity": ("entity",),
    "time": ("time",),
    "twoways": ("entity", "time"),
}
_METHODS = {
    "entity": "Fixed effects (within) regression",
    "time": "Fixed effects of periods",
    "twoways": "Two-way fixed effects regression",
}
# A column that varies this little within entities, compared with its variation
# between them, goes to linearmodels without the latter, which takes it for absorbed.
_FAINT = 1e-4


class FixedEffects(PanelModel):
    """
    Regression with fixed effects: ``y_it = a_i (+ g_t) + x_it'b + e_it``.

    Parameters
    ----------
    endog, exog, entity, time, missing
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
    """

    def _init(self, panel: PanelData, effects: str = "entity", **options: Any) -> None:
        if effects not in _EFFECTS:
            raise UnsupportedError(
                f"effects={effects!r}: choose 'entity', 'time' or 'twoways'"
            )
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

    def fit(
        self,
        cov_type: str = "classical",
        *,
        cluster: Any = None,
        small_sample: str | None = "default",
        kernel: str = "bartlett",
        bandwidth: float | None = None,
    ) -> PanelResults:
        """
        Estimate the coefficients.

        Parameters
        ----------
        cov_type : str
            ``"classical"``, ``"robust"``, ``"clustered"``, ``"hac"`` or
            ``"driscoll-kraay"``.
        cluster, small_sample, kernel, bandwidth
            See :class:`CovarianceRequest`; clusters are entities and the factor is
            Stata's by default.

        Returns
        -------
        PanelResults

        Raises
        ------
        RankDeficiencyError
            If columns are collinear.
        IdentificationError
            If the effects absorb every regressor, or no degree of freedom is left.
        """
        from linearmodels.panel import PanelOLS

        request = CovarianceRequest.read(
            cov_type, cluster, small_sample, kernel, bandwidth
        )
        panel, effects = self.panel, _EFFECTS[self.effects]
        clusters = []
        if request.cov_type == "clustered":
            clusters = cluster_codes(panel, request.cluster, self.data)
        check_collinear(panel.x, panel.names, "the regressors")
        constant = panel.constant
        slopes = np.array([j for j in range(panel.x.shape[1]) if j != constant], int)
        centred = panel.x[:, slopes] - panel.x[:, slopes].mean(axis=0)
        within = remove_effects(panel, centred, effects)
        absorbed, collinear = absorbed_columns(centred, within)
        kept = [
            j for j in range(len(slopes)) if j not in absorbed and j not in collinear
        ]
        self._check_kept(kept, [panel.names[j] for j in slopes])
        faint = _faint(centred[:, kept], within[:, kept])
        given = np.where(faint, within[:, kept], centred[:, kept])
        columns = slopes[kept]
        position = None
        if constant is not None:
            position = int(np.searchsorted(columns, constant))
            columns = np.insert(columns, position, constant)
            given = np.insert(given, position, 1.0, axis=1)
            within = np.insert(within[:, kept], position, 1.0, axis=1)
        else:
            within = within[:, kept]
        standard = standardize(given, position, center=False)
        y, x = frames(panel, panel.y, standard.x)
        fit = lean(PanelOLS)(
            y,
            x,
            entity_effects="entity" in effects,
            time_effects="time" in effects,
            drop_absorbed=True,
            check_rank=False,
        ).fit(**_memory(panel, effects))
        resid = np.asarray(fit.resids, dtype=np.float64)
        check_residuals(resid, panel)
        params = standard.params(fit.params.to_numpy())
        df_resid = int(fit.df_resid)
        info = CovarianceInfo(df=float(df_resid))
        if request.cov_type == "classical":
            cov = standard.cov(fit.cov.to_numpy())
        else:
            regression = Regression(
                within,
                resid,
                panel.entity,
                panel.time,
                df_resid,
                len(kept),
                effects,
            )
            cov, info = sandwich(regression, request, clusters)
        if position is not None:
            params, cov = _with_level(panel, columns, position, params, cov)
        estimate = PanelEstimate(
            kind="fe",
            method=_METHODS[self.effects],
            columns=columns,
            params=params,
            cov=cov,
            info=info,
            scale=float(fit.s2),
            df_resid=df_resid,
            nobs=panel.nobs,
            absorbed=tuple(
                panel.names[slopes[j]] for j in sorted(absorbed + collinear)
            ),
            notes=self._notes(absorbed, collinear, slopes),
            effects=effects,
            sigma2_e=float(fit.s2),
            llf=float(fit.loglik),
            f_pooled=None if faint.any() else _f_statistic(fit.f_pooled),
        )
        return PanelResults(self, estimate)

    def _check_kept(self, kept: list[int], names: list[str]) -> None:
        panel = self.panel
        used = panel.nobs - self._count_effects() - len(kept)
        if not kept:
            what = listing(names) if names else "there is none"
            raise IdentificationError(
                f"the effects absorb every regressor ({what}): none varies once they "
                "are removed. Use random effects, or a regressor that varies within "
                f"{panel.entity_name}"
            )
        if used <= 0:
            raise IdentificationError(
                f"{panel.nobs} observations cannot estimate {self._count_effects()} "
                f"effects, {len(kept)} coefficients and a variance; use fewer "
                "regressors or random effects"
            )

    def _count_effects(self) -> int:
        panel = self.panel
        counts = {
            "entity": panel.n_entities,
            "time": panel.n_periods,
            "twoways": panel.n_entities + panel.n_periods - 1,
        }
        return counts[self.effects]

    def _notes(
        self, absorbed: list[int], collinear: list[int], slopes: NDArray[np.intp]
    ) -> tuple[str, ...]:
        panel = self.panel
        notes = []
        names = [panel.names[slopes[j]] for j in absorbed]
        if names:
            where = {
                "entity": f"does not vary within {panel.entity_name}",
                "time": f"does not vary within {panel.time_name}",
                "twoways": "does not vary once both effects are removed",
            }[self.effects]
            plural = len(names) > 1
            where = where.replace("does", "do") if plural else where
            notes.append(
                f"Absorbed by the effects, without a coefficient: {', '.join(names)} "
                f"({where})."
            )
        names = [panel.names[slopes[j]] for j in collinear]
        if names:
            notes.append(
                f"Without a coefficient: {', '.join(names)}, collinear with the other "
                "regressors once the effects are removed."
            )
        if self.effects != "time":
            notes += singleton_notes(
                panel,
                "say nothing about the slopes, but are counted in the numbers of "
                "observations and entities",
            )
        return tuple(notes)


def remove_effects(
    panel: PanelData, values: FloatArray, effects: tuple[str, ...]
) -> FloatArray:
    """
    Least-squares residuals of columns on the dummies of the effects.

    Parameters
    ----------
    panel : PanelData
    values : ndarray, shape (n, k)
        In sorted order.
    effects : tuple of str
        ``("entity",)``, ``("time",)`` or ``("entity", "time")``.

    Returns
    -------
    ndarray, shape (n, k)
    """
    if effects == ("entity",):
        return panel.demean(values)
    if effects == ("time",):
        return values - panel.time_means(values)[panel.time]
    if panel.is_balanced:
        out = panel.demean(values)
        return out - panel.time_means(out)[panel.time]
    out = np.empty_like(values)
    for j in range(values.shape[1]):
        entity, time = two_way_effects(panel, values[:, j])
        out[:, j] = values[:, j] - panel.spread_out(entity) - time[panel.time]
    return out


def _faint(before: FloatArray, after: FloatArray) -> NDArray[np.bool_]:
    total = np.sqrt(np.einsum("ij,ij->j", before, before))
    left = np.sqrt(np.einsum("ij,ij->j", after, after))
    return left < _FAINT * total


def _f_statistic(test: Any) -> tuple[float, float, float] | None:
    """Statistic and degrees of freedom; None if linearmodels has no test."""
    if getattr(test, "df_denom", None) is None:
        return None
    return float(test.stat), float(test.df), float(test.df_denom)


def _memory(panel: PanelData, effects: tuple[str, ...]) -> dict[str, Any]:
    """Choose linearmodels' two-way algorithm without its warning."""
    if len(effects) < 2:
        return {}
    small = min(panel.n_entities, panel.n_periods)
    return {"low_memory": 8 * small * panel.nobs > 2**30}


def _with_level(
    panel: PanelData,
    columns: NDArray[np.intp],
    position: int,
    params: FloatArray,
    cov: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Turn the intercept of centred columns into that of the columns themselves."""
    level = panel.x[0, columns[position]]
    slopes = np.arange(len(columns)) != position
    back = np.eye(len(columns))
    back[position, slopes] = -panel.x[:, columns[slopes]].mean(axis=0)
    back[position] /= level
    return back @ params, back @ cov @ back.T
