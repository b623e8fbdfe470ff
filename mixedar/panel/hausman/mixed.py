"""
Fixed effects against a mixed model with random slopes or correlated residuals.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.exceptions import NotComputedError, UnsupportedError
from mixedar.hypotheses.result import Distribution, TestText
from mixedar.mixed import MixedLMAR, MixedLMARResults
from mixedar.panel.data import PanelData
from mixedar.panel.estimators.random_effects import entity_means
from mixedar.panel.hausman.comparison import (
    MUNDLAK,
    HausmanResult,
    check_samples,
    check_unweighted,
    common_names,
    meaning_of,
    side_by_side,
)
from mixedar.panel.results import PanelResults
from mixedar.panel.sorting import make_panel

_TEXT = TestText(
    "Mundlak in the mixed model",
    "the random effects are unrelated to the regressors, so that differences within "
    "and between entities have the same coefficients",
    "they are related, and the mixed model without entity means is inconsistent",
    MUNDLAK + "; Snijders and Bosker (2012), Multilevel Analysis, section 4.6",
)
_NO_MEAN = (
    "it is not identified: no regressor varies both within and between entities, so "
    "that no mean can be added"
)


def hausman_mixed(
    fe: PanelResults,
    mixed: MixedLMARResults,
    method: str = "default",
    *,
    use_f: bool = True,
) -> HausmanResult:
    """
    Add entity means to a mixed model and test them jointly.

    In the mixed model with entity means, the coefficients of the regressors
    themselves rest on differences within entities alone, whatever the random
    slopes and the correlation of the residuals; those of the means are what
    differences between entities add.  They are zero if the random effects are
    unrelated to the regressors.

    Parameters
    ----------
    fe : PanelResults
        Fit of fixed effects to the same rows.
    mixed : MixedLMARResults
        Fit whose groups are the entities.
    method : str
        ``"default"`` or ``"mundlak"``.
    use_f : bool
        F with containment degrees of freedom, or chi-squared.

    Returns
    -------
    HausmanResult

    Raises
    ------
    UnsupportedError
        If the fits differ in rows, response or regressors, or `method` compares
        covariances.
    NotComputedError
        If the mixed model has lost its data.
    """
    if method not in ("default", "mundlak"):
        raise UnsupportedError(
            f"hausman: method={method!r} is not defined for a mixed model, whose "
            "estimates are no quasi-demeaned least squares; use method='mundlak' "
            "(entity means in the mixed model), or random_effects(...)"
        )
    if getattr(fe, "kind", None) not in ("fe", "fe_ar1"):
        raise UnsupportedError(
            "hausman: the first argument must be a fit of fixed_effects(...), the "
            "second the mixed model"
        )
    check_unweighted(fe.panel)
    model = mixed.model
    if getattr(model, "endog", None) is None:
        raise NotComputedError(
            "hausman: the mixed model has no data any more (remove_data); fit it again"
        )
    panel = _panel_of(model, fe.panel)
    names = common_names(fe, panel, panel.names, "the mixed model")
    means, columns = entity_means(panel)
    if panel.constant is not None:  # the intercept is that at the grand means
        means = means - panel.x[:, columns].mean(axis=0)
    tested = [f"mean({panel.names[j]})" for j in columns]
    here = np.asarray(fe.params[names], dtype=np.float64)
    fixed = np.asarray(mixed.fe_params, dtype=np.float64)
    there = fixed[[panel.names.index(name) for name in names]]
    augmented, test = None, _TEXT.missing(_NO_MEAN, "chi2", 0)
    if tested:
        added = add_means(model, panel.unsort(means), tested)
        # what warnings say stands in the notes
        augmented = added.fit(reml=mixed.reml, collected=[])
        selector = np.eye(model.k_fe + len(tested))[model.k_fe :]
        found = augmented.wald_test(selector, use_f=use_f)
        degrees = (float(found.df_num), float(found.df_denom)) if use_f else len(tested)
        which: Distribution = "F" if use_f else "chi2"
        test = _TEXT.result(float(found.statistic), which, degrees)
    return HausmanResult(
        method=method,
        tests=(test,),
        comparison=side_by_side(names, here, there, here - there),
        identified=len(tested),
        meaning=meaning_of(names, "the mixed model"),
        notes=() if augmented is None else _notes(mixed, augmented, tested),
        nobs=panel.nobs,
        n_entities=panel.n_entities,
        mixed=mixed if augmented is None else augmented,
    )


def add_means(model: MixedLMAR, means: FloatArray, names: list[str]) -> MixedLMAR:
    """The same mixed model with further fixed effects, rows in its own order."""
    index = model.data.row_labels
    index = pd.RangeIndex(model.nobs) if index is None else index
    exog = pd.DataFrame(
        np.column_stack([model.exog, means]),
        index=index,
        columns=[*model.exog_names, *names],
    )
    exog_re: Any = model.exog_re
    if exog_re is None and not model.k_vc:
        exog_re = np.empty((model.nobs, 0))
    elif exog_re is not None and model.k_re:
        exog_re = pd.DataFrame(exog_re, index=index, columns=model.data.exog_re_names)
    return MixedLMAR(
        pd.Series(model.endog, index=index, name=model.endog_names),
        exog,
        groups=model.groups,
        exog_re=exog_re,
        exog_vc=model.exog_vc if model.k_vc else None,
        time=model.time,
        delta=model.delta,
        scale=model.scale,
        offset=model.offset,
        residual=model.residual,
        series=model.series,
        residual_data=dict(model.residual_data) or None,
        re_cov=model.re_cov,
        use_sqrt=model.use_sqrt,
    )


def _panel_of(model: MixedLMAR, other: PanelData) -> PanelData:
    """Rows of the mixed model as a panel; refuses rows that are not `other`'s."""
    labels = np.asarray(model.group_labels)
    if not np.array_equal(labels, other.entity_labels):
        raise UnsupportedError(
            f"hausman: the groups of the mixed model ({len(labels)} of them) are not "
            f"the entities of fixed effects ({other.n_entities}); use groups="
            f"{other.entity_name!r} and the same rows"
        )
    if model.series is not None:
        raise UnsupportedError(
            "hausman: the mixed model has several series in a group (series=), and a "
            "panel has one observation for each entity and time"
        )
    timed = model.time is not None and other.has_time
    panel = make_panel(
        np.asarray(model.endog, dtype=np.float64),
        np.asarray(model.exog, dtype=np.float64),
        list(model.exog_names),
        labels[model.codes],
        np.asarray(model.time) if timed else None,
        endog_name=str(model.endog_names),
        entity_name=other.entity_name,
        time_name=other.time_name,
    )
    if timed:
        check_samples(other, panel, ("fe", "the mixed model"))
        return panel
    same = np.array_equal(panel.sizes, other.sizes)
    if same:
        a = panel.y[np.lexsort((panel.y, panel.entity))]
        b = other.y[np.lexsort((other.y, other.entity))]
        same = bool(np.allclose(a, b, rtol=1e-12, atol=0.0))
    if not same:
        raise UnsupportedError(
            "hausman: the mixed model and fixed effects use different rows or "
            f"responses ({panel.nobs} and {other.nobs} rows); fit both to the same"
        )
    return panel


def _notes(
    mixed: MixedLMARResults, augmented: MixedLMARResults, tested: list[str]
) -> tuple[str, ...]:
    notes = [
        f"Tested jointly in the mixed model ({mixed.structure.label} residuals, "
        f"{mixed.method}): {', '.join(tested)}. Each coefficient is the slope between "
        "entities less the slope within them.",
        "Coefficients of fixed effects and of the mixed model also differ because they "
        "weight observations differently; the test is that of the means.",
        "Random slopes that are related to the regressors are another matter, which "
        "entity means alone do not show.",
    ]
    if not augmented.converged:
        notes.append("The mixed model with entity means did not converge.")
    notes += [
        f"In the mixed model with entity means: {note}."
        for note in augmented.boundary_notes
    ]
    return tuple(notes)
