"""Variances that the restricted likelihood does not depend on."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar


def data(n: int = 10, m: int = 6) -> pd.DataFrame:
    rng = np.random.default_rng(24)
    out = pd.DataFrame({"id": np.repeat(np.arange(n), m), "t": np.tile(range(m), n)})
    out["x"] = rng.normal(size=n * m)
    out["arm"] = np.where(out["id"] % 2, "b", "a")
    out["y"] = 1 + 0.5 * out["x"] + rng.normal(size=n)[out["id"]]
    out["y"] += rng.normal(size=n * m)
    return out


@pytest.mark.parametrize(
    ("formula", "n", "columns"),
    [("y ~ x + C(id)", 10, "'C(id)[T.1]'"), ("y ~ x + arm", 2, "'arm[T.b]'")],
)
def test_a_random_intercept_beside_fixed_ones_is_said(
    formula: str, n: int, columns: str
) -> None:
    """V enters REML by contrasts that have no group means: flat in their variance."""
    frame = data(n)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        both = mar.mixedlm(formula, frame, groups="id", residual="independent").fit()
        one = mar.mixedlm(
            formula, frame, groups="id", residual="independent", re_formula="0"
        ).fit()
    assert both.converged
    (note,) = both.boundary_notes
    assert "'id Var'" in note
    assert columns in note
    assert "same for every value" in " ".join(str(both.summary()).split())
    assert np.isnan(both.bse["id Var"])
    row = both.conf_int_re().loc["id Var"]
    assert np.isnan([row["lower"], row["upper"]]).all()
    assert "does not depend" in row["note"]
    assert both.params["id Var"] == 0.0
    np.testing.assert_allclose(both.llf, one.llf, rtol=1e-10)
    np.testing.assert_allclose(both.bse_fe, one.bse_fe, rtol=1e-6)
    # under maximum likelihood the variance is seen: zero is its maximum
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ml = mar.mixedlm(formula, frame, groups="id", residual="independent").fit(
            reml=False
        )
    assert not any("same for every value" in note for note in ml.boundary_notes)


def test_what_else_there_is_stays_estimated() -> None:
    frame = data()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both = mar.mixedlm(
            "y ~ x + C(id)", frame, groups="id", re_formula="~x", residual="independent"
        ).fit()
        slope = mar.mixedlm(
            "y ~ x + C(id)",
            frame,
            groups="id",
            re_formula="0 + x",
            residual="independent",
        ).fit()
    np.testing.assert_allclose(both.llf, slope.llf, atol=1e-6)
    np.testing.assert_allclose(
        both.cov_re.loc["x", "x"], slope.cov_re.iloc[0, 0], rtol=1e-3
    )
    assert "'id Var'" in both.boundary_notes[0]


def test_the_start_does_not_matter() -> None:
    model = mar.mixedlm("y ~ x + C(id)", data(), groups="id", residual="independent")
    found = [model.fit(start_params=start) for start in ([0.5], [50.0])]
    np.testing.assert_array_equal(found[0].bse_fe, found[1].bse_fe)
