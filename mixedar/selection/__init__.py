"""
Choosing a residual structure: several fitted to the same data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from mixedar._lazy import with_near_names
from mixedar._types import UNCHANGED
from mixedar.data.model_data import ModelData
from mixedar.exceptions import (
    MixedARError,
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
    check_choice,
    check_flags,
)
from mixedar.fit import Fit
from mixedar.inference.arguments import progress_bar
from mixedar.inference.information import CONVENTIONS, information_criteria
from mixedar.inference.likelihood_ratio import null_distribution
from mixedar.residual import ResidualStructure
from mixedar.residual.variance import VarianceFunction
from mixedar.selection.correlations import correlations_by_lag
from mixedar.summary import Printed, ResultFrame, ResultsSummary, SummaryTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from typing_extensions import Self
#: What is compared unless `structures` says otherwise.
DEFAULT_STRUCTURES = ("independent", "ar1", "car1", "cs", "arma11", "toeplitz", "un")
# A larger model whose likelihood is lower by more than this missed its maximum.
_MISSED = 1e-5
_CRITERIA = ("aic", "aicc", "bic", "hqic", "caic")
_COLUMNS = [
    *("label", "parameters", "df", "logLik", "AIC", "BIC", "against", "LR", "LR_df"),
    *("p", "null", "converged", "at_boundary", "note"),
]
_NOT_GIVEN = object()


class HasFit(Protocol):
    """What is read of the results of a fit."""

    @property
    def fit(self) -> Fit:
        """The fit."""


class Model(Protocol):
    """What is asked of a mixed model."""

    arrays: ModelData

    def with_residual(
        self, residual: Any, weights: object, residual_data: object, *, relatives: Any
    ) -> Self:
        """The same model with another residual structure."""

    def fit(self, *, reml: bool, **options: Any) -> HasFit:
        """Estimate it."""


@dataclass(frozen=True)
class Candidate:
    """
    One residual structure.

    Attributes
    ----------
    label : str
        What summaries call it.
    results : MixedLMARResults, or None
        None if it could not be fitted.
    note : str
        Why it could not be fitted, or what the fit warned of.
    """

    label: str
    results: HasFit | None
    note: str


@with_near_names
def select_residual(
    model: Model,
    structures: str | Iterable[Any] | Mapping[str, Any] = DEFAULT_STRUCTURES,
    *,
    reml: bool = True,
    weights: object = UNCHANGED,
    residual_data: object = None,
    ic: str = "nlme",
    progress: bool = False,
    **fit_kwargs: Any,
) -> ResidualSelection:
    """
    Fit residual structures to the same data and compare them.

    Formulas are evaluated once, and structures that see the rows in the same way
    share their compressed data.

    Parameters
    ----------
    model : MixedLMAR
        Which response, fixed and random effects; its own residual structure does
        not matter.
    structures : sequence or mapping
        Names (``"ar1"``), structures (``AR1(by="sex")``), or pairs of a structure
        and a variance function (``("ar1", VarIdent("sex"))``).  A mapping gives
        them names of their own.
    reml : bool
        Restricted maximum likelihood, or maximum likelihood.
    weights : VarianceFunction, str, array_like or None, optional
        Variance function of all structures that come without one; that of the
        model by default.
    residual_data : DataFrame or mapping, optional
        Columns that the structures read, for models from arrays; see
        ``MixedLMAR.with_residual``.
    ic : {"nlme", "lme4", "sas"}
        Convention of AIC and BIC, see ``MixedLMARResults.information_criteria``.
    progress : bool
        Show a progress bar.
    **fit_kwargs
        Passed on to ``MixedLMAR.fit``.

    Returns
    -------
    ResidualSelection
        A structure that cannot be fitted is a row with the reason.

    Raises
    ------
    UnsupportedError
        If `model` is no mixed model, `structures` is empty or names one twice, or
        `ic` is unknown.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> choice = mar.select_residual(model, ["independent", "ar1", "cs"])
    >>> choice.best("bic").structure.label
    'independent'
    """
    model = getattr(model, "model", model)
    if not hasattr(model, "with_residual"):
        raise UnsupportedError(
            f"select_residual takes a MixedLMAR model, not {type(model).__name__}; "
            "build one with mixedlm(...)"
        )
    check_choice("ic", ic, tuple(CONVENTIONS))
    check_flags(reml=reml, progress=progress)
    named = _named(structures)
    names = list(named)
    candidates: dict[str, Candidate] = {}
    relatives: list[Model] = []
    for step in progress_bar(range(len(names)), progress, "residual structures"):
        residual, variance = named[names[step]]
        given = residual, weights if variance is _NOT_GIVEN else variance, residual_data
        options = {"reml": reml, **fit_kwargs}
        candidates[names[step]] = _fit(model, given, relatives, options)
    return ResidualSelection(candidates, ic)


def _named(structures: Any) -> dict[str, tuple[Any, Any]]:
    """Structures and their variance functions by name."""
    if isinstance(structures, (str, ResidualStructure, type)):
        structures = [structures]
    if isinstance(structures, Mapping):
        items = [(str(name), item) for name, item in structures.items()]
    else:
        try:
            items = [(_name(item), item) for item in structures]
        except TypeError:
            raise UnsupportedError(
                "structures= takes a list of names or structures, or a mapping, not "
                f"{type(structures).__name__}"
            ) from None
    if not items:
        raise UnsupportedError("structures= is empty: name one or more")
    out: dict[str, tuple[Any, Any]] = {}
    for name, item in items:
        if name in out:
            raise UnsupportedError(
                f"structures= has {name!r} twice; pass a mapping to name them, such as "
                "{'one': ..., 'other': ...}"
            )
        pair = isinstance(item, tuple) and len(item) == 2
        out[name] = item if pair else (item, _NOT_GIVEN)
    return out


def _name(item: object) -> str:
    if isinstance(item, tuple) and len(item) == 2:
        residual, weights = item
        if weights is None:
            return _name(residual)
        return f"{_name(residual)} + {_variance_name(weights)}"
    if isinstance(item, type):
        return str(getattr(item, "code", item.__name__))
    if isinstance(item, ResidualStructure):
        return item.label
    return "independent" if item is None else str(item)


def _variance_name(weights: object) -> str:
    if isinstance(weights, VarianceFunction):
        return weights.label
    if isinstance(weights, type):
        return weights.__name__
    return weights if isinstance(weights, str) else "weights"


def _fit(
    model: Model,
    given: tuple[Any, Any, Any],
    relatives: list[Model],
    options: Mapping[str, Any],
) -> Candidate:
    """One structure; its model joins the relatives if it could be fitted."""
    label = str(getattr(given[0], "label", given[0]))
    found: list[Warning] = []
    try:
        other = model.with_residual(*given, relatives=relatives)
        label = other.arrays.residual.label
        results = other.fit(**options, collected=found)
    except MixedARError as error:
        return Candidate(label, None, str(error))
    except (np.linalg.LinAlgError, FloatingPointError) as error:
        reason = f"the likelihood cannot be computed: {error}"
        return Candidate(label, None, reason)
    relatives.append(other)
    return Candidate(label, results, "; ".join(map(str, found)))


class ResidualSelection(Printed):
    """
    Fits of several residual structures; made by :func:`select_residual`.

    Attributes
    ----------
    table : DataFrame
        A row for each structure: ``label``; ``parameters`` of the structure and
        its variance function, and ``df``, the number of all parameters;
        ``logLik``, ``AIC``, ``BIC``; the likelihood-ratio test against the
        largest structure that is nested in it (``against``, ``LR``, ``LR_df``,
        ``p``, and ``null``, the distribution); ``converged``, ``at_boundary``, and
        ``note``, with the reason where there is no fit.
    tests : DataFrame
        The likelihood-ratio tests of all nested pairs: ``small``, ``large``,
        ``LR``, ``df``, ``p``, ``null``, ``note``.
    fits : dict of str to MixedLMARResults
        By the names in the table.
    ic : str
        Convention of AIC and BIC.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> choice = mar.select_residual(model, ["independent", "ar1", "cs"])
    >>> choice.best("aic").structure.label
    'independent'
    """

    def __init__(self, candidates: Mapping[str, Candidate], ic: str) -> None:
        self.ic = ic
        self.fits = {
            name: candidate.results
            for name, candidate in candidates.items()
            if candidate.results is not None
        }
        fits = {name: results.fit for name, results in self.fits.items()}
        self.tests = _tests(fits)
        self.table = _table(candidates, fits, self.tests, ic)

    def __getitem__(self, name: str) -> HasFit:
        if name in self.fits:
            return self.fits[name]
        if name in self.table.index:
            raise NotComputedError(
                f"{name!r} could not be fitted: {self.table.loc[name, 'note']!s}"
            )
        raise UnknownColumnError(
            f"there is no structure {name!r}; there are "
            f"{', '.join(map(repr, self.table.index))}"
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self.fits)

    def __len__(self) -> int:
        return len(self.fits)

    def __contains__(self, name: object) -> bool:
        return name in self.fits

    def ranking(self, criterion: str = "aic") -> pd.Series:
        """
        A criterion of the fits that converged, the best first.

        Parameters
        ----------
        criterion : {"aic", "aicc", "bic", "hqic", "caic"}
            Smaller is better.

        Returns
        -------
        Series

        Raises
        ------
        UnsupportedError
            For another criterion.
        NotComputedError
            If nothing has been fitted.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> choice = mar.select_residual(model, ["independent", "ar1", "cs"])
        >>> choice.ranking("bic").index.tolist()
        ['independent', 'ar1']
        """
        name = str(criterion).lower()
        check_choice("criterion", name, _CRITERIA)
        values = {
            key: float(information_criteria(results.fit, self.ic)[name])
            for key, results in self.fits.items()
            if results.fit.converged
        }
        if not values:
            reasons = "; ".join(f"{k!r}: {v}" for k, v in self.table["note"].items())
            raise NotComputedError(f"no structure could be fitted ({reasons})")
        return pd.Series(values, name=name).sort_values(kind="stable")

    def best(self, criterion: str = "aic") -> HasFit:
        """
        The fit with the smallest value of a criterion.

        Parameters
        ----------
        criterion : {"aic", "aicc", "bic", "hqic", "caic"}

        Returns
        -------
        MixedLMARResults

        Raises
        ------
        UnsupportedError, NotComputedError
            As :meth:`ranking`.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> choice = mar.select_residual(model, ["independent", "ar1", "cs"])
        >>> fit = choice.best("bic")
        >>> fit.converged
        True
        """
        return self.fits[str(self.ranking(criterion).index[0])]

    def correlations(
        self,
        structures: str | Iterable[str] | None = None,
        max_lag: float | None = None,
    ) -> pd.DataFrame:
        """
        Empirical and fitted correlations of a group's observations, by lag.

        Of the residuals around the fixed effects, so that the fitted ones include
        what random effects contribute.

        Parameters
        ----------
        structures : str or iterable of str, optional
            Which ones; all that were fitted by default.
        max_lag : float, optional
            Longest distance in time.

        Returns
        -------
        DataFrame, one row a lag
            ``pairs``, ``empirical``, ``std_error`` (independent groups), and a
            column for each structure.  Where there are many different distances a
            row stands for a range of them.

        Raises
        ------
        NotComputedError
            If nothing has been fitted, or no group has two observations.
        UnknownColumnError
            For a structure that is not among the fits.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> choice = mar.select_residual(model, ["independent", "ar1", "cs"])
        >>> choice.correlations().columns.tolist()
        ['pairs', 'empirical', 'std_error', 'independent', 'ar1']
        """
        return correlations_by_lag(self._chosen(structures), max_lag)

    def plot(
        self,
        ax: Axes | None = None,
        structures: str | Iterable[str] | None = None,
        max_lag: float | None = None,
    ) -> Axes:
        """
        Draw fitted against empirical correlations by lag.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        structures, max_lag
            As in :meth:`correlations`.

        Returns
        -------
        matplotlib.axes.Axes
            Bars are 95% intervals of the empirical correlations, for independent
            groups.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> choice = mar.select_residual(model, ["independent", "ar1", "cs"])
        >>> ax = choice.plot()
        """
        from mixedar.plotting.correlation import plot_correlations

        fits = self._chosen(structures)
        frame = correlations_by_lag(fits, max_lag)
        data = [fit.data for fit in fits.values()]
        units = {one.time_unit for one in data} - {"1", "row", "occasion"}
        unit = f" ({units.pop()})" if len(units) == 1 else ""
        return plot_correlations(
            frame, ax, f"Lag in {data[0].time_name or 'time'}{unit}"
        )

    def _chosen(self, structures: str | Iterable[str] | None) -> dict[str, Fit]:
        if structures is None and not self.fits:
            self.ranking()  # raises with the reasons
        names = [structures] if isinstance(structures, str) else structures
        return {name: self[name].fit for name in names or self.fits}

    def summary(self) -> ResultsSummary:
        """
        Tables of criteria and of likelihood-ratio tests.

        Returns
        -------
        ResultsSummary

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> choice = mar.select_residual(model, ["independent", "ar1", "cs"])
        >>> list(choice.summary().to_frames())
        ['criteria', 'tests']
        """
        tables = [_criteria_table(self.table)]
        if (self.table["against"] != "").any():
            tables.append(_tests_table(self.table))
        first = next(iter(self.fits.values()), None)
        header = None if first is None else _header(first.fit)
        return ResultsSummary("Residual structures", header, tables, self._notes())

    def _notes(self) -> list[str]:
        table, notes = self.table, []
        if self.fits:
            ranked = [self.ranking(name).index[0] for name in ("aic", "bic")]
            if ranked[0] == ranked[1]:
                notes.append(f"Smallest AIC and BIC: {ranked[0]}.")
            else:
                notes.append(f"Smallest AIC: {ranked[0]}; smallest BIC: {ranked[1]}.")
        for name in table.index[table["logLik"].isna()]:
            notes.append(f"{name}: not fitted, {table.loc[name, 'note']}.")
        fitted = table[table["logLik"].notna()]
        converged = fitted["converged"].astype(bool)
        for name in fitted.index[~converged]:
            notes.append(f"{name}: the optimiser did not reach a maximum.")
        said = fitted["note"][converged & (fitted["note"] != "")]
        notes += [f"{name}: {note}." for name, note in said.items()]
        remarks: dict[str, list[str]] = {}
        for _, test in self.tests.iterrows():
            if test["note"] and fitted.loc[test["large"], "against"] == test["small"]:
                pair = f"{test['large']} against {test['small']}"
                remarks.setdefault(test["note"], []).append(pair)
        return notes + [f"{', '.join(p)}: {text}." for text, p in remarks.items()]


def _tests(fits: Mapping[str, Fit]) -> pd.DataFrame:
    """Likelihood ratios of all nested pairs."""
    ordered = sorted(fits, key=lambda name: fits[name].k_estimated)
    rows = []
    for small, large in combinations(ordered, 2):
        one, two = fits[small], fits[large]
        difference = two.k_estimated - one.k_estimated
        null = null_distribution(one, two) if difference else None
        if null is None or not null.df:
            continue
        statistic, p, note = 2.0 * (two.llf - one.llf), np.nan, null.note
        if not (one.converged and two.converged):
            note = "a fit has not converged"
        elif statistic < -_MISSED:
            note = "the larger structure has the lower likelihood: its fit missed"
        else:
            statistic = max(statistic, 0.0)
            p = null.sf(statistic)
        rows.append([small, large, statistic, difference, p, null.label, note])
    columns = ["small", "large", "LR", "df", "p", "null", "note"]
    return pd.DataFrame(rows, columns=columns)


def _table(
    candidates: Mapping[str, Candidate],
    fits: Mapping[str, Fit],
    tests: pd.DataFrame,
    ic: str,
) -> pd.DataFrame:
    rows = []
    for name, candidate in candidates.items():
        row: dict[str, Any] = dict.fromkeys(_COLUMNS, np.nan)
        row |= {"label": candidate.label, "note": candidate.note}
        row |= {"against": "", "null": "", "converged": False, "at_boundary": False}
        if name in fits:
            fit = fits[name]
            criteria = information_criteria(fit, ic)
            row |= {
                "parameters": fit.structure.k_free,
                "df": fit.k_estimated,
                "logLik": fit.llf,
                "AIC": criteria["aic"],
                "BIC": criteria["bic"],
                "converged": fit.converged,
                "at_boundary": fit.singular or fit.estimate.residual_at_boundary,
            }
            row |= _nearest(name, fits, tests)
        rows.append(row)
    index = pd.Index(list(candidates), name="structure")
    frame = pd.DataFrame(rows, index=index, columns=_COLUMNS)
    for column in ("parameters", "df", "LR_df"):
        frame[column] = frame[column].astype("Int64")
    return ResultFrame.of(frame)


def _nearest(name: str, fits: Mapping[str, Fit], tests: pd.DataFrame) -> dict[str, Any]:
    """The test against the largest structure that is nested, the likeliest of them."""
    mine = tests[tests["large"] == name]
    if not len(mine):
        return {}

    def size(small: str) -> tuple[int, float]:
        return fits[small].k_estimated, round(fits[small].llf, 5)

    small = max(mine["small"], key=size)
    test = mine[mine["small"] == small].iloc[0]
    return {"against": small, "LR_df": test["df"], **test[["LR", "p", "null"]]}


def _header(fit: Fit) -> dict[str, Any]:
    return {
        "Dep. variable:": fit.endog_name,
        "Method:": fit.method,
        "No. observations:": fit.nobs,
        "No. groups:": fit.n_groups,
        "Fixed effects:": fit.k_fe,
        "Random effects:": ", ".join(fit.effect_names) or "none",
    }


def _criteria_table(table: pd.DataFrame) -> SummaryTable:
    frame = table[["label", "parameters", "logLik", "AIC", "BIC"]].copy()
    frame.columns = ["Residuals", "Par.", "logLik", "AIC", "BIC"]
    formats = {"Par.": "d", **dict.fromkeys(["logLik", "AIC", "BIC"], ".2f")}
    return SummaryTable(
        frame, title="Criteria", name="criteria", formats=formats, index_header="Name"
    )


def _tests_table(table: pd.DataFrame) -> SummaryTable:
    tests = table[table["against"] != ""]
    frame = tests[["against", "LR", "LR_df", "p", "null"]].copy()
    frame.columns = ["against", "LR", "DF", "p", "null"]
    return SummaryTable(
        frame,
        title="Likelihood ratio against the largest nested structure",
        name="tests",
        formats={"DF": "d"},
        index_header="Name",
    )
