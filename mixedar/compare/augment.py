"""
The rows of a fit with fitted values and residuals beside them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mixedar._lazy import with_near_names
from mixedar._types import unwrapped
from mixedar.by_group import ByGroupResults
from mixedar.compare.frames import read
from mixedar.data.rows import as_frame
from mixedar.exceptions import LengthError, UnsupportedError
from mixedar.mixed import MixedLMARResults
from mixedar.panel.results import PanelResults


@with_near_names
def augment(fit: object, data: object = None) -> pd.DataFrame:
    """
    The rows that a model was fitted to, with fitted values and residuals.

    Parameters
    ----------
    fit : results
        Of mixedar (mixed models, all panel estimators and `by_group`), or of
        statsmodels' least squares, GEE and MixedLM.
    data : DataFrame, optional
        Rows to put the columns beside, matched by their labels; those of the fit by
        default: of a model from a formula all columns of the rows used, else response
        and regressors.

    Returns
    -------
    DataFrame
        One row an observation, in the caller's order.  After the columns of the data
        come those of broom: ``.fitted`` (random effects, or estimated effects,
        included), ``.resid`` (response less ``.fitted``) and ``.fixed`` (fitted values
        of the population); of mixed models ``.std.resid`` (divided by their standard
        deviations) and ``.normalized`` (whitened too: without correlation if the
        model is right).  Rows of `data` that the fit does not have are missing, and
        of first differences the first row of an entity.  Of ``between`` a row is an
        entity.

    Raises
    ------
    NotComputedError
        If the data were removed from the fit.
    UnsupportedError
        If `fit` is not such a result, or labels occur twice.
    LengthError
        If no label of `data` is one of the fit's.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> rows = mar.augment(model.fit())
    >>> rows.columns[-5:].tolist()
    ['.fitted', '.resid', '.fixed', '.std.resid', '.normalized']
    >>> float((rows["distance"] - rows[".fitted"] - rows[".resid"]).abs().max())
    0.0
    """
    inner = unwrapped(fit)
    if isinstance(inner, MixedLMARResults):
        rows, found = _mixed(inner)
    elif isinstance(inner, PanelResults):
        rows, found = _panel(inner)
    elif isinstance(inner, ByGroupResults):
        rows, found = _by_group(inner)
    else:
        rows, found = _foreign(fit)
    if data is not None:
        table = as_frame(data)
        return pd.concat([table, _aligned(found, table.index)], axis=1)
    if not found.index.equals(rows.index):
        found = _aligned(found, rows.index)
    return pd.concat([rows.drop(columns=list(found), errors="ignore"), found], axis=1)


def _aligned(found: pd.DataFrame, index: pd.Index) -> pd.DataFrame:
    """The new columns at the labels of other rows."""
    if found.index.equals(index):
        return found
    if found.index.has_duplicates or index.has_duplicates:
        raise UnsupportedError(
            "augment: rows are matched by their labels, and some label occurs twice; "
            "use data.reset_index(drop=True) before the fit"
        )
    if not len(found.index.intersection(index)):
        raise LengthError(
            "augment: no label of data= is a label of the fit's rows; pass the data "
            "that were fitted, with their index"
        )
    return found.reindex(index)


def _columns(index: pd.Index, **values: ArrayLike) -> pd.DataFrame:
    """Columns named as broom's."""
    names = {key: f".{key.replace('_', '.')}" for key in values}
    columns = {names[key]: np.asarray(value) for key, value in values.items()}
    return pd.DataFrame(columns, index=index)


def _mixed(fit: MixedLMARResults) -> tuple[pd.DataFrame, pd.DataFrame]:
    own, data = fit.fit, fit.fit.data
    index = data.row_index
    rows = data.frame
    if rows is None:
        rows = pd.DataFrame(data.exog, index, list(own.exog_names))
        rows.insert(0, data.endog_name, data.endog)
    found = _columns(
        index,
        fitted=own.fittedvalues,
        resid=own.resid,
        fixed=own.fitted_marginal,
        std_resid=own.residuals("pearson"),
        normalized=own.residuals("normalized"),
    )
    return rows.set_axis(index), found


def _panel(fit: PanelResults) -> tuple[pd.DataFrame, pd.DataFrame]:
    fitted = fit.fittedvalues
    found = _columns(
        fitted.index, fitted=fitted, resid=fit.resid, fixed=fit.fitted_marginal
    )
    if fit.kind == "between":
        return pd.DataFrame(index=fitted.index), found
    rows, panel = getattr(fit.model, "frame", None), fit.panel
    if rows is None:
        rows = pd.DataFrame(panel.series(panel.y, fit.endog_name))
        for name, column in zip(panel.names, panel.x.T, strict=True):
            rows[name] = panel.series(column, name)
    return rows, found


def _by_group(fit: ByGroupResults) -> tuple[pd.DataFrame, pd.DataFrame]:
    model, index = fit.model, fit.fittedvalues.index
    rows = pd.DataFrame(model.exog, index, list(model.exog_names))
    rows.insert(0, model.endog_name, model.endog)
    labels = np.asarray(model.labels, dtype=object)[model.codes]
    rows.insert(0, str(model.groups_name), labels)
    return rows, _columns(index, fitted=fit.fittedvalues, resid=fit.resid)


def _foreign(fit: object) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Results of statsmodels."""
    read(fit, "augment: fit")  # says what is accepted
    fitted, resid = (getattr(fit, name, None) for name in ("fittedvalues", "resid"))
    data = getattr(getattr(fit, "model", None), "data", None)
    if fitted is None or resid is None or data is None:
        raise UnsupportedError(
            f"augment: results of type {type(fit).__name__} have no fitted values and "
            "residuals by row; pass results of mixedar or statsmodels"
        )
    index = getattr(data, "row_labels", None)
    if index is None:
        index = pd.RangeIndex(len(np.asarray(fitted)))
    rows = getattr(data, "frame", None)
    if rows is None or len(rows) != len(index):
        rows = pd.DataFrame(np.asarray(data.exog), index, list(data.xnames))
        rows.insert(0, str(data.ynames), np.asarray(data.endog))
    return rows, _columns(pd.Index(index), fitted=fitted, resid=resid)
