"""Posteriors of models that hold entries of the random effects' covariance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLMParams

import mixedar.formula.api as mar
from mixedar._types import FloatArray
from mixedar.exceptions import UnsupportedError
from mixedar.posterior.coordinates import Target
from mixedar.priors import LKJ, HalfNormal, Uniform

GROUPS, TIMES = 30, 5


def rows() -> pd.DataFrame:
    """Return groups with an intercept and two slopes of their own."""
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(GROUPS), TIMES)
    x, w, noise = rng.normal(size=(3, len(g)))
    own = rng.normal(size=(GROUPS, 3)) * [1.0, 0.6, 0.5]
    y = 1.0 + own[g, 0] + own[g, 1] * x + own[g, 2] * w + noise
    return pd.DataFrame({"y": y, "x": x, "w": w, "g": g})


ROWS = rows()


def held(effects: str, free: Any, start: Any) -> Any:
    """Return a fit in which entries of the covariance's factor stay what they are."""
    model = mar.mixedlm(
        "y ~ x", ROWS, groups="g", re_formula=effects, residual="independent"
    )
    made = MixedLMParams.from_components
    start = made(fe_params=np.ones(2), cov_re=np.array(start, dtype=float))
    mask = made(fe_params=np.ones(2), cov_re=np.array(free, dtype=float))
    return model.fit(free=mask, start_params=start)


def log_likelihood(z: FloatArray, factor: FloatArray, sigma: float) -> float:
    """Return that of the rows, fixed effects integrated out, by dense matrices."""
    x = np.column_stack([np.ones(len(ROWS)), ROWS["x"]])
    y, same = ROWS["y"].to_numpy(), np.equal.outer(ROWS["g"].values, ROWS["g"].values)
    v = sigma**2 * (np.eye(len(y)) + same * (z @ factor @ factor.T @ z.T))
    inverse = np.linalg.inv(v)
    within = x.T @ inverse @ x
    left = y - x @ np.linalg.solve(within, x.T @ inverse @ y)
    logs = np.linalg.slogdet(v)[1] + np.linalg.slogdet(within)[1]
    return float(
        -0.5 * ((len(y) - 2) * np.log(2.0 * np.pi) + logs + left @ inverse @ left)
    )


def test_a_slope_of_known_size_is_integrated_by_quadrature() -> None:
    # its variance is a quarter of the residuals'
    fit = held("~x", [[1, 0], [0, 0]], np.diag([1.0, 0.25]))
    priors = {"sd(g)": HalfNormal(2), "sigma": HalfNormal(2)}
    post = fit.posterior(4000, priors, rng=1)
    assert list(post.draws)[2:] == ["sd(g)", "sigma"]
    nodes, weights = np.polynomial.legendre.leggauss(24)
    sd = 0.2 + 1.9 * 0.5 * (nodes + 1.0)
    sigma = 0.7 + 0.9 * 0.5 * (nodes + 1.0)
    z = np.column_stack([np.ones(len(ROWS)), ROWS["x"]])
    logs = np.array(
        [
            [
                log_likelihood(z, np.diag([a / s, 0.5]), s)
                + stats.halfnorm.logpdf([a, s], scale=2.0).sum()
                for s in sigma
            ]
            for a in sd
        ]
    )
    density = np.exp(logs - logs.max()) * np.outer(weights, weights)
    area = density.sum() * 0.95 * 0.45
    assert post.log_marginal_likelihood == pytest.approx(
        logs.max() + np.log(area), abs=0.01
    )
    density /= density.sum()
    for name, values, shares in (
        ("sd(g)", sd, density.sum(axis=1)),
        ("sigma", sigma, density.sum(axis=0)),
    ):
        mean = values @ shares
        spread = np.sqrt((values - mean) ** 2 @ shares)
        error = 4.0 * spread / np.sqrt(post.effective.loc[name, "ess_bulk"])
        assert abs(post.draws[name].mean() - mean) < error
        assert abs(post.draws[name].std() - spread) < error


CASES: dict[str, tuple[Any, Any, list[str]]] = {
    "one is independent": (
        [[1, 1, 0], [1, 1, 0], [0, 0, 1]],
        np.eye(3),
        ["sd(g)", "sd(x)", "sd(w)", "corr(g, x)"],
    ),
    "two are, given the third": (
        [[1, 0, 1], [0, 1, 1], [1, 1, 1]],
        np.eye(3),
        ["sd(g)", "sd(x)", "sd(w)", "corr(g, w)", "corr(x, w)"],
    ),
    "one has a known size": (
        [[0, 1, 0], [1, 1, 0], [0, 0, 1]],
        np.diag([1.0, 1.0, 0.3]),
        ["sd(x)", "sd(w)", "corr(g, x)"],
    ),
    "one loads on another": (
        [[1, 0, 1], [0, 1, 1], [1, 1, 1]],
        [[1.0, 0.4, 0.0], [0.4, 1.0, 0.0], [0.0, 0.0, 1.0]],
        ["sd(w)", "corr(g, w)", "corr(x, w)", "loading(g, g)", "loading(x, x)"],
    ),
    "all are known": (np.zeros((3, 3)), np.diag([1.0, 0.4, 0.3]), []),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_free_has_the_density_of_the_textbook(case: str) -> None:
    free, start, names = CASES[case]
    fit = held("~x + w", free, start)
    target = Target(fit.fit, {})
    assert target.names == [*names, "sigma"]
    at = target.start((fit.fit.theta, np.sqrt(fit.scale)))
    # the coordinates are those of the maximum, and of nothing else
    found = target.log_density(at[None])[2]
    assert found.llf[0] == pytest.approx(fit.llf)
    z = at + 0.3 * np.random.default_rng(0).normal(size=(3, target.k))
    logs, points, _ = target.log_density(z)
    effects, problem = fit.model.exog_re, fit.fit.problem
    fixed = fit.fit.layout.fixed
    for k, sigma in enumerate(points.sigma):
        factor = problem.z_map @ problem.factor(points.theta[k])
        entries = factor[np.tril_indices(3)]
        # what is held stays, and names say what is free
        kept = ~np.isnan(fixed)
        np.testing.assert_allclose(entries[kept], fixed[kept], atol=1e-12)
        cov = sigma**2 * factor @ factor.T
        corr = cov / np.sqrt(np.outer(np.diag(cov), np.diag(cov)))
        order, value = (
            ["g", "x", "w"],
            dict(zip(target.names, points.natural[k], strict=True)),
        )
        for name in names:
            kind, _, inside = name[:-1].partition("(")
            i = [order.index(part) for part in inside.split(", ")]
            if kind == "sd":
                assert value[name] == pytest.approx(np.sqrt(cov[i[0], i[0]]))
            elif kind == "corr":
                assert value[name] == pytest.approx(corr[i[0], i[1]])
            else:
                assert value[name] == pytest.approx(sigma * factor[i[0], i[1]])
        prior = points.log_prior[k] + points.log_jacobian[k]
        assert logs[k] - prior == pytest.approx(log_likelihood(effects, factor, sigma))


def test_correlations_that_are_free_have_the_prior_that_is_stated() -> None:
    # LKJ(1): uniform over the correlation matrices that there may be
    case = CASES["two are, given the third"]
    target = Target(held("~x + w", *case[:2]).fit, {})
    start = np.zeros(target.k)

    def log_prior(z: FloatArray) -> float:
        points = target.points(z[None])
        return float(points.log_prior[0] + points.log_jacobian[0])

    def corr(z: FloatArray) -> FloatArray:
        return target.points(z[None]).natural[0, 3:5]

    gap = []
    for at in (
        start,
        start + np.eye(target.k)[3],
        start + np.ones(target.k) * [0, 0, 0, 0.4, -0.7, 0],
    ):
        step = 1e-5 * np.eye(target.k)[3:5]
        slopes = [(corr(at + h) - corr(at - h)) / 2e-5 for h in step]
        gap.append(log_prior(at) - np.linalg.slogdet(np.array(slopes))[1])
    np.testing.assert_allclose(gap, gap[0], atol=1e-6)
    uniform = Target(held("~x + w", *CASES["one is independent"][:2]).fit, {})
    grid = np.linspace(-0.9, 0.9, 5)
    np.testing.assert_allclose(uniform.prior_of("corr(g, x)", grid), 0.5)


def test_priors_go_by_the_name_of_what_is_free() -> None:
    one = held("~x + w", *CASES["one is independent"][:2]).fit
    assert Target(one, {"corr(g, x)": Uniform(-0.5, 0.5)}).k == 5
    two = held("~x + w", *CASES["two are, given the third"][:2]).fit
    with pytest.raises(UnsupportedError, match="one of several"):
        Target(two, {"corr(g, w)": Uniform(-1, 1)})
    assert Target(two, {"corr(g)": LKJ(2)}).priors["corr(g)"] == LKJ(2)
