"""
Responses drawn from a fitted model, with all of its correlation, and what their
residuals look like.

Fitted values contain predicted random effects, which come from the same errors
as the residuals: a smooth line through residuals against them rises or falls even
if the model is true.  So such lines come with what they do in drawn responses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, Seed
from mixedar.data.variables import data_column, picture_rows, plottable
from mixedar.diagnostics.residuals.normalized import (
    NormalizedResiduals,
    normalized_residuals,
    relative_row_sd,
)
from mixedar.engine.residuals import correlated_residuals
from mixedar.engine.rows import GroupedRows
from mixedar.exceptions import StructureError, UnsupportedError, check_choice
from mixedar.fit import Fit
from mixedar.fit.responses import StatedParameters
from mixedar.inference.arguments import generator, understands
from mixedar.numeric.linalg import product
from mixedar.plotting import smooth_line
from mixedar.prediction.new_rows import NewRows, fitted_rows
from mixedar.prediction.simulated_rows import rows_to_simulate

# Numbers drawn at a time: what stays in cache, more or less.
_AT_ONCE = 2_000_000
# A table of more is refused (16 GiB).
_MOST_NUMBERS = 2**31
# Up to so many random effects a column at a time; above, group by group.
_FEW_EFFECTS = 12
# Residuals in pictures are drawn from the same stream every time.
_SEED = 0


@understands(seed="rng")
def simulate(
    fit: Fit,
    n_sim: int = 1,
    rng: Seed = None,
    newdata: Any = None,
    groups: str = "new",
    params: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """
    Draw responses from the fitted model.

    Fixed effects, variances and residual parameters are those of the fit, but for
    what `params` says: the power of a test of an effect of stated size is the share of
    draws that it rejects.

    Parameters
    ----------
    fit : Fit
    n_sim : int
        Number of data sets.
    rng : int, SeedSequence or Generator, optional
        The same seed gives the same draws; the first of them do not depend on
        `n_sim`.  A Generator is advanced.
    newdata : DataFrame, optional
        Rows for which to draw, for models from formulas: the columns of all
        formulas, groups, times and series.  The rows of the fit by default.
    groups : {"new", "conditional"}
        Draw the random effects of every group anew, or take those that were
        predicted from the data.  Residuals are drawn in both cases.
    params : mapping of str to float, optional
        Values to draw at, by the names of ``fit.params`` and ``"scale"``; a Series
        such as ``fit.params`` will do.  Variances and covariances are on their own
        scale, not divided by ``scale``.

    Returns
    -------
    DataFrame, shape (n, n_sim)
        The index of the data, or of `newdata`; a column a data set.

    Raises
    ------
    UnsupportedError
        For options that are not known, and `params` that are not possible.
    UnknownColumnError
        For a name in `params` that the model does not have.
    NotComputedError
        If the data were removed from the fit.
    MixedARError
        For `newdata` that do not suit the fit, and with
        ``groups="conditional"`` for groups that are not in it.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm("distance ~ age * sex", teeth, groups="subject").fit()
    >>> draws = fit.simulate(50, rng=1, params={"age:sex[T.Male]": 0.3})
    >>> refits = fit.refit_many(draws)
    >>> power = (refits.pvalues["age:sex[T.Male]"] < 0.05).mean()
    """
    n_sim = check_simulations(n_sim)
    known = check_groups(groups)
    if newdata is None:
        rows = fitted_rows(fit.data)
    else:
        rows = rows_to_simulate(fit, newdata, known)
    if len(rows.exog) * n_sim > _MOST_NUMBERS:
        raise UnsupportedError(
            f"n_sim={n_sim} responses of {len(rows.exog)} rows do not fit into memory; "
            "draw them in parts, each with a seed of its own"
        )
    out = np.empty((len(rows.exog), n_sim), order="F")
    done = 0
    at = StatedParameters.of(fit, params)
    for block in draw_responses(fit, rows, n_sim, generator(rng), known, at):
        out[:, done : done + block.shape[1]] = block
        done += block.shape[1]
    columns = pd.RangeIndex(n_sim, name="simulation")
    return pd.DataFrame(out, index=rows.index, columns=columns, copy=False)


def check_simulations(n_sim: int, least: int = 1) -> int:
    """Return `n_sim` if it is a number of data sets, at least 1 or 0."""
    whole = isinstance(n_sim, (int, np.integer)) and not isinstance(n_sim, bool)
    if not whole or n_sim < least:
        what = "a positive whole number" if least else "a number of simulations"
        raise UnsupportedError(f"n_sim={n_sim!r} is not {what}")
    return int(n_sim)


def check_groups(groups: object) -> bool:
    """Whether random effects are those predicted: ``"conditional"``."""
    check_choice("groups", groups, ("new", "conditional"))
    return bool(groups == "conditional")


def draw_responses(
    fit: Fit,
    rows: NewRows,
    n_sim: int,
    rng: np.random.Generator,
    known: bool,
    at: StatedParameters,
) -> Iterator[FloatArray]:
    """
    Data sets of responses in the caller's order, some at a time: shape (n, some).

    Each takes its random effects (those predicted if `known`) and residuals from
    the stream before the next one does.
    """
    n = len(rows.exog)
    mean = rows.exog @ at.fe_params + rows.offset
    if known:
        effects = fit.effects.means[rows.codes]
        mean = mean + np.einsum("ij,ij->i", rows.exog_re, effects)
    if rows.terms is not None:
        kept = rows.terms if known else rows.terms.without_levels()
        mean = mean + kept.mean(kept.effects(fit) if known else fit.term_effects)
    drawn = None if known else rows.terms
    root = np.empty((0, 0)) if known else _root(at, rows.sizes)
    q = len(root)
    per_set = rows.n_groups * q + n
    per_set += 0 if drawn is None else drawn.n_effects
    together = max(min(_AT_ONCE // per_set, n_sim), 1)
    for first in range(0, n_sim, together):
        count = min(together, n_sim - first)
        draws = rng.standard_normal((count, per_set))
        start = rows.n_groups * q
        noise = np.ascontiguousarray(draws[:, start : start + n].T)
        assert rows.grouped is not None
        out = _errors(fit, at, noise, rows.grouped)
        out += mean[:, None]
        if q:
            b = draws[:, : rows.n_groups * q].reshape(count, rows.n_groups, q)
            _add_effects(out, rows, b @ root.T)
        if drawn is not None:
            drawn.add(out, draws[:, start + n :], at.term_roots, at.relation_params)
        yield out


def _root(at: StatedParameters, sizes: tuple[int, ...]) -> FloatArray:
    """A root of the covariance of all random effects of a group."""
    k = len(at.root)
    root = np.zeros((k + sum(sizes),) * 2)
    root[:k, :k] = at.root
    deviations = np.repeat(np.sqrt(at.vcomp), sizes)
    diagonal = np.arange(k, len(root))
    root[diagonal, diagonal] = deviations
    return root


def _errors(
    fit: Fit, at: StatedParameters, noise: FloatArray, grouped: GroupedRows
) -> FloatArray:
    """Residuals with their variance and correlation, shape (n, k)."""
    try:
        errors = correlated_residuals(
            grouped.sort(noise), grouped, fit.structure, at.residual_params
        )
    except np.linalg.LinAlgError as error:
        raise StructureError(
            f"{fit.structure.label} residuals: the correlations of the fit are not "
            "possible for so many rows of a series; draw series of the data's length"
        ) from error
    return grouped.unsort(np.sqrt(at.scale) * errors)


def _add_effects(out: FloatArray, rows: NewRows, b: FloatArray) -> None:
    """Add ``z b`` of each row's group; `b` has the shape (k, groups, q)."""
    q = b.shape[2]
    if q <= _FEW_EFFECTS:
        for a in range(q):
            column = np.ascontiguousarray(b[:, :, a].T)
            out += rows.exog_re[:, a : a + 1] * column[rows.codes]
        return
    order = np.argsort(rows.codes, kind="stable")
    edges = np.searchsorted(rows.codes[order], np.arange(rows.n_groups + 1))
    for i in range(rows.n_groups):
        here = order[edges[i] : edges[i + 1]]
        out[here] += rows.exog_re[here] @ b[:, i].T


def simulated_residuals(
    fit: Fit,
    residuals: NormalizedResiduals,
    count: int,
    rng: np.random.Generator,
    kind: str,
) -> tuple[FloatArray, FloatArray]:
    """Residuals and fitted values of drawn responses, shape (n, count) each."""
    rows = residuals.rows
    q, m = residuals.z.shape[1], len(residuals.clusters)
    white = rng.standard_normal((residuals.n, count))  # L^-1 (y - X beta) / sigma
    if q:
        root = residuals.effects.factor
        effects = np.einsum("ab,bik->aik", root, rng.standard_normal((q, m, count)))
        for a in range(q):
            white += residuals.z[:, a : a + 1] * effects[a][residuals.clusters.codes]
    left = residuals.shrink(white)
    left -= product(residuals.f, product(residuals.f.T, white))
    fitted = np.sqrt(fit.scale) * _correlated(fit, residuals, white - left)
    fitted += rows.sort(fit.fitted_fixed)[:, None]
    if kind != "normalized":
        left = _correlated(fit, residuals, left)
    if kind == "pearson":
        left /= relative_row_sd(fit, rows)[:, None]
    if kind == "raw":
        left *= np.sqrt(fit.scale)
    return rows.unsort(left), rows.unsort(fitted)


def _correlated(fit: Fit, residuals: NormalizedResiduals, x: FloatArray) -> FloatArray:
    """Columns multiplied by the Cholesky factor of each series' R."""
    x = correlated_residuals(
        residuals.to_grouped(x), residuals.grouped, fit.structure, fit.residual_params
    )
    return residuals.from_grouped(x)


def residual_frame(
    fit: Fit, x: Any = "fitted", kind: str = "normalized"
) -> pd.DataFrame:
    """
    Residuals beside what they are drawn against.

    Parameters
    ----------
    fit : Fit
    x : str or array_like, shape (n,)
        ``"fitted"``, the fitted values; ``"mean"``, ``X beta``; ``"time"``, if the
        model has one;
        ``"groups"``; a column of the data; or values.
    kind : {"normalized", "pearson", "raw"}

    Returns
    -------
    DataFrame, shape (n, 2)
        The first column has the name of its axis, and is of numbers, dates or
        categories; the second is ``"residual"``.
    """
    name, values = _against(fit, x)
    frame = pd.DataFrame({"x": values, "residual": fit.residuals(kind)})
    return frame.set_axis([name, "residual"], axis=1)


def _against(fit: Fit, x: Any) -> tuple[str, Any]:
    """Name of a horizontal axis, and what stands on it."""
    data = fit.data
    if isinstance(x, str):
        column = data.frame is not None and x in data.frame.columns
        if x == data.groups_name or (x == "groups" and not column):
            labels = [str(one) for one in data.group_labels]
            name = "group" if data.formula is None else data.groups_name
            return name, _categories(data.codes, labels)
        if x == "fitted" and not column:
            return FITTED_VALUES, fit.fittedvalues
        if x == "mean" and not column:
            return "Fitted mean", fit.fitted_marginal
        if x == "time" and not column:
            if data.time is None:
                raise UnsupportedError(
                    "x='time': the model has no time=; name a column of the data, "
                    "or take x='fitted'"
                )
            rows = picture_rows(data)
            return rows.x_label, _categories(rows.x, rows.ticks)
    found = data_column(data, x, "x")
    values, ticks, unit = plottable(found)
    named = x if isinstance(x, str) else found.name
    return f"{'x' if named is None else named}{unit}", _categories(values, ticks)


def _categories(values: Any, ticks: list[str] | None) -> Any:
    if ticks is None:
        return values
    return pd.Categorical.from_codes(values.astype(np.intp), pd.Index(ticks))


#: The axis of fitted values, which move from draw to draw.
FITTED_VALUES = "Fitted values"


def residual_trend(
    fit: Fit, frame: pd.DataFrame, kind: str = "normalized", n_sim: int = 39
) -> pd.DataFrame | None:
    """
    Local mean and deviation of residuals, and where they lie under the model.

    Parameters
    ----------
    fit : Fit
    frame : DataFrame
        Of :func:`residual_frame`.
    kind : {"normalized", "pearson", "raw"}
        As there.
    n_sim : int
        Number of drawn responses (always the same ones): of 39, a line leaves
        the band at a point with probability 1 in 20.  Without bands if 0.

    Returns
    -------
    DataFrame or None
        The index is the position; ``mean``, and ``upper`` and ``lower``, twice the
        local standard deviation on either side; with ``_min`` and ``_max`` the
        extremes of each in the draws.  None if the first column has no numbers.
    """
    n_sim = check_simulations(n_sim, least=0)
    if not pd.api.types.is_numeric_dtype(frame.dtypes.iloc[0]):
        return None
    x, y = (frame.iloc[:, k].to_numpy(dtype=np.float64) for k in range(2))
    where, lines = _local_lines(x, y, None)
    names = ["mean", "upper", "lower"]
    out = dict(zip(names, lines, strict=True))
    if n_sim and len(where) > 1:
        residuals, rng = normalized_residuals(fit), np.random.default_rng(_SEED)
        moving = frame.columns[0] == FITTED_VALUES
        drawn = []
        together = max(min(4_000_000 // len(y), n_sim), 1)
        for first in range(0, n_sim, together):
            count = min(together, n_sim - first)
            others, fitted = simulated_residuals(fit, residuals, count, rng, kind)
            drawn += [
                _local_lines(fitted[:, k] if moving else x, others[:, k], where)[1]
                for k in range(count)
            ]
        for name, low, high in zip(
            names, np.min(drawn, axis=0), np.max(drawn, axis=0), strict=True
        ):
            out |= {f"{name}_min": low, f"{name}_max": high}
    return pd.DataFrame(out, index=pd.Index(where, name=frame.columns[0]))


def _local_lines(
    x: FloatArray, y: FloatArray, where: FloatArray | None
) -> tuple[FloatArray, FloatArray]:
    """Places, and the lines there: mean, and twice the deviation on either side."""
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    places, mean = smooth_line(x, y)
    if len(places) < 2:
        return places, np.empty((3, len(places)))
    rest = (y - np.interp(x, places, mean)) ** 2
    square = np.interp(places, *smooth_line(x, rest))
    half = 2.0 * np.sqrt(np.maximum(square, 0.0))
    lines = np.stack([mean, mean + half, mean - half])
    if where is None:
        return places, lines
    return where, np.stack([np.interp(where, places, line) for line in lines])
