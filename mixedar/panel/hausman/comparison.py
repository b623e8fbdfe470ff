"""
Fixed and random effects side by side, and the result of comparing them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.exceptions import UnsupportedError, listing
from mixedar.hypotheses.result import (
    Degrees,
    TestResult,
    TestText,
    results_frame,
    results_table,
)
from mixedar.mixed import MixedLMARResults
from mixedar.numeric.linalg import r_factor
from mixedar.panel.algebra import RANK_TOLERANCE, column_sizes, independent_columns
from mixedar.panel.data import PanelData
from mixedar.panel.estimate import ESTIMATORS
from mixedar.panel.results import PanelResults
from mixedar.panel.summed import sums_agree
from mixedar.summary import Printed, ResultFrame, ResultsSummary, SummaryTable, in_words

Form = Literal["classical", "sigmamore", "sigmaless"]

# Part of an estimate or of its standard error that rounding may make of no difference.
_ROUNDING = 1e-9
MUNDLAK = "Mundlak (1978), Econometrica 46, 69-85"


def text_of(name: str, reference: str) -> TestText:
    """What a comparison of fixed and random effects tests."""
    return TestText(
        name,
        "the effects of the entities are unrelated to the regressors, so that fixed "
        "and random effects estimate the same coefficients",
        "they are related, and random effects is inconsistent",
        reference,
    )


@dataclass(frozen=True, eq=False, repr=False)
class HausmanResult(Printed):
    """
    Whether fixed and random effects estimate the same coefficients.

    Attributes
    ----------
    method : str
        As it was asked for.
    tests : tuple of TestResult
        The forms of the test that make up the method, the leading one first.
    comparison : DataFrame, shape (q, 4)
        Columns ``fe, re, difference, std_err`` of the compared coefficients;
        ``std_err`` is that of the difference, NaN where its estimated variance
        is negative or there is none.
    eigenvalues : ndarray, shape (q,), or None
        Of the covariance of the difference, in units of the standard errors of
        fixed effects, descending; None for forms without such a covariance.
    cov_difference : DataFrame, shape (q, q), or None
        Estimated covariance of the difference.
    identified : int or None
        Number of independent directions in which the estimates can differ; None
        for forms that compare no two estimates.
    meaning : str
        What the test says, in a sentence.
    notes : tuple of str
        Remarks.
    nobs, n_entities : int
    draws : DataFrame, shape (B, r), or None
        Differences in the bootstrap replicates.
    mixed : MixedLMARResults
        Results of the mixed model with entity means (of the model itself if no
        mean could be added), for a test against a mixed model; else None.

    Examples
    --------
    >>> from statsmodels.datasets import grunfeld
    >>> import mixedar.formula.api as mar
    >>> firms = grunfeld.load_pandas().data.astype({"year": int})
    >>> fe = mar.fixed_effects("invest ~ value + capital", firms, "firm", "year").fit()
    >>> re = mar.random_effects("invest ~ value + capital", firms, "firm", "year").fit()
    >>> test = mar.hausman(fe, re)
    >>> round(test.pvalue, 1), test.df
    (0.3, 2)
    """

    method: str
    tests: tuple[TestResult, ...]
    comparison: pd.DataFrame
    meaning: str
    notes: tuple[str, ...]
    nobs: int
    n_entities: int
    eigenvalues: FloatArray | None = None
    cov_difference: pd.DataFrame | None = None
    identified: int | None = None
    draws: pd.DataFrame | None = None
    mixed: MixedLMARResults | None = None

    @property
    def test(self) -> TestResult:
        """The leading form; the first that could be computed, if any could."""
        return next((test for test in self.tests if test.computed), self.tests[0])

    @property
    def statistic(self) -> float:
        """Statistic of the leading form, with its sign; NaN without one."""
        return self.test.statistic

    @property
    def df(self) -> Degrees:
        """Its degrees of freedom: the rank of the comparison."""
        return self.test.df

    @property
    def pvalue(self) -> float:
        """Its p-value; NaN without one."""
        return self.test.pvalue

    @property
    def reason(self) -> str | None:
        """Why the leading form has no p-value; None if it has one."""
        return self.test.reason

    def rejects(self, alpha: float = 0.05) -> bool | None:
        """
        Whether the leading form rejects random effects.

        Parameters
        ----------
        alpha : float
            Level of the test.

        Returns
        -------
        bool or None
            None if there is no p-value.

        Examples
        --------
        >>> from statsmodels.datasets import grunfeld
        >>> import mixedar.formula.api as mar
        >>> firms = grunfeld.load_pandas().data.astype({"year": int})
        >>> fe = mar.fixed_effects(
        ...     "invest ~ value + capital", firms, "firm", "year").fit(
        ... )
        >>> re = mar.random_effects(
        ...     "invest ~ value + capital", firms, "firm", "year").fit(
        ... )
        >>> test = mar.hausman(fe, re)
        >>> test.rejects(alpha=0.05)
        False
        """
        return self.test.rejects(alpha)

    def to_frame(self) -> pd.DataFrame:
        """
        Return one row for each form of the test.

        Returns
        -------
        DataFrame, shape (m, 9)
            Columns as in :meth:`TestResult.to_frame`.

        Examples
        --------
        >>> from statsmodels.datasets import grunfeld
        >>> import mixedar.formula.api as mar
        >>> firms = grunfeld.load_pandas().data.astype({"year": int})
        >>> fe = mar.fixed_effects(
        ...     "invest ~ value + capital", firms, "firm", "year").fit(
        ... )
        >>> re = mar.random_effects(
        ...     "invest ~ value + capital", firms, "firm", "year").fit(
        ... )
        >>> test = mar.hausman(fe, re)
        >>> test.to_frame().shape[0]
        2
        """
        return results_frame(list(self.tests))

    def summary(self) -> ResultsSummary:
        """
        Return the printed form.

        Returns
        -------
        ResultsSummary

        Examples
        --------
        >>> from statsmodels.datasets import grunfeld
        >>> import mixedar.formula.api as mar
        >>> firms = grunfeld.load_pandas().data.astype({"year": int})
        >>> fe = mar.fixed_effects(
        ...     "invest ~ value + capital", firms, "firm", "year").fit(
        ... )
        >>> re = mar.random_effects(
        ...     "invest ~ value + capital", firms, "firm", "year").fit(
        ... )
        >>> test = mar.hausman(fe, re)
        >>> list(test.summary().to_frames())
        ['tests', 'comparison']
        """
        tables = [results_table(self.tests, name="tests")]
        second, words = "RE", "random effects"
        if self.mixed is not None:
            second, words = "Mixed", "a mixed model"
        if len(self.comparison):
            names = {"fe": "FE", "re": second, "std_err": "s.e.(diff)"}
            shown = self.comparison.rename(columns=names).dropna(axis=1, how="all")
            tables.append(
                SummaryTable(shown, "Coefficients", name="comparison", missing="-")
            )
        header: dict[str, Any] = {
            "No. Observations:": self.nobs,
            "No. Entities:": self.n_entities,
        }
        if self.eigenvalues is not None and len(self.eigenvalues):
            values = self.eigenvalues[:: max(len(self.eigenvalues) - 1, 1)]
            header["Scaled eigenvalues:"] = " to ".join(
                f"{v:.3g}" if abs(v) > RANK_TOLERANCE else "0" for v in values
            )
            header["Rank:"] = self.identified
        notes = [f"{t.name}: no p-value; {t.reason}." for t in self.tests if t.reason]
        notes += [test.note for test in self.tests if test.note]
        for test in self.tests:
            also = ", ".join(in_words(*one) for one in test.details)
            notes += [f"{test.name}, other forms: {also}."] if also else []
        return ResultsSummary(
            title=f"Hausman test: fixed effects against {words}",
            header=header,
            tables=tables,
            notes=[*notes, *self.notes, self.meaning],
        )


def meaning_of(names: Sequence[str], second: str = "random effects") -> str:
    """What is tested, what a rejection means, and what its absence does not."""
    shown = listing(names, 6)
    what = f" ({shown})" if names else ""
    return (
        "The test asks whether the effects of the entities are unrelated to the "
        f"regressors{what}, so that fixed effects and {second} estimate the same "
        f"coefficients; a rejection means that those of {second} are inconsistent "
        "(use fixed effects, or add entity means), whereas not rejecting is no proof "
        f"of {second}: the data may be too few, or vary too little between entities, "
        "to show the difference."
    )


@dataclass(frozen=True, eq=False)
class Pair:
    """
    Fits of fixed and random effects to the same rows.

    Attributes
    ----------
    fe, re : PanelResults
    names : list of str
        The q coefficients that both have, without the constant.
    """

    fe: PanelResults
    re: PanelResults
    names: list[str]

    @classmethod
    def of(cls, fe: PanelResults, re: PanelResults) -> Pair:
        """Check that the fits can be compared."""
        check_kinds(fe, re)
        check_samples(fe.panel, re.panel, ("fe", "re"))
        names = common_names(fe, re.panel, list(re.params.index), "random effects")
        return cls(fe, re, names)

    @cached_property
    def estimates(self) -> FloatArray:
        """Fixed and random effects, shape (2, q)."""
        return np.array([fit.params[self.names] for fit in (self.fe, self.re)])

    @property
    def difference(self) -> FloatArray:
        """Fixed less random effects, shape (q,)."""
        return self.estimates[0] - self.estimates[1]

    @cached_property
    def covs(self) -> tuple[FloatArray, FloatArray]:
        """Covariances of fixed and of random effects, each of shape (q, q)."""
        fits = (self.fe, self.re)
        at = [fit.params.index.get_indexer(pd.Index(self.names)) for fit in fits]
        fe, re = (f.estimate.cov[np.ix_(j, j)] for f, j in zip(fits, at, strict=True))
        return fe, re

    @cached_property
    def errors(self) -> FloatArray:
        """Standard errors of fixed effects, shape (q,)."""
        return np.sqrt(np.diag(self.covs[0]))

    def cov(self, form: Form) -> FloatArray:
        """
        Covariance of the difference, shape (q, q).

        ``"classical"``: each fit with its own residual variance; ``"sigmamore"``:
        both with that of random effects; ``"sigmaless"``: with that of fixed
        effects.
        """
        fe, re = self.covs
        ratio = self.re.scale / self.fe.scale
        if form == "sigmamore":
            return fe * ratio - re
        return fe - re / ratio if form == "sigmaless" else fe - re

    @cached_property
    def identified(self) -> IntArray:
        """
        Positions of coefficients that can differ, none redundant, ascending.

        With period dummies in a balanced panel their coefficients differ only as
        far as those of the other regressors do.
        """
        rest = self.cov("sigmaless") / np.outer(self.errors, self.errors)
        found: list[int] = []
        for _ in range(len(rest)):  # Cholesky factorization, largest pivot first
            pivot = int(np.argmax(np.diag(rest)))
            if rest[pivot, pivot] <= RANK_TOLERANCE:
                break
            found.append(pivot)
            rest = rest - np.outer(rest[:, pivot], rest[pivot]) / rest[pivot, pivot]
        return np.array(sorted(found), dtype=np.intp)

    def not_identified(self) -> str:
        """Why nothing can be tested, without a full stop."""
        if not self.names:
            return (
                "the fits have no coefficient in common: fixed effects absorb every "
                "regressor, because none varies within entities"
            )
        return (
            "the test is not identified: fixed and random effects agree to rounding "
            f"error on {listing(self.names, 6)}, because no regressor that varies "
            "within entities differs between them (one with the same mean in every "
            "entity, such as time in a balanced panel, carries no information on "
            "this), or because the model of random effects contains the means of the "
            "entities"
        )

    def not_classical(self, method: str) -> str | None:
        """What is wrong with covariances that `method` cannot use; or None."""
        wrong = [
            f"{name} has cov_type={fit.cov_type!r}"
            for name, fit in (("fe", self.fe), ("re", self.re))
            if fit.cov_type not in ("classical", "observed")
        ]
        if not wrong:
            return None
        return (
            f"the {method} form needs classical covariances, and {' and '.join(wrong)}:"
            " the difference of robust covariances is not that of the difference; refit"
            " with the classical one, or use method='mundlak-robust'"
        )

    def unlike(self) -> str | None:
        """
        Why coefficients of the same name do not mean the same; or None.

        Fixed effects leave out a regressor that varies within entities but is a
        combination of others there; random effects keep it, and with it the
        others get another meaning.
        """
        panel = self.fe.panel
        names = [name for name in self.fe.absorbed if name in self.re.params]
        columns = panel.centre(panel.x[:, [panel.names.index(n) for n in names]])
        within = panel.remove_effects(columns, self.fe.estimate.effects)
        varies = np.linalg.norm(within, axis=0) > 1e-7 * np.linalg.norm(columns, axis=0)
        moved = [name for name, one in zip(names, varies, strict=True) if one]
        if not moved:
            return None
        return (
            f"fixed effects left out {', '.join(moved)} (collinear with other "
            "regressors within entities) and random effects did not, so that "
            "coefficients of the same name differ in meaning; write the model without "
            "it, or use method='mundlak'"
        )

    def frame(self, cov: FloatArray | None = None) -> pd.DataFrame:
        """
        The estimates side by side, shape (q, 4).

        Standard errors are from `cov`, the covariance of the difference.  What
        rounding makes of no difference is zero, and has none.
        """
        fe, re = self.estimates
        variances = np.zeros(len(fe)) if cov is None else np.diag(cov)
        errors = np.sqrt(np.where(variances > 0.0, variances, np.nan))
        same = np.diag(self.cov("sigmaless")) <= RANK_TOLERANCE * self.errors**2
        same &= np.abs(fe - re) <= _ROUNDING * np.maximum(np.abs(fe), self.errors)
        difference, errors = np.where(same, [[0.0], [np.nan]], [fe - re, errors])
        return side_by_side(self.names, fe, re, difference, errors)

    def result(
        self,
        method: str,
        tests: Sequence[TestResult],
        frame: pd.DataFrame,
        notes: Sequence[str],
        **parts: Any,
    ) -> HausmanResult:
        """The result, with what is the same for all forms."""
        panel, cov = self.re.panel, parts.get("cov_difference")
        meaning = meaning_of(self.names if cov is None else list(cov.index))
        texts, counts = (meaning, tuple(notes)), (panel.nobs, panel.n_entities)
        return HausmanResult(method, tuple(tests), frame, *texts, *counts, **parts)

    def notes(self, form: str | None = None) -> list[str]:
        """Remarks on the comparison as a whole."""
        notes = []
        rank, count = len(self.identified), len(self.names)
        if form in ("sigmamore", "sigmaless") and 0 < rank < count:
            chosen = ", ".join(self.names[j] for j in self.identified[:6])
            notes.append(
                f"The {count} compared coefficients can differ in {rank} independent "
                f"direction{'s' if rank > 1 else ''} only (those of {chosen}): the "
                "others have the same means in every entity."
            )
        if self.re.estimate.sigma2_u == 0.0:
            notes.append(
                "The variance of the random effects is estimated as zero: random "
                "effects are pooled least squares here."
            )
        return notes


def side_by_side(
    names: list[str],
    fe: FloatArray,
    re: FloatArray,
    difference: FloatArray,
    errors: FloatArray | float = np.nan,
) -> pd.DataFrame:
    """The estimates of both, their difference and its standard errors."""
    values = {"fe": fe, "re": re, "difference": difference, "std_err": errors}
    index = pd.Index(names, name="coefficient")
    return ResultFrame(values, index=index, dtype=float)


def check_kinds(fe: PanelResults, re: PanelResults) -> None:
    """Refuse fits that are not fixed effects first and random effects second."""
    kinds = [str(getattr(fit, "kind", None)) for fit in (fe, re)]
    shown = [
        ESTIMATORS[kind].words if kind in ESTIMATORS else type(fit).__name__
        for kind, fit in zip(kinds, (fe, re), strict=True)
    ]
    families = [kind.removesuffix("_ar1") for kind in kinds]
    if families == ["re", "fe"]:
        raise UnsupportedError(
            "hausman: the arguments are swapped: the first is the fit of "
            f"{shown[0]}, the second that of {shown[1]}; call hausman(fe, re)"
        )
    if families[0] != "fe":
        raise UnsupportedError(
            f"hausman: the first argument is {shown[0]}; it must be a fit of "
            "fixed_effects(...), which is consistent either way"
        )
    if families[1] != "re":
        raise UnsupportedError(
            f"hausman: the second argument is {shown[1]}; it must be a fit of "
            "random_effects(...) or of mixedlm(...). To test pooled least squares "
            "against fixed effects use f_test_effects(fe)"
        )
    if len({kind.endswith("_ar1") for kind in kinds}) > 1:
        raise UnsupportedError(
            f"hausman: {shown[0]} cannot be compared with {shown[1]}: both or neither "
            "must have AR(1) errors"
        )
    effects = fe.estimate.effects
    if "entity" not in effects:
        raise UnsupportedError(
            "hausman: the fixed effects are those of periods only; the test is about "
            "effects of entities: fit fixed_effects with entity effects"
        )
    if "time" in effects and "time" not in re.estimate.effects:
        raise UnsupportedError(
            "hausman: fixed effects has period effects and random effects has none, so "
            "that they differ for other reasons; put period dummies, C(time), into "
            "both formulas instead"
        )


def check_unweighted(panel: PanelData) -> None:
    """Refuse weights of fixed effects where only plain rows are compared."""
    if panel.weights is not None:
        raise UnsupportedError(
            "hausman: weights= of fixed effects are compared with random effects of "
            "the same weights only, and not by the bootstrap; fit without weights="
        )


def check_samples(a: PanelData, b: PanelData, names: tuple[str, str]) -> None:
    """Refuse fits to different rows or responses; `names` is what to call them."""
    if a is b or sums_agree(a, b):
        return
    rows = [(p.entity, p.time, p.entity_labels, p.time_labels) for p in (a, b)]
    if not all(map(np.array_equal, *rows)):
        _refuse_rows(a, b, names)
    first, second = (1.0 if p.weights is None else p.weights for p in (a, b))
    if not np.allclose(first, second):
        raise UnsupportedError(
            "hausman: the fits have different weights=; fit both with the same"
        )
    # both are sorted by entity and time, so that rows correspond
    apart = np.flatnonzero(~np.isclose(a.y, b.y, rtol=1e-12, atol=0.0))
    if len(apart):
        entity, time = _row_keys(a)[apart[0]]
        raise UnsupportedError(
            f"hausman: the responses differ ({a.endog_name!r} and {b.endog_name!r}), "
            f"first for {a.entity_name} {entity!r} at {a.time_name} {time!r}; compare "
            "fits of the same response"
        )


def _refuse_rows(a: PanelData, b: PanelData, names: tuple[str, str]) -> None:
    keys = [_row_keys(panel) for panel in (a, b)]
    for k in (0, 1):
        others = set(keys[1 - k])
        only = [key for key in keys[k] if key not in others]
        if only:
            entity, time = only[0]
            raise UnsupportedError(
                f"hausman: the fits use different rows: {len(only)} of the "
                f"{len(keys[k])} rows of {names[k]} are not in {names[1 - k]}, "
                f"first {a.entity_name} {entity!r} at {a.time_name} {time!r}; fit "
                "both to the same rows (missing values in a regressor of one "
                "model drop rows from that model only)"
            )


def _row_keys(panel: PanelData) -> list[tuple[Any, Any]]:
    entities = panel.entity_labels[panel.entity].tolist()
    times = panel.time_labels[panel.time].tolist()
    return list(zip(entities, times, strict=True))


def common_names(
    fe: PanelResults, panel: PanelData, names: Sequence[str], second: str
) -> list[str]:
    """
    Coefficients to compare: those of fixed effects and among `names`.

    Without the constant, in the order of `names`, the coefficients of `panel` in
    the second fit.  Refuses a regressor that one of the fits lacks, unless fixed
    effects absorb it.
    """
    both = fe.panel, panel
    constants = {p.names[p.constant] for p in both if p.constant is not None}
    first = [name for name in fe.params.index if name not in constants]
    names = [name for name in names if name not in constants]
    common = [name for name in names if name in first]
    missing = [name for name in first if name not in names]
    extra = [name for name in names if name not in (*first, *fe.absorbed)]
    if extra:  # those that vary within entities beyond what the common ones do
        columns = [panel.names.index(name) for name in [*common, *extra]]
        x = panel.centre(panel.x[:, columns])
        kept = independent_columns(r_factor(panel.demean(x) / column_sizes(x)))
        varies = kept[len(common) :]
        extra = [name for name, one in zip(extra, varies, strict=True) if one]
    if missing or extra:
        raise UnsupportedError(
            f"hausman: {missing or extra} is not among the regressors of "
            f"{second if missing else 'fixed effects'}; compare models with the same "
            "regressors"
        )
    return common
