"""
Models compared by how well they predict rows that they were not fitted to.

A prediction is the normal distribution with the mean and the variance that
``get_prediction`` has for an observation, and is judged by proper scores, which no
other distribution than the true one improves (Gneiting and Raftery, 2007).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from scipy import stats
from scipy.linalg import block_diag

from mixedar._lazy import with_near_names
from mixedar._types import FloatArray, IntArray, Seed, unwrapped, without_mask
from mixedar.data.checks import check_labels
from mixedar.data.model_data import ModelData, reads_fitted
from mixedar.data.occasions import occasions_of
from mixedar.data.rows import Levels
from mixedar.data.time import time_column
from mixedar.data.vanishing import residual_covariance
from mixedar.exceptions import (
    LengthError,
    MissingDataError,
    MixedARError,
    NotComputedError,
    UnsupportedError,
    check_choice,
    check_flags,
    shown,
)
from mixedar.fit import Fit
from mixedar.inference.arguments import (
    check_count,
    generator,
    progress_bar,
    understands,
)
from mixedar.prediction.predict import get_prediction
from mixedar.selection import HasFit
from mixedar.summary import Printed, ResultFrame, ResultsSummary, SummaryTable

if TYPE_CHECKING:
    from typing_extensions import Self

# Scores of a row, and whether larger is better.
SCORES = {"log_score": True, "crps": False, "squared_error": False}
_JOINT = "joint_log_score"
_GROUPS, _TIMES = 10, 5
_LATER = "Or leave more times to fit: folds=[...], the times at which forecasts begin"


class Rebuilt(Protocol):
    """What is asked of a model that is fitted to parts of its rows."""

    arrays: ModelData

    def for_rows(self, frame: pd.DataFrame) -> Self:
        """The model of other rows."""

    def fit(self, *, collected: list[Warning], **options: Any) -> HasFit:
        """Estimate it."""


@dataclass(frozen=True)
class Fold:
    """Positions of the rows of a fit, and of those that it predicts."""

    name: str
    train: IntArray
    test: IntArray


@with_near_names
@understands(seed="rng")
def cross_validate(
    models: Any,
    *,
    by: str = "group",
    folds: int | Iterable[Any] | None = None,
    rng: Seed = None,
    progress: bool = False,
    **fit_kwargs: Any,
) -> CrossValidation:
    """
    Compare models by predictions of groups, or of times, that were left out.

    Parameters
    ----------
    models : MixedLMAR, MixedLMARResults, or list or mapping of them
        From formulas, of the same rows and groups; a mapping gives them names.
    by : {"group", "time"}
        Leave out groups, and predict their rows for the population; or forecast the
        rows of later times from all earlier ones (a rolling origin): for known groups
        from their own past, for groups that appear later for the population.
    folds : int or sequence, optional
        Parts of the groups, at random, 10 by default (as many as groups leave out one
        at a time), or one label a row that says to which part it belongs (constant
        within groups).  With ``by="time"`` the later half of the times is forecast in
        so many blocks, 5 by default, or one a time; or the times at which blocks begin.
    rng : int, SeedSequence or Generator, optional
        Draws the parts.
    progress : bool
        Show a progress bar.
    **fit_kwargs
        Passed on to ``MixedLMAR.fit``.

    Returns
    -------
    CrossValidation

    Raises
    ------
    UnsupportedError
        For models of arrays, folds that leave nothing, and ``by="time"`` without times.
    LengthError
        If models have different rows.
    NotComputedError
        If a model cannot be fitted to a part, or does not predict one.

    See Also
    --------
    mixedar.selection.select_residual : residual structures by information criteria.

    References
    ----------
    Gneiting, T. and Raftery, A. E. (2007), Strictly proper scoring rules, prediction,
    and estimation, Journal of the American Statistical Association 102, 359-378.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> line = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> sexes = mar.mixedlm("distance ~ age * sex", teeth, groups="subject", time="occ")
    >>> found = mar.cross_validate({"line": line, "sexes": sexes}, folds=9, rng=1)
    >>> found.frame["crps"].idxmin()
    'sexes'
    """
    check_choice("by", by, ("group", "time"))
    check_flags(progress=progress)
    named = _named(models)
    first = next(iter(named.values())).arrays
    for name, model in named.items():
        _check_same(name, model.arrays, first)
    parts = list(
        _by_group(first, folds, rng) if by == "group" else _by_time(first, folds)
    )
    rows, joint, notes = [], [], []
    steps = [(name, fold) for fold in parts for name in named]
    for step in progress_bar(range(len(steps)), progress, "cross-validation"):
        name, fold = steps[step]
        model, warned = named[name], list[Warning]()
        frame = model.arrays.frame
        assert frame is not None
        try:
            part = model.for_rows(frame.iloc[fold.train])
            fit = part.fit(**fit_kwargs, collected=warned).fit
            scored = _scores(fit, model.arrays, fold, by)
        except (MixedARError, np.linalg.LinAlgError) as error:
            later = f". {_LATER}" if by == "time" else ""
            raise NotComputedError(
                f"{name}, fold {fold.name} ({len(fold.train)} rows to fit, "
                f"{len(fold.test)} to predict): {error}{later}"
            ) from error
        if not fit.converged:
            notes.append(f"{name}: the fit without fold {fold.name} did not converge.")
        rows.append(scored.assign(model=name, fold=fold.name))
        if by == "group" and not model.arrays.terms:
            whole = _joint_scores(fit, model.arrays, fold)
            joint.append(whole.assign(model=name, fold=fold.name))
    groups = pd.concat(joint) if joint else pd.DataFrame()
    return CrossValidation(pd.concat(rows), groups, list(named), by, tuple(notes))


def _named(models: Any) -> dict[str, Rebuilt]:
    """Models by name."""
    if not isinstance(models, (Mapping, list, tuple)):
        models = [models]
    if not isinstance(models, Mapping):
        models = {f"model {k + 1}": model for k, model in enumerate(models)}
    if not models:
        raise UnsupportedError("cross_validate needs a model; the list is empty")
    found = {}
    for name, given in models.items():
        model = unwrapped(given)
        model = getattr(model, "model", model)
        if not hasattr(model, "for_rows"):
            raise UnsupportedError(
                f"cross_validate takes MixedLMAR models or their fits, not "
                f"{type(given).__name__}; build one with mixedlm(...)"
            )
        if model.arrays.frame is None:
            raise UnsupportedError(
                f"{name} is a model of arrays, which cannot be built for parts of its "
                "rows: build it from a formula"
            )
        found[str(name)] = model
    return found


def _check_same(name: str, data: ModelData, first: ModelData) -> None:
    """Raise unless a model has the rows and groups of the first."""
    if data is first:
        return
    if data.nobs != first.nobs or not np.array_equal(data.endog, first.endog):
        raise LengthError(
            f"{name} has other rows or another response than the first model "
            f"({data.nobs} rows, {first.nobs}): compare models of the same data (rows "
            "with missing values may have been left out of one)"
        )
    if not np.array_equal(pd.factorize(data.codes)[0], pd.factorize(first.codes)[0]):
        raise LengthError(
            f"{name} has other groups than the first model, and folds divide groups"
        )


def _by_group(data: ModelData, folds: Any, rng: Seed) -> Iterator[Fold]:
    """Folds of whole groups."""
    codes, count = data.codes, data.n_groups
    if folds is not None and np.ndim(folds):
        labels = np.asarray(without_mask(folds))
        if len(labels) != data.nobs:
            raise LengthError(
                f"folds= has {len(labels)} labels for {data.nobs} rows of the model"
            )
        assert data.frame is not None
        check_labels("folds", folds, data.frame.index, "the data of the model")
        part, names = pd.factorize(labels, sort=True)
        if (part < 0).any():
            raise MissingDataError("folds= has missing labels")
        if pd.DataFrame({"c": codes, "p": part}).groupby("c")["p"].nunique().max() > 1:
            raise UnsupportedError(
                "folds= divides groups: rows of one group have different labels"
            )
    else:
        most = check_count(min(_GROUPS, count) if folds is None else folds, "folds")
        if most > count:
            raise UnsupportedError(f"folds={most}: there are {count} groups")
        of_group = np.arange(count) % most
        part = generator(rng).permutation(of_group)[codes]
        names = np.arange(1, most + 1)
    if len(names) < 2:
        raise UnsupportedError("folds= has one part: nothing is left to fit")
    for k, name in enumerate(names):
        yield Fold(str(name), np.flatnonzero(part != k), np.flatnonzero(part == k))


def _by_time(data: ModelData, folds: Any) -> Iterator[Fold]:
    """Blocks of later times, and all rows before each."""
    if data.time is None:
        raise UnsupportedError(
            'by="time" needs times: name their column in time= of the model'
        )
    column = time_column(data.time, data.time_name or "time")
    codes, distinct, _ = occasions_of(column, data.time_name or "time")
    first, last = Levels(distinct.iloc[[0, -1]]).names
    if folds is not None and np.ndim(folds):
        starts, places = _starts(folds, distinct, last)
    else:
        later = np.arange(len(distinct))[max(len(distinct) // 2, 1) :]
        most = min(_TIMES, len(later)) if folds is None else folds
        whole = isinstance(most, (int, np.integer)) and not isinstance(most, bool)
        if not whole or not 1 <= most <= len(later):
            raise UnsupportedError(
                f"folds={shown(folds)}: the later half of {len(distinct)} times has "
                f"{len(later)} to forecast"
            )
        places = np.array([block[0] for block in np.array_split(later, most)])
        starts = distinct.iloc[places]
    if not len(places) or places[0] < 1 or places[-1] >= len(distinct):
        raise UnsupportedError(
            f"folds=: blocks begin after {first} and no later than {last}, the first "
            "and the last time"
        )
    block = np.searchsorted(places, codes, side="right")
    for k, name in enumerate(Levels(starts).names):
        yield Fold(name, np.flatnonzero(block <= k), np.flatnonzero(block == k + 1))


def _starts(folds: Any, distinct: pd.Series, last: str) -> tuple[pd.Series, IntArray]:
    """Times at which blocks begin, in order, and their places among all times."""
    labels = pd.Index(distinct)
    try:
        given = np.asarray(without_mask(folds))
        if given.dtype.kind == "c" or pd.isna(given).any():
            raise ValueError
        asked = pd.Series(given.astype(np.asarray(distinct).dtype))
        if labels.is_monotonic_increasing and not isinstance(labels[0], str):
            places = labels.searchsorted(asked)
        else:
            places = labels.get_indexer(asked)
            if (places < 0).any():
                raise ValueError
    except (TypeError, ValueError):
        raise UnsupportedError(
            f"folds={shown(folds)}: blocks begin at times such as {last}"
        ) from None
    order = np.argsort(places, kind="stable")
    return asked.iloc[order], np.asarray(places)[order]


def _scores(fit: Fit, data: ModelData, fold: Fold, by: str) -> pd.DataFrame:
    """Predictions of the rows that were left out, and their scores."""
    assert data.frame is not None
    new = data.frame.iloc[fold.test]
    level = "population" if by == "group" else "forecast"
    found = get_prediction(fit, new, level, unknown="population")
    mean, sd = found.predicted_mean, found.se_obs
    y = data.endog[fold.test]
    z = (y - mean) / sd
    table = {
        "group": [data.group_labels[k] for k in data.codes[fold.test]],
        "observed": y,
        "mean": mean,
        "sd": sd,
        "log_score": stats.norm.logpdf(z) - np.log(sd),
        "crps": crps_normal(z) * sd,
        "squared_error": (y - mean) ** 2,
    }
    return pd.DataFrame(table, index=new.index)


def crps_normal(z: FloatArray) -> FloatArray:
    """
    Continuous ranked probability score of standard normal predictions.

    Gneiting and Raftery (2007), equation 21, with the sign of a loss.
    """
    inside = z * (2.0 * stats.norm.cdf(z) - 1.0) + 2.0 * stats.norm.pdf(z)
    return np.asarray(inside - 1.0 / np.sqrt(np.pi))


def _joint_scores(fit: Fit, data: ModelData, fold: Fold) -> pd.DataFrame:
    """
    Logarithm of the predictive density of all rows of each group left out.

    NaN where the parts of the data have other parameters than the whole.
    """
    groups = np.unique(data.codes[fold.test])
    scores = np.full(len(groups), np.nan)
    if tuple(data.param_names) == fit.names and not reads_fitted(data.residual):
        with np.errstate(all="ignore"):
            u = data.residual.to_unconstrained(fit.residual_params)
        sizes = data.components.sizes
        psi = block_diag(fit.cov_re, np.diag(np.repeat(fit.vcomp, sizes)))
        for k, group in enumerate(groups.tolist()):
            scores[k] = _joint_score(fit, data, group, psi, u)
    labels = [data.group_labels[k] for k in groups]
    return pd.DataFrame({"group": labels, _JOINT: scores})


def _joint_score(
    fit: Fit, data: ModelData, group: int, psi: FloatArray, u: FloatArray
) -> float:
    """The same of one group."""
    grouped = data.grouped
    here = np.arange(grouped.offsets[group], grouped.offsets[group + 1])
    rows = here if grouped.order is None else grouped.order[here]
    z, x = data.random_design[rows], data.exog[rows]
    cov = fit.scale * residual_covariance(data, here, u)
    cov = cov + z @ psi @ z.T + x @ fit.cov_beta @ x.T
    left = data.response[rows] - x @ fit.fe_params
    try:
        root = np.linalg.cholesky(cov)
    except np.linalg.LinAlgError:
        return np.nan
    white = np.linalg.solve(root, left)
    constant = len(rows) * np.log(2.0 * np.pi)
    return float(-0.5 * (white @ white + constant) - np.log(np.diag(root)).sum())


@dataclass(frozen=True, eq=False, repr=False)
class CrossValidation(Printed):
    """
    Scores of predictions of what was left out; made by :func:`cross_validate`.

    Attributes
    ----------
    rows : DataFrame
        A row for each model and row of the data that was predicted: ``model``,
        ``fold``, ``group``, ``observed``, ``mean`` and ``sd`` of the prediction, and
        its scores: ``log_score``, the logarithm of the density (larger is better),
        ``crps`` and ``squared_error`` (smaller is better).
    groups : DataFrame
        With left-out groups: ``joint_log_score``, the logarithm of the density of all
        rows of a group together, which sees their correlation; larger is better.
        Empty with random effects of several factors.
    names : list of str
        Of the models.
    by : str
    notes : tuple of str

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> found = mar.cross_validate(model, by="time", folds=[4])
    >>> found.folds.index.get_level_values("fold").tolist()
    ['4']
    """

    rows: pd.DataFrame
    groups: pd.DataFrame
    names: Sequence[str]
    by: str
    notes: tuple[str, ...] = ()

    def _means(self, keys: list[str]) -> pd.DataFrame:
        by_key = self.rows.groupby(keys, sort=False)
        out = by_key[list(SCORES)].mean()
        out.insert(0, "n", by_key.size())
        if len(self.groups):
            out[_JOINT] = self.groups.groupby(keys, sort=False)[_JOINT].mean()
        return ResultFrame.of(out)

    @property
    def frame(self) -> pd.DataFrame:
        """Mean scores of each model over all rows (joint ones over groups)."""
        return self._means(["model"])

    @property
    def folds(self) -> pd.DataFrame:
        """The same by model and fold."""
        return self._means(["model", "fold"])

    def differences(self, score: str = "log_score") -> pd.DataFrame:
        """
        How much worse each model is than the best, with standard errors.

        Parameters
        ----------
        score : {"log_score", "crps", "squared_error", "joint_log_score"}

        Returns
        -------
        DataFrame
            A row a model: ``difference`` of the mean score to that of the best model
            (of a log score negative), and ``se``, by the variation between groups of
            the differences.

        Raises
        ------
        UnsupportedError
            For another score.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> models = [
        ...     mar.mixedlm(f"distance ~ {x}", teeth, groups="subject", time="occ")
        ...     for x in ("age", "age * sex")
        ... ]
        >>> found = mar.cross_validate(models, folds=9, rng=1)
        >>> found.differences("crps").index.tolist()
        ['model 2', 'model 1']
        """
        joint = [_JOINT] if len(self.groups) else []
        check_choice("score", score, (*SCORES, *joint))
        table = self.groups if score == _JOINT else self.rows
        sums = table.groupby(["group", "model"])[score].sum().unstack("model")
        sizes = table.groupby(["group", "model"]).size().unstack("model").iloc[:, 0]
        total, m = float(sizes.sum()), len(sizes)
        better_is_larger = SCORES.get(score, True)
        means = (sums.sum() / total).sort_values(ascending=not better_is_larger)
        out = pd.DataFrame({"difference": means - means.iloc[0], "se": np.nan})
        for name in means.index:
            apart = sums[name] - sums[means.index[0]]
            left = apart - out.loc[name, "difference"] * sizes
            out.loc[name, "se"] = np.sqrt(m / max(m - 1, 1) * (left**2).sum()) / total
        return ResultFrame.of(out)

    def summary(self) -> ResultsSummary:
        """
        Totals and folds, printed.

        Returns
        -------
        ResultsSummary

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> page = mar.cross_validate(model, folds=3, rng=1).summary().as_text()
        """
        folds = self.folds.reset_index()
        names = folds.pop("model") + ", fold " + folds.pop("fold").astype(str)
        tables = [
            SummaryTable(self.frame, title="Model", name="models"),
            SummaryTable(folds.set_axis(names), title="Fold", name="folds"),
        ]
        what = "groups left out" if self.by == "group" else "times ahead"
        notes = [
            "Means over rows. Log scores: larger is better; CRPS and squared errors: "
            "smaller is better.",
            *self.notes,
        ]
        header = {"Predicted:": what, "No. folds:": self.rows["fold"].nunique()}
        return ResultsSummary("Cross-validation", header, tables, notes=notes)
