"""
Fixed and random effects side by side: differences, their covariance, its rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.exceptions import UnsupportedError
from mixedar.hypotheses.result import TestResult
from mixedar.numeric.linalg import r_factor
from mixedar.panel.algebra import column_sizes, independent_columns
from mixedar.panel.data import PanelData
from mixedar.panel.hausman.forms import (
    DifferenceTest,
    covariance_of_difference,
    difference_test,
    identified_columns,
)
from mixedar.panel.hausman.result import FORMS


@dataclass(frozen=True, eq=False)
class Comparison:
    """
    Two estimates of the same q coefficients.

    Attributes
    ----------
    names : list of str
        The coefficients.
    fe, re : ndarray, shape (q,)
        Estimates.
    covs : dict of str to ndarray, shape (q, q)
        Covariance of the difference, by form.
    forms : dict of str to DifferenceTest
        Quadratic forms.
    identified : ndarray of int
        Positions of coefficients that can differ, none redundant.
    zero_variance : bool
        Whether the variance of the random effects is estimated as zero.
    """

    names: list[str]
    fe: FloatArray
    re: FloatArray
    covs: dict[str, FloatArray]
    forms: dict[str, DifferenceTest]
    identified: IntArray
    zero_variance: bool

    @property
    def difference(self) -> FloatArray:
        """Fixed less random effects, shape (q,)."""
        return self.fe - self.re

    def test(self, form: str) -> TestResult:
        """
        Return one form of the test.

        Parameters
        ----------
        form : {"classical", "sigmamore", "sigmaless"}

        Returns
        -------
        TestResult
            Without a p-value if the statistic is negative, without a statistic
            if nothing is identified.
        """
        found, text = self.forms[form], FORMS[form]
        rank = len(self.identified)
        if rank == 0:
            return text.missing(self.not_identified(), "chi2", 0)
        below = f"{found.negative} of {len(self.names)} eigenvalues"
        if found.statistic < 0.0:
            return text.result(
                found.statistic,
                "chi2",
                found.df,
                pvalue=np.nan,
                reason=(
                    "the statistic is negative, because the difference of the "
                    f"covariances is not positive semidefinite ({below} are negative), "
                    "so that it has no chi-squared distribution; use "
                    "method='sigmamore' or 'mundlak-robust'"
                ),
            )
        note = None
        if found.negative:
            note = (
                f"The difference of the covariances is not positive semidefinite "
                f"({below} are negative): the chi-squared distribution of the "
                f"{form} form is in doubt; sigmamore and the Mundlak forms do not "
                "have this problem."
            )
        elif found.df > rank:
            note = (
                f"Only {rank} of the {found.df} degrees of freedom of the {form} form "
                "are differences that the data can show (the others come from the two "
                "residual variances); sigmamore has the right number."
            )
        return text.result(found.statistic, "chi2", found.df, note=note)

    def not_identified(self) -> str:
        """Why nothing can be tested, without a full stop."""
        if not self.names:
            return (
                "the fits have no coefficient in common: fixed effects absorb every "
                "regressor, because none varies within entities"
            )
        shown = ", ".join(self.names[:6]) + (", ..." if len(self.names) > 6 else "")
        return (
            "the test is not identified: fixed and random effects agree to rounding "
            f"error on {shown}, because no regressor that varies within entities "
            "differs between them (one with the same mean in every entity, such as "
            "time in a balanced panel, carries no information on this), or because "
            "the model of random effects contains the means of the entities"
        )

    def frame(self, form: str | None) -> pd.DataFrame:
        """
        Return the estimates side by side.

        Parameters
        ----------
        form : str or None
            Whose standard errors of the difference to give; none for None.

        Returns
        -------
        DataFrame, shape (q, 4)
        """
        out = pd.DataFrame(
            {"fe": self.fe, "re": self.re, "difference": self.difference},
            index=pd.Index(self.names, name="coefficient"),
        )
        variances = np.full(len(self.names), np.nan)
        if form is not None:
            variances = np.diag(self.covs[form])
        positive = np.where(variances > 0.0, variances, np.nan)
        out["std_err"] = np.sqrt(positive)
        return out

    def cov_frame(self, form: str) -> pd.DataFrame:
        """Return the covariance of the difference with names, shape (q, q)."""
        return pd.DataFrame(self.covs[form], index=self.names, columns=self.names)

    def notes(self, form: str | None) -> tuple[str, ...]:
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
        if self.zero_variance:
            notes.append(
                "The variance of the random effects is estimated as zero: random "
                "effects are pooled least squares here."
            )
        return tuple(notes)


def compare_fits(fe: Any, re: Any, names: list[str]) -> Comparison:
    """
    Line up two fits.

    Parameters
    ----------
    fe, re : PanelResults
        Fixed and random effects.
    names : list of str
        Coefficients to compare.

    Returns
    -------
    Comparison
    """
    cov_fe = fe.cov_params().loc[names, names].to_numpy(dtype=float)
    cov_re = re.cov_params().loc[names, names].to_numpy(dtype=float)
    b_fe = fe.params[names].to_numpy(dtype=float)
    b_re = re.params[names].to_numpy(dtype=float)
    covs = {
        form: covariance_of_difference(cov_fe, cov_re, fe.scale, re.scale, form)
        for form in ("classical", "sigmamore", "sigmaless")
    }
    return Comparison(
        names=names,
        fe=b_fe,
        re=b_re,
        covs=covs,
        forms={
            form: difference_test(b_fe - b_re, cov, cov_fe)
            for form, cov in covs.items()
        },
        identified=identified_columns(cov_fe, cov_re, fe.scale, re.scale),
        zero_variance=re.estimate.sigma2_u == 0.0,
    )


_KINDS = {
    "fe": "fixed effects",
    "re": "random effects",
    "between": "between effects",
    "fd": "first differences",
    "pooled": "pooled least squares",
    "fe_ar1": "fixed effects with AR(1) errors",
    "re_ar1": "random effects with AR(1) errors",
}
_CLASSICAL = ("classical", "observed")


def check_kinds(fe: Any, re: Any) -> None:
    """
    Refuse fits that are not fixed effects first and random effects second.

    Parameters
    ----------
    fe, re : PanelResults

    Raises
    ------
    UnsupportedError
        Naming what was passed and what to pass.
    """
    kinds = [getattr(fit, "kind", None) for fit in (fe, re)]
    shown = [
        _KINDS.get(str(kind), type(fit).__name__)
        for kind, fit in zip(kinds, (fe, re), strict=True)
    ]
    families = [str(kind).removesuffix("_ar1") for kind in kinds]
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
    if len({str(kind).endswith("_ar1") for kind in kinds}) > 1:
        raise UnsupportedError(
            f"hausman: {shown[0]} cannot be compared with {shown[1]}: both or neither "
            "must have AR(1) errors"
        )
    effects = [set(fit.estimate.effects) for fit in (fe, re)]
    if "entity" not in effects[0]:
        raise UnsupportedError(
            "hausman: the fixed effects are those of periods only; the test is about "
            "effects of entities: fit fixed_effects with entity effects"
        )
    if "time" in effects[0] and "time" not in effects[1]:
        raise UnsupportedError(
            "hausman: fixed effects has period effects and random effects has none, so "
            "that they differ for other reasons; put period dummies, C(time), into "
            "both formulas instead"
        )


def check_samples(a: PanelData, b: PanelData, names: tuple[str, str]) -> None:
    """
    Refuse fits to different rows or responses.

    Parameters
    ----------
    a, b : PanelData
    names : tuple of str
        What to call them.

    Raises
    ------
    UnsupportedError
        Naming an entity and time that one of them lacks, or where responses
        differ.
    """
    if a is b:
        return
    if not _same_rows(a, b):
        _refuse_rows(a, b, names)
    # both are sorted by entity and time, so that rows correspond
    apart = np.flatnonzero(~np.isclose(a.y, b.y, rtol=1e-12, atol=0.0))
    if len(apart):
        entity, time = _row_keys(a)[apart[0]]
        raise UnsupportedError(
            f"hausman: the responses differ ({a.endog_name!r} and {b.endog_name!r}), "
            f"first for {a.entity_name} {entity!r} at {a.time_name} {time!r}; compare "
            "fits of the same response"
        )


def _same_rows(a: PanelData, b: PanelData) -> bool:
    pairs = (
        (a.entity, b.entity),
        (a.time, b.time),
        (a.entity_labels, b.entity_labels),
        (a.time_labels, b.time_labels),
    )
    return all(np.array_equal(left, right) for left, right in pairs)


def _refuse_rows(a: PanelData, b: PanelData, names: tuple[str, str]) -> None:
    keys = [_row_keys(panel) for panel in (a, b)]
    sets = [set(key) for key in keys]
    for k in (0, 1):
        only = [key for key in keys[k] if key not in sets[1 - k]]
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


def common_names(fe: Any, re: Any) -> list[str]:
    """
    Coefficients to compare.

    Parameters
    ----------
    fe, re : PanelResults

    Returns
    -------
    list of str
        Those of both fits without the constant, in the order of `re`.

    Raises
    ------
    UnsupportedError
        If one model has a regressor that the other lacks, unless fixed effects
        absorb it.
    """
    panel: PanelData = re.panel
    constants = {
        fit.panel.names[fit.panel.constant]
        for fit in (fe, re)
        if fit.panel.constant is not None
    }
    names_fe = [name for name in fe.params.index if name not in constants]
    names_re = [name for name in re.params.index if name not in constants]
    missing = [name for name in names_fe if name not in names_re]
    extra = [name for name in names_re if name not in names_fe]
    extra = [name for name in extra if name not in fe.absorbed]
    if extra:
        extra = _not_absorbed(panel, [n for n in names_re if n in names_fe], extra)
    if missing or extra:
        lacking = "random" if missing else "fixed"
        raise UnsupportedError(
            f"hausman: {missing or extra} is not among the regressors of {lacking} "
            "effects; compare models with the same regressors"
        )
    return [name for name in names_re if name in names_fe]


def _not_absorbed(panel: PanelData, base: list[str], extra: list[str]) -> list[str]:
    """Extra regressors that vary within entities beyond what `base` does."""
    columns = [panel.names.index(name) for name in [*base, *extra]]
    x = panel.x[:, columns] - panel.x[:, columns].mean(axis=0)
    triangle = r_factor(panel.demean(x) / column_sizes(x))
    kept = independent_columns(triangle)
    return [n for n, k in zip(extra, kept[len(base) :], strict=True) if k]


def require_classical(fe: Any, re: Any, method: str) -> str | None:
    """
    Say what is wrong with covariances that are not classical.

    Parameters
    ----------
    fe, re : PanelResults
    method : str
        Name of the form that needs classical covariances.

    Returns
    -------
    str or None
        None if both are classical.
    """
    wrong = [
        f"{name} has cov_type={fit.cov_type!r}"
        for name, fit in (("fe", fe), ("re", re))
        if fit.cov_type not in _CLASSICAL
    ]
    if not wrong:
        return None
    return (
        f"the {method} form needs classical covariances, and {' and '.join(wrong)}: "
        "the difference of robust covariances is not that of the difference; refit "
        "with the classical one, or use method='mundlak-robust'"
    )


def unlike_coefficients(fe: Any, re: Any) -> str | None:
    """
    Say why coefficients of the same name do not mean the same.

    Fixed effects leave out a regressor that varies within entities but is a
    combination of others there; random effects keep it, and with it the others
    get another meaning.

    Parameters
    ----------
    fe, re : PanelResults

    Returns
    -------
    str or None
        None if the comparison is one of like with like.
    """
    panel = fe.panel
    kept = {re.panel.names[j] for j in re.estimate.columns}
    names = [name for name in fe.absorbed if name in kept]
    if not names:
        return None
    columns = panel.x[:, [panel.names.index(name) for name in names]]
    columns = columns - columns.mean(axis=0)
    within = panel.remove_effects(columns, fe.estimate.effects)
    left = np.sqrt((within**2).sum(axis=0)) > 1e-7 * np.sqrt((columns**2).sum(axis=0))
    moved = [name for name, varies in zip(names, left, strict=True) if varies]
    if not moved:
        return None
    return (
        f"fixed effects left out {', '.join(moved)} (collinear with other regressors "
        "within entities) and random effects did not, so that coefficients of the same "
        "name differ in meaning; write the model without it, or use method='mundlak'"
    )
