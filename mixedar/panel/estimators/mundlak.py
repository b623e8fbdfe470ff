"""
Correlated random effects: means of the entities among the regressors.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.data.formula import capture_namespace
from mixedar.exceptions import IdentificationError, UnsupportedError
from mixedar.numeric.linalg import pivoted_rank
from mixedar.panel.checks import listing
from mixedar.panel.data import PanelData
from mixedar.panel.estimators.base import PanelModel
from mixedar.panel.estimators.random_effects import RandomEffects
from mixedar.panel.estimators.simple import PooledOLS


@dataclass(frozen=True, eq=False)
class MundlakDesign:
    """
    A design with the means of the entities.

    Attributes
    ----------
    x : ndarray, shape (n, p + m)
        The columns of the panel, then the means, in sorted order.
    names : tuple of str
        Names of the columns; a mean is called ``mean(NAME)``.
    means : tuple of str
        Names of the means that were added.
    varying : tuple of str
        The regressors they belong to.
    without : tuple of str
        Regressors without a mean of their own: constant within entities, or with
        means that follow from the other columns.
    """

    x: FloatArray
    names: tuple[str, ...]
    means: tuple[str, ...]
    varying: tuple[str, ...]
    without: tuple[str, ...]


def mundlak_design(panel: PanelData, within: bool = False) -> MundlakDesign:
    """
    Add the means of the entities to a design.

    Parameters
    ----------
    panel : PanelData
        Rows with missing values are gone: means are those of the rows used.
    within : bool
        Replace the regressors themselves by their deviations from these means.

    Returns
    -------
    MundlakDesign

    Raises
    ------
    IdentificationError
        If no mean can be added.

    References
    ----------
    Mundlak, Y. (1978), On the pooling of time series and cross section data,
    Econometrica 46, 69-85.
    """
    x, constant = panel.x, panel.constant
    slopes = [j for j in range(x.shape[1]) if j != constant]
    grand = x[:, slopes].mean(axis=0)
    centred = x[:, slopes] - grand
    means = panel.entity_means(centred)
    deviations = centred - panel.spread_out(means)
    total = np.sqrt(np.einsum("ij,ij->j", centred, centred))
    left = np.sqrt(np.einsum("ij,ij->j", deviations, deviations))
    varies = left > 1e-9 * total
    # a mean counts if it is no combination of the invariant columns and the means
    # before it; all of them are constant within entities
    fixed = [] if constant is None else [np.ones(panel.n_entities)]
    fixed += [means[:, k] for k in range(len(slopes)) if not varies[k]]
    added: list[int] = []
    for k in np.flatnonzero(varies):
        spread = np.sqrt((panel.sizes * means[:, k] ** 2).sum())
        if spread <= 1e-9 * total[k]:
            continue
        trial = np.column_stack([*fixed, *(means[:, i] for i in added), means[:, k]])
        trial /= np.maximum(np.sqrt(np.einsum("ij,ij->j", trial, trial)), 1e-300)
        factor: FloatArray = np.linalg.qr(trial, mode="r")  # type: ignore[assignment]
        if trial.shape[1] - 1 not in pivoted_rank(factor, 1e-9)[1]:
            added.append(int(k))
    names = [panel.names[j] for j in slopes]
    if not added:
        raise IdentificationError(
            "no mean of the entities can be added: no regressor varies both within and "
            f"between {panel.entity_name} ({listing(names)})"
        )
    out = x.copy()
    if within:
        columns = [slopes[k] for k in added]
        out[:, columns] = deviations[:, added]
    spread_means = panel.spread_out(means[:, added]) + grand[added]
    labels = tuple(f"mean({names[k]})" for k in added)
    return MundlakDesign(
        x=np.column_stack([out, spread_means]),
        names=(*panel.names, *labels),
        means=labels,
        varying=tuple(names[k] for k in added),
        without=tuple(names[k] for k in range(len(names)) if k not in added),
    )


def mundlak(
    formula: str,
    data: Any,
    entity: Any = None,
    time: Any = None,
    *,
    model: str = "re",
    subset: Any = None,
    missing: str = "none",
    eval_env: Any = None,
    **options: Any,
) -> Any:
    """
    Random effects with the means of the entities as further regressors.

    The coefficients of the regressors are then those of fixed effects, while
    time-invariant regressors keep a coefficient; that the means have none is what a
    Hausman test tests.

    Parameters
    ----------
    formula : str
        Response and regressors; ``mean(NAME)`` is added for each column of the
        design that varies within and between entities.
    data : DataFrame
    entity, time : str or array_like, optional
        Columns of entities and times, as for the other panel models.
    model : {"re", "pooled", "mixed"}
        Random effects, pooled least squares (to be clustered), or a mixed model
        with AR(1) residuals.
    subset, missing, eval_env
        As for the other panel models.  Means are taken after rows are dropped.
    **options
        For ``model="mixed"`` arguments of ``MixedLMAR`` (``residual``, ``exog_re``,
        ...); its random effect is an intercept by default.

    Returns
    -------
    RandomEffects, PooledOLS or MixedLMAR
        To be fitted; ``means`` holds the names of the means.

    Raises
    ------
    MixedARError
        For data that cannot be used.
    """
    return _augmented(
        False, formula, data, entity, time, model, subset, missing, eval_env, options
    )


def within_between(
    formula: str,
    data: Any,
    entity: Any = None,
    time: Any = None,
    *,
    model: str = "re",
    subset: Any = None,
    missing: str = "none",
    eval_env: Any = None,
    **options: Any,
) -> Any:
    """
    Random effects with within and between coefficients.

    The model of :func:`mundlak` with ``x - mean(x)`` in place of ``x``: the
    coefficient of ``mean(x)`` is then the between effect itself.

    Parameters
    ----------
    formula, data, entity, time, model, subset, missing, eval_env, **options
        As in :func:`mundlak`.

    Returns
    -------
    RandomEffects, PooledOLS or MixedLMAR
        To be fitted.

    Raises
    ------
    MixedARError
        For data that cannot be used.
    """
    return _augmented(
        True, formula, data, entity, time, model, subset, missing, eval_env, options
    )


def _augmented(
    within: bool,
    formula: str,
    data: Any,
    entity: Any,
    time: Any,
    model: str,
    subset: Any,
    missing: str,
    eval_env: Any,
    options: dict[str, Any],
) -> Any:
    if model not in ("re", "pooled", "mixed"):
        raise UnsupportedError(f"model={model!r}: choose 're', 'pooled' or 'mixed'")
    if eval_env is None:
        eval_env = capture_namespace()
    elif isinstance(eval_env, int) and eval_env >= 0:
        eval_env = capture_namespace(eval_env + 2)
    cls: type[PanelModel] = PooledOLS if model == "pooled" else RandomEffects
    base = cls.from_formula(
        formula,
        data,
        entity,
        time,
        subset=subset,
        missing=missing,
        eval_env=eval_env,
        **({} if model == "mixed" else options),
    )
    design = mundlak_design(base.panel, within)
    if model == "mixed":
        return _mixed(base, design, options)
    base.panel = dataclasses.replace(base.panel, x=design.x, names=design.names)
    # new rows come with their means: the formula alone does not give the design
    base.formula_spec = None
    base.means = design.means  # type: ignore[attr-defined]
    return base


def _mixed(base: PanelModel, design: MundlakDesign, options: dict[str, Any]) -> Any:
    """The augmented design as a mixed model, rows in the caller's order."""
    from mixedar.mixed import MixedLMAR

    panel = base.panel
    exog = pd.DataFrame(
        panel.unsort(design.x), index=panel.index, columns=list(design.names)
    )
    arguments = {"time": panel.unsort(panel.times) if panel.has_time else None}
    groups = panel.entity_labels[panel.unsort(panel.entity)]
    model = MixedLMAR(
        panel.series(panel.y, panel.endog_name),
        exog,
        groups=pd.Series(groups, index=panel.index, name=panel.entity_name),
        **{**arguments, **options},
    )
    model.means = design.means
    return model
