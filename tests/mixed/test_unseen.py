"""Variances that the restricted likelihood does not depend on."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar.api import CompoundSymmetry


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


FLAT: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "compound symmetry": ("y ~ x + C(id)", {"residual": "cs"}, ["rho", "scale"]),
    "in each arm": (
        "y ~ x + C(id)",
        {"residual": CompoundSymmetry(by="arm")},
        ["rho[a]", "rho[b]", "scale"],
    ),
    "banded": ("y ~ x + C(id)", {"residual": "toep"}, ["rho1", "rho5", "scale"]),
    "unstructured correlations": (
        "y ~ x + C(id)",
        {"residual": "unr"},
        ["rho(0, 1)", "scale"],
    ),
    "beside slopes": (
        "y ~ x + C(id)",
        {"residual": "cs", "re_formula": "0 + x"},
        ["rho", "scale"],
    ),
}


@pytest.mark.parametrize("case", FLAT)
def test_what_fixed_effects_take_from_residuals_is_said(case: str) -> None:
    """V + c 11' in each group has the same contrasts free of group means."""
    formula, arguments, moving = FLAT[case]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments = {"re_formula": "0", **arguments}
        model = mar.mixedlm(formula, data(), groups="id", time="t", **arguments)
        fit, ml = model.fit(), model.fit(reml=False)
    (note,) = [n for n in fit.boundary_notes if "is the same along" in n]
    for name in moving:
        assert repr(name) in note
    assert "('Intercept', 'C(id)[T.1]'" in note
    assert "'x'" not in note
    table = fit.conf_int_re().loc[moving]
    assert np.isnan(table[["lower", "upper"]].to_numpy()).all()
    assert table["note"].str.contains("does not depend").all()
    assert np.isnan(fit.bse[moving[:-1]]).all()
    assert not any("is the same along" in n for n in ml.boundary_notes)


def test_a_flat_direction_counts_as_no_parameter() -> None:
    """Compound symmetry without its common part is independence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both, one = (
            mar.mixedlm(
                "y ~ x + C(id)",
                data(),
                groups="id",
                time="t",
                re_formula="0",
                residual=residual,
            ).fit()
            for residual in ("cs", "independent")
        )
    np.testing.assert_allclose(both.aic, one.aic, rtol=1e-9)
    np.testing.assert_allclose(both.bse["x"], one.bse["x"], rtol=1e-6)


def test_groups_that_few_columns_describe_are_not_flat() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = mar.mixedlm(
            "y ~ x + arm", data(), groups="id", time="t", re_formula="0", residual="cs"
        ).fit()
    assert not any("is the same along" in n for n in fit.boundary_notes)
    assert np.isfinite(fit.bse["rho"])


@pytest.mark.parametrize("fixed", ["C(item)", "C(id) + C(item)"])
def test_crossed_factors_that_are_fixed_too_are_said(fixed: str) -> None:
    frame = data().assign(item=lambda d: d["t"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = mar.mixedlm(f"y ~ x + {fixed} + (1|id) + (1|item)", frame).fit()
    note = " ".join(fit.boundary_notes)
    assert "'C(item)[T.1]'" in note or "'C(id)[T.1]'" in note
    assert "value of the variance 'item Var'" in note
    assert fit.params["item Var"] == 0.0
    assert np.isnan(fit.bse["item Var"])
