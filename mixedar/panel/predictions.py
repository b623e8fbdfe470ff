"""
Predictions of panel fits and their errors, with and without estimated effects.

Under fixed effects the prediction ``x b + a_i + g_t`` is that of the regression with
dummies, whose variance falls into two parts: of the slopes, at the distance of ``x``
from what the effects explain of it, and of the effects themselves.  Under random
effects it is the best linear unbiased predictor (Goldberger, 1962, Journal of the
American Statistical Association 57, 369-375).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.data.formula import FormulaSpec
from mixedar.data.rows import as_frame
from mixedar.data.survey import kept_together
from mixedar.exceptions import (
    GroupError,
    MixedARError,
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
    shown,
)
from mixedar.panel.algebra import connected_parts
from mixedar.panel.data import PanelData
from mixedar.panel.estimate import ESTIMATORS, Effects, PanelEstimate
from mixedar.panel.summed import SummedPanel
from mixedar.prediction.results import PredictionResults
from mixedar.streams import Source


@dataclass(frozen=True, eq=False)
class Rows:
    """
    Rows to predict.

    Attributes
    ----------
    x : ndarray, shape (m, p)
        Regressors of the model.
    labels : Index
    entity, time : ndarray of int, shape (m,)
        Numbers of entities and periods, -1 for what the fit does not know.
    """

    x: FloatArray
    labels: pd.Index
    entity: IntArray
    time: IntArray


def panel_rows(panel: PanelData) -> Rows:
    """The rows of the fit, in the caller's order."""
    order = panel.unsort(np.arange(panel.nobs))
    return Rows(panel.x[order], panel.index, panel.entity[order], panel.time[order])


def known(
    panel: PanelData, exog: object, effects: tuple[str, ...], count: int
) -> tuple[IntArray, IntArray]:
    """Numbers of the entities and periods of new rows, found in columns or index."""
    found = {}
    table = exog if isinstance(exog, (np.ndarray, list)) else as_frame(exog)
    for effect, name in (("entity", panel.entity_name), ("time", panel.time_name)):
        if effect not in effects:
            continue
        labels = panel.entity_labels if effect == "entity" else panel.time_labels
        if isinstance(table, pd.DataFrame) and name in table.columns:
            values = pd.Index(np.asarray(table[name]))
        elif isinstance(table, pd.DataFrame) and name in table.index.names:
            values = table.index.get_level_values(name)
        else:
            raise UnknownColumnError(
                f"effects=True needs the column {name!r} of each row, which names its "
                f"{'entity' if effect == 'entity' else 'period'}; pass a DataFrame "
                "with it, or leave out effects=True"
            )
        found[effect] = pd.Index(labels).get_indexer(values)
        kinds = [pd.api.types.infer_dtype(each) for each in (labels, values)]
        text = [kind in ("string", "mixed") for kind in kinds]
        if (found[effect] < 0).all() and len(values) and text[0] != text[1]:
            raise GroupError(
                f"the labels in {name!r} are {kinds[1]} ({shown(values[0])}), those of "
                f"the fit are {kinds[0]} ({shown(labels[0])}): none is known; convert "
                "the column"
            )
    nowhere = np.full(count, -1)
    return found.get("entity", nowhere), found.get("time", nowhere)


def predicted_frames(
    panel: PanelData,
    estimate: PanelEstimate,
    spec: FormulaSpec | None,
    source: Source,
    effects: bool,
) -> Iterator[pd.DataFrame]:
    """
    Predictions of the rows of a source, batch by batch.

    With `effects` entities are read whole, and their effects are those that their
    responses tell; the fit is one of a source.  `spec` is that of the regressors.
    """
    reader = panel.reader if isinstance(panel, SummedPanel) else None
    if spec is None or (effects and reader is None):
        raise UnsupportedError(
            "predict(source) is of models by formulas, with effects=True of those that "
            "were fitted to a source; predict frames"
        )
    if effects:
        check_effects(estimate)
    names = [panel.entity_name, panel.time_name]
    names = [name for name in names if name in source.columns]
    read = list(dict.fromkeys([*names, *spec.variables]))
    if reader is not None and effects:
        source, read = kept_together(source, panel.entity_name), list(reader.columns)
    source.check_columns(read)

    def frames() -> Iterator[pd.DataFrame]:
        for table in source.frames(read, panel.entity_name if effects else None):
            if reader is None or not effects:
                x = spec.matrix(table)[:, estimate.columns]
                found = pd.Series(x @ estimate.params, table.index)
            else:
                found = reader.fitted(table, estimate)
            yield table.loc[found.index, names].assign(predicted=found)

    return frames()


def predictions(
    panel: PanelData, estimate: PanelEstimate, rows: Rows, df: FloatArray, effects: bool
) -> PredictionResults:
    """
    Predictions of rows, with their effects if wanted.

    `df` are degrees of freedom of each row.  Rows of unknown entities or periods are
    NaN under fixed effects; under random effects they have no effect, and the
    variance of one.
    """
    x = rows.x[:, estimate.columns]
    mean, notes = x @ estimate.params, []
    lacking: MixedARError | None = None
    if not effects:
        variance = _quadratic(x, estimate.cov)
        resid, lacking = _of_an_observation(estimate)
    else:
        check_effects(estimate)
        if estimate.info.cov_type not in ("classical", "observed"):
            raise UnsupportedError(
                "get_prediction(effects=True): the errors of effects are those of "
                f"independent rows, and cov_type={estimate.info.cov_type!r} says "
                "nothing about them; fit with cov_type='classical', or use "
                "predict(exog, effects=True)"
            )
        if estimate.kind.endswith("_ar1"):
            raise UnsupportedError(
                "get_prediction(effects=True) is not defined here for fits with AR(1) "
                "errors; use predict(exog, effects=True), or a mixed model"
            )
        mean = mean + effects_of(panel, estimate, rows)
        random = estimate.kind == "re"
        variance = (_random if random else _fixed)(panel, estimate, rows, x)
        notes = unknown_note(panel, estimate, rows)
        resid, lacking = float(estimate.sigma2_e or np.nan), None
    if panel.weights is not None and lacking is None:
        resid, lacking = (
            np.nan,
            NotComputedError(
                "the variance of an observation is not known, because the weights of "
                "new rows are not; there are standard errors of the mean (se_mean)"
            ),
        )
    return PredictionResults(
        predicted_mean=mean,
        var_pred_mean=variance,
        var_resid=np.full(len(mean), resid),
        df=df,
        row_labels=rows.labels,
        level="group" if effects else "population",
        notes=tuple(notes),
        lacking=lacking,
    )


def _quadratic(x: FloatArray, matrix: FloatArray) -> FloatArray:
    """``x_i' M x_i`` of each row, shape (m,)."""
    return np.asarray(((x @ matrix) * x).sum(axis=1))


def check_effects(estimate: PanelEstimate) -> None:
    """Refuse effects of estimators that have none."""
    if estimate.kind in ("pooled", "between", "fd"):
        raise UnsupportedError(
            f"effects=True: {ESTIMATORS[estimate.kind].words} has no estimated "
            "effects; use fixed_effects or random_effects"
        )


def effects_of(panel: PanelData, estimate: PanelEstimate, rows: Rows) -> FloatArray:
    """Estimated effects of rows, shape (m,)."""
    found, total = Effects.of(panel, estimate), np.zeros(len(rows.x))
    unknown = 0.0 if estimate.kind.startswith("re") else np.nan
    for values, codes in ((found.entity, rows.entity), (found.time, rows.time)):
        if values is not None:
            total = total + np.where(codes >= 0, values[codes], unknown)
    if found.entity is not None and found.time is not None:
        total[_apart(panel, rows)] = np.nan
    return total


def _apart(panel: PanelData, rows: Rows) -> BoolArray:
    """Whether effects of entity and period are compared nowhere, shape (m,)."""
    parts = connected_parts(panel.entity, panel.time)
    of_entity = parts[panel.offsets[:-1]]
    of_time = np.zeros(panel.n_periods, dtype=np.intp)
    of_time[panel.time] = parts
    both = (rows.entity >= 0) & (rows.time >= 0)
    return both & (of_entity[rows.entity] != of_time[rows.time])


def unknown_note(panel: PanelData, estimate: PanelEstimate, rows: Rows) -> list[str]:
    """Which rows have no effect of their own."""
    notes = []
    for effect, codes, name in (
        ("entity", rows.entity, panel.entity_name),
        ("time", rows.time, panel.time_name),
    ):
        count = int((codes < 0).sum()) if effect in estimate.effects else 0
        if count and estimate.kind.startswith("re"):
            notes.append(
                f"Rows of a {name} that the fit does not know: {count}; their effect "
                "is predicted as zero."
            )
        elif count:
            notes.append(
                f"No prediction for {count} rows of a {name} that the fit does not "
                "know."
            )
    if estimate.effects == ("entity", "time"):
        count = int(_apart(panel, rows).sum())
        if count:
            notes.append(
                f"No prediction for {count} rows whose {panel.entity_name} and "
                f"{panel.time_name} are in parts of the panel that share neither."
            )
    return notes


def _of_an_observation(
    estimate: PanelEstimate,
) -> tuple[float, MixedARError | None]:
    """Variance of an observation about ``x b``, or why there is none."""
    kind, between = estimate.kind, estimate.sigma2_u or 0.0
    if kind in ("pooled", "re") and estimate.sigma2_e is not None:
        return estimate.sigma2_e + between, None
    if kind == "re_ar1" and estimate.sigma2_e is not None:
        assert estimate.rho is not None
        return between + estimate.sigma2_e / (1.0 - estimate.rho**2), None
    what = {
        "between": "the regression is one of means",
        "fd": "the regression is one of differences",
    }.get(kind, "it holds the effect, which effects=True adds")
    return np.nan, NotComputedError(
        f"the variance of an observation about x b is not known: {what}; there are "
        "standard errors of the mean (se_mean)"
    )


def _random(
    panel: PanelData, estimate: PanelEstimate, rows: Rows, x: FloatArray
) -> FloatArray:
    """Mean squared error of ``x b + u``, variances as known, shape (m,)."""
    assert estimate.theta is not None
    assert estimate.sigma2_u is not None
    share = estimate.theta * (2.0 - estimate.theta)
    means = panel.entity_means(panel.x[:, estimate.columns])
    here = rows.entity >= 0
    part = np.where(here, share[rows.entity], 0.0)
    away = x - part[:, None] * means[rows.entity]
    slopes = _quadratic(away, estimate.cov)
    return slopes + estimate.sigma2_u * (1.0 - part)


def _fixed(
    panel: PanelData, estimate: PanelEstimate, rows: Rows, x: FloatArray
) -> FloatArray:
    """Variance of ``x b`` with fixed effects, that of the dummies, shape (m,)."""
    slopes = np.flatnonzero(estimate.columns != panel.constant)
    levels = panel.x[:, estimate.columns[slopes]]
    if estimate.effects == ("entity", "time"):
        entity, time = panel.two_way_effects(levels)
        explained = entity[rows.entity] + time[rows.time]
        leverage = _two_way_leverage(panel, rows)
    elif estimate.effects == ("time",):
        explained = panel.time_means(levels)[rows.time]
        leverage = 1.0 / np.bincount(panel.time, panel.weights)[rows.time]
    else:
        explained = panel.entity_means(levels)[rows.entity]
        leverage = 1.0 / panel.entity_weights[rows.entity]
    away = x[:, slopes] - explained
    cov = estimate.cov[np.ix_(slopes, slopes)]
    out = estimate.scale * leverage + _quadratic(away, cov)
    missing = (rows.entity < 0) & ("entity" in estimate.effects)
    missing |= (rows.time < 0) & ("time" in estimate.effects)
    if estimate.effects == ("entity", "time"):
        missing |= _apart(panel, rows)
    return np.where(missing, np.nan, out)


def _two_way_leverage(panel: PanelData, rows: Rows) -> FloatArray:
    """``d'(D'D)^- d`` of the dummies of entity and period, shape (m,)."""
    shares, gram = panel.period_products()
    inverse = np.asarray(np.linalg.pinv(gram), dtype=np.float64)
    away = np.eye(panel.n_periods)[rows.time] - shares[rows.entity].toarray()
    own = 1.0 / panel.entity_weights[rows.entity]
    return own + _quadratic(away, inverse)
