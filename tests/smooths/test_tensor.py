"""Tensor products: values of mgcv's gamm, and how a surface is taken apart."""

from __future__ import annotations

import numpy as np
import pytest

import mixedar.formula.api as mar
from helpers.smooth_cases import close, table
from mixedar.exceptions import MixedARError

# tests/reference/smooths/tensor.R, mgcv 1.8-41: log-likelihood + log|X'X| / 2; edf, F
GAMM = {
    'y ~ te(x, time, bs=("ps", "tp"), k=(6, 5))': (
        -203.68849818,
        [[22.627824127, 41.2211823377]],
    ),
    'y ~ te(x, time, bs=["cc", "cr"], k=[6, 5])': (
        -201.04179588,
        [[20.0753792134, 46.7562620113]],
    ),
    'y ~ s(x, bs="cr", k=8) + s(time, bs="cr", k=6) + ti(x, time, k=(5, 4))': (
        -183.90374268,
        [
            [6.08878249078, 91.144065200101],
            [4.66820568956, 102.588109291830],
            [1.00000020989, 0.584597088535],
        ],
    ),
    'y ~ ti(x, time, bs="ps")': (-351.50139231, [[3.00076168396, 0.978094746846]]),
}


@pytest.mark.filterwarnings("ignore::mixedar.exceptions.BoundaryWarning")
@pytest.mark.parametrize("formula", GAMM)
def test_as_gamm(formula: str) -> None:
    rows = table("smooth_two")
    fit = mar.mixedlm(f"{formula} + (1 | id)", rows, groups="id", time="time").fit()
    llf, smooths = GAMM[formula]
    x = fit.model.exog
    close(fit.llf + 0.5 * np.linalg.slogdet(x.T @ x)[1], llf, 0.0, 1e-6)
    edf, f = np.transpose(smooths)
    found = fit.smooths
    # gamm stops a little off its maximum
    close(found["edf"], edf, 3e-4)
    close(found["F"], f, 2e-3)


def test_ti_of_one_covariate_is_its_curve() -> None:
    rows = table("smooth_two")
    one = mar.mixedlm("y ~ ti(x) + (1 | id)", rows).fit()
    two = mar.mixedlm('y ~ s(x, bs="cr", k=5) + (1 | id)', rows).fit()
    close(one.llf, two.llf, 1e-10)
    assert list(one.smooths.index) == ["ti(x)"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_curves_leave_of_a_surface_sums_to_zero_along_both() -> None:
    rows = table("smooth_two")
    formula = "y ~ s(x, k=6) + s(time, k=5) + ti(x, time, k=4) + (1 | id)"
    fit = mar.mixedlm(formula, rows).fit()
    for name, other in (("x", "time"), ("time", "x")):
        grid = rows[[name]].assign(**{other: rows[other].iloc[17]})
        values = fit.smooth("ti(x,time)", grid, n_sim=10)["fit"]
        scale = np.abs(fit.smooth("ti(x,time)", rows, n_sim=10)["fit"]).max()
        close(values.sum(), 0.0, 0.0, 1e-8 * scale * len(rows))
    terms = [
        fit.smooth(label, rows, n_sim=10)["fit"].to_numpy()
        for label in fit.smooths.index
    ]
    mean = fit.fe_params["Intercept"] + sum(terms)
    close(fit.fitted_marginal, mean, 1e-8)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("s(x) + te(x, z)", r"s\(x\) is part of te\(x,z\).* s\(x\) \+ s\(z\) \+ ti\(x"),
        ("s(x) + s(z) + s(x, z)", r"s\(x\) is part of s\(x,z\)"),
        ("te(x, z) + ti(z, x)", r"ti\(z,x\) is part of te\(x,z\)"),
        ("s(x, by=arm) + te(x, z)", r"s\(x\):arm is part of te\(x,z\)"),
        (
            "s(x) + te(x, z, by=arm)",
            r"write s\(x, by=arm\) \+ s\(z, by=arm\) \+ ti\(x, z, by=arm\)",
        ),
        ('te(x, z, bs=("cr", "xx"))', r"bs='xx': choose 'cr', 'cc', 'ps' or 'tp'"),
        ('te(x, z, bs=("cr", "cr", "ps"))', "has 3 bases; write one or two"),
        ('s(x, bs=("cr", "ps"))', "has 2 bases; write one, as in bs='cr'"),
        ('te(x, z, bs=c("cr", "ps"))', r"or a tuple such as \(4, 6\)"),
        ("te(x, z, bs='fs')", "bs='fs': choose"),
        ("ti(x, z, time)", r"ti\(\) one or two, not 3"),
        ("te(x)", r"te\(x, z\) two"),
        ("t2(x, z)", r"te\(x, ?z\), which holds main effects, or ti"),
    ],
)
def test_error_says_how_it_is_written(formula: str, message: str) -> None:
    rows = table("smooth_two").rename(columns={"time": "t"})
    rows["z"] = np.sin(7.0 * np.arange(len(rows)))
    with pytest.raises(MixedARError, match=message):
        mar.mixedlm(f"y ~ {formula} + (1 | id)", rows)


def test_a_numeric_by_stands_beside_the_surface() -> None:
    rows = table("smooth_two").copy()
    rows["w"] = np.cos(3.0 * np.arange(len(rows)))
    formula = "y ~ s(x, by=w, k=5) + te(x, time, k=4) + (1 | id)"
    fit = mar.mixedlm(formula, rows).fit()
    assert fit.smooths["edf"].gt(1.0).all()
