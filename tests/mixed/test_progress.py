"""Progress of long fits on the screen."""

from __future__ import annotations

import math
import pickle
import re

import pytest

import mixedar.formula.api as mar
from helpers.several_factors import crossed_data
from mixedar.exceptions import UnsupportedError


def test_evaluations_are_counted_on_request(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = mar.mixedlm(
        "y ~ x + (1 | subj) + (1 | item)", crossed_data(), groups="subj", time="t"
    )
    plain = model.fit()
    assert capsys.readouterr() == ("", "")
    fit = model.fit(progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    counts = [int(count) for count in re.findall(r"(\d+) evaluations", err)]
    assert max(counts) >= 5
    highest = [float(value) for value in re.findall(r"highest (-?[\d.]+)", err)]
    assert highest[-1] == pytest.approx(fit.llf, abs=1e-3)
    assert highest == sorted(highest)
    assert fit.llf == plain.llf
    pickle.dumps(fit)
    fit.profile("rho")  # what comes after is quiet
    assert capsys.readouterr() == ("", "")


def test_progress_is_yes_or_no() -> None:
    model = mar.mixedlm("y ~ x", crossed_data(), groups="subj")
    with pytest.raises(UnsupportedError, match="progress"):
        model.fit(progress="yes")


def test_other_rows_do_not_see_sums_of_these() -> None:
    # a problem remembers its latest sums; one of other rows begins without them
    data = crossed_data()
    fit = mar.mixedlm("y ~ x + (1 | subj) + (1 | item)", data, groups="subj").fit().fit
    theta = fit.theta + 0.1
    problem = fit.problem
    problem.evaluate(theta, derivatives=True)
    doubled = fit.data.changed(endog=2.0 * fit.data.endog + 1.0)
    other = problem.of_rows(doubled.compressed).evaluate(theta, derivatives=True)
    n, p = fit.nobs, fit.k_fe
    here = problem.evaluate(theta, derivatives=True)
    assert other.llf == pytest.approx(here.llf - (n - p) * math.log(2.0), rel=1e-9)
