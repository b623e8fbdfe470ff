"""
The table of the smooths of a fit: how much each bends, and tests of what it is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from mixedar.fit import Fit
from mixedar.fit.maximise import maximise
from mixedar.inference.likelihood_ratio import NullDistribution
from mixedar.inference.smooths import (
    FittedSmooth,
    SharedCoefficients,
    fitted_smooths,
    no_effect,
)
from mixedar.prediction.level_smooths import MOST, JointCoefficients, levels_edf
from mixedar.summary import ResultFrame

_NO_TEST = f"no F beyond {MOST:,} coefficients: compare two fits"


def smooth_tests(fit: Fit) -> pd.DataFrame:
    """
    Effective degrees of freedom, tests of no effect, and variances of the smooths.

    Returns
    -------
    DataFrame
        Columns ``edf``, ``ref_df``, ``F``, ``p``, ``variance``, ``smoothing`` and
        ``note``, by label; `attrs` has ``edf_total``, fixed effects included.
    """
    columns = ["edf", "ref_df", "F", "p", "variance", "smoothing", "note"]
    smooths = fitted_smooths(fit)
    if not smooths:
        return pd.DataFrame(columns=columns)
    joint = SharedCoefficients(fit)
    edf = [
        levels_edf(fit, one) if one.smooth.call.factor else joint.edf(one)
        for one in smooths
    ]
    total = fit.k_fe + sum(edf) - sum(len(one.fixed) for one in smooths)
    df = float(max(1, round(fit.nobs - total)))
    of_levels, rows = JointCoefficients(fit, joint, smooths), []
    for one, own in zip(smooths, edf, strict=True):
        variance = float(one.variances[0])
        smoothing = fit.scale / variance if variance > 0.0 else np.inf
        note = "" if variance > 0.0 else one.smooth.plain
        if not one.smooth.call.factor:
            test = no_effect(joint, one, own, df)
        elif of_levels.size <= MOST:
            test = of_levels.no_effect(one, smooths, df)
        else:
            test, note = (own, np.nan, np.nan), note or _NO_TEST
        rows.append((own, *test, variance, smoothing, note))
    labels = pd.Index([one.smooth.label for one in smooths], name="smooth", dtype=str)
    frame = pd.DataFrame(rows, index=labels, columns=columns)
    frame.attrs["edf_total"] = float(total)
    return frame


def smooth_frame(fit: Fit) -> pd.DataFrame:
    """
    One row for each smooth: how much it bends, and tests of what it is.

    Returns
    -------
    DataFrame
        By label: ``edf``, effective degrees of freedom, those of the fixed part
        included; ``ref_df``, ``F`` and ``p``, the test that there is no effect at all
        (Wood, 2013), as ``summary(gamm(...)$gam)`` has it; ``LR`` and ``line_p``, the
        likelihood ratio test of a variance of zero, that is of a straight line;
        ``variance`` of the coefficients, ``smoothing`` = residual variance / variance,
        mgcv's ``sp``; and a ``note`` where the variance is zero.

    Notes
    -----
    The likelihood ratio of a variance follows a 50:50 mixture of chi-square variables
    with 0 and 1 degrees of freedom, with 1 and 2 for a tensor product, whose second
    parameter goes too.  One curve is one draw, not many independent ones, and then
    more than half of the mass is at zero: the p-value is on the safe side (Crainiceanu
    and Ruppert, 2004).

    Of a smooth of each level of a factor (``bs="fs"``) ``edf`` counts all levels, the
    variance is that of the bends, and ``F`` asks whether any level has a curve.  Beyond
    1,000 coefficients it is not computed, as the note says: compare two fits.

    References
    ----------
    Crainiceanu, C. M. and Ruppert, D. (2004), Likelihood ratio tests in linear mixed
    models with one variance component, Journal of the Royal Statistical Society B 66,
    165-185.
    """
    out = smooth_tests(fit)
    lines = np.array([_straight(fit, one) for one in fitted_smooths(fit)])
    lines = lines.reshape(-1, 2)
    out.insert(4, "LR", lines[:, 0])
    out.insert(5, "line_p", lines[:, 1])
    return ResultFrame.of(out)


def _straight(fit: Fit, one: FittedSmooth) -> tuple[float, float]:
    """Likelihood ratio and p-value of a variance of zero."""
    if not one.variances[0] > 0.0:
        return 0.0, 1.0
    data, layout, lost = fit.data, fit.layout, 0
    held = layout.fixed.copy()
    if one.terms:
        t = one.terms[0]
        between = data.terms[t].between
        lost = 0 if between is None else between.k_free
        held = np.delete(held, np.r_[layout.term_places[t].entries])
        data = replace(data, terms=data.terms[:t] + data.terms[t + 1 :])
        rest = layout.terms[:t] + layout.terms[t + 1 :]
        layout = replace(layout, fixed=held, terms=rest)
    else:
        held[layout.places[1 + one.components[0]].entries] = 0.0
        layout = replace(layout, fixed=held)
    small = maximise(data, reml=fit.reml, layout=layout)
    ratio = max(2.0 * (fit.llf - small.llf), 0.0)
    null = NullDistribution((lost, lost + 1), (0.5, 0.5), "")
    return ratio, min(null.sf(ratio), 1.0)
