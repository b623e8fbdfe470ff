"""What is asked of a posterior, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mixedar.api as ma
import mixedar.formula.api as mar
from mixedar.datasets import load_orthodont
from mixedar.exceptions import (
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
)
from mixedar.posterior.coordinates import Target
from mixedar.posterior.results import Posterior
from mixedar.priors import (
    LKJ,
    PC,
    Beta,
    Exponential,
    HalfNormal,
    HalfT,
    LogNormal,
    Normal,
    Prior,
    Uniform,
)

TEETH = load_orthodont()


def model(**options: Any) -> Any:
    """Return a model of the teeth."""
    options = {"groups": "subject", "time": "occ", **options}
    return mar.mixedlm("distance ~ sex + age", TEETH, **options)


@pytest.fixture(scope="module")
def post() -> Posterior:
    return model().fit().posterior(2000, rng=1)


def test_draws_are_reproducible() -> None:
    fit = model().fit()
    first, again = fit.posterior(500, rng=3), fit.posterior(500, rng=3)
    pd.testing.assert_frame_equal(first.draws, again.draws)
    other = fit.posterior(500, rng=np.random.default_rng(4))
    assert not other.draws.equals(first.draws)


def test_columns_are_named_as_those_of_the_fit(post: Posterior) -> None:
    fit = model(re_formula="~age").fit()
    draws = fit.posterior(500, rng=1).draws
    named = set(fit.params.index) | set(fit.conf_int_re(method="wald").index)
    assert set(draws) <= named
    assert list(post.draws) == [
        *("Intercept", "sex[T.Male]", "age", "sd(subject)", "rho", "sigma")
    ]


def test_many_groups_and_flat_priors_give_reml() -> None:
    rng = np.random.default_rng(7)
    m, n = 4000, 4
    group = np.repeat(np.arange(m), n)
    x = rng.normal(size=m * n)
    y = 1.0 + 0.5 * x + 0.8 * rng.normal(size=m)[group] + rng.normal(size=m * n)
    data = pd.DataFrame({"y": y, "x": x, "g": group})
    fit = mar.mixedlm("y ~ x", data, groups="g", residual="independent").fit()
    draws = fit.posterior(8000, rng=1).draws
    wide = {"sd(g)": np.sqrt(fit.cov_re.iloc[0, 0]), "sigma": np.sqrt(fit.scale)}
    for name, value in {**fit.fe_params.to_dict(), **wide}.items():
        # the maximum and the mean differ by what is of the order of 1 / m
        assert abs(draws[name].mean() - value) < 0.1 * draws[name].std()
    np.testing.assert_allclose(draws[["Intercept", "x"]].std(), fit.bse_fe, rtol=0.04)


def test_summary_prints_the_priors(post: Posterior) -> None:
    text = str(post.summary())
    assert "HalfT(df=3, scale=7.321)" in text
    assert "flat" in text
    assert repr(post) == post.summary().as_text()
    frame = post.summary_frame(alpha=0.1)
    assert list(frame) == ["mean", "sd", "5%", "50%", "95%", "ess_bulk", "ess_tail"]
    np.testing.assert_allclose(frame["mean"], post.draws.mean())


def test_probabilities_are_shares_of_draws(post: Posterior) -> None:
    draws = post.draws
    expected = ((draws["sex[T.Male]"] > 2.0) & (draws["sd(subject)"] < 2.0)).mean()
    for event in (
        "sex[T.Male] > 2 and sd(subject) < 2",
        "`sex[T.Male]` > 2 & `sd(subject)` < 2",
        "(sex[T.Male] > 2) & (sd(subject) < 2)",
    ):
        if "&" in event and "(" not in event.replace("(subject)", ""):
            event = event.replace(" & ", " and ")
        assert post.probability(event) == pytest.approx(expected)


@pytest.mark.parametrize("event", ["age", "age +", 3, "age > 0; 1"])
def test_what_is_no_event_is_refused(post: Posterior, event: Any) -> None:
    with pytest.raises(UnsupportedError, match="event"):
        post.probability(event)


def test_unknown_names_in_events_are_named(post: Posterior) -> None:
    for event, name in {
        "weight > 0": "'weight' is no parameter. The parameters are Intercept, ",
        "sd(subjct) > 1": "'sd(subjct)' is no parameter. Did you mean 'sd(subject)'",
        "`subject Var` > 1": "'subject Var' is no parameter",
        "abs(age) > 0 and sd(g": "'sd' is no parameter",
    }.items():
        with pytest.raises(UnknownColumnError, match=re.escape(name)):
            post.probability(event)


@pytest.mark.parametrize(
    "event", ["(age > 0", "age > 0)", "age > 'a'", "", "age > 0 or"]
)
def test_what_cannot_be_read_is_said_in_our_words(post: Posterior, event: str) -> None:
    with pytest.raises(UnsupportedError, match="cannot be read: write comparisons of"):
        post.probability(event)


def test_groups_make_up_the_likelihood(post: Posterior) -> None:
    by_group = post.log_likelihood(draws=50)
    np.testing.assert_allclose(by_group.sum(axis=1), post.log_densities[1][:50])
    assert list(by_group.columns) == list(post.fit.data.group_labels)


def test_leaving_a_group_out_is_fitting_without_it() -> None:
    # exact: the density of a group's response under the posterior without it
    whole = model(residual="independent").fit().posterior(4000, rng=1)
    found = whole.loo(draws=4000).table
    label = found["k"].idxmin()
    rest = TEETH[TEETH["subject"] != label]
    fit = mar.mixedlm(
        "distance ~ sex + age", rest, groups="subject", residual="independent"
    ).fit()
    priors = {name: HalfT(3, 7.321442) for name in ("sd(subject)", "sigma")}
    draws = fit.posterior(4000, priors, rng=2).draws
    own = TEETH[TEETH["subject"] == label]
    x = np.column_stack([np.ones(len(own)), own["sex"] == "Male", own["age"]]).astype(
        float
    )
    y = own["distance"].to_numpy()
    density = [
        stats.multivariate_normal.pdf(
            y,
            x @ row[:3],
            row[3] ** 2 * np.ones((len(y), len(y))) + row[4] ** 2 * np.eye(len(y)),
        )
        for row in draws.to_numpy()
    ]
    assert found.loc[label, "elpd"] == pytest.approx(np.log(np.mean(density)), abs=0.06)


def test_new_data_have_the_mean_of_the_data(post: Posterior) -> None:
    drawn = post.replicate(400, rng=1)
    assert drawn.shape == (len(TEETH), 400)
    assert drawn.to_numpy().mean() == pytest.approx(TEETH["distance"].mean(), abs=0.15)
    inside = (drawn.std() > TEETH["distance"].std()).mean()
    assert 0.05 < inside < 0.95


def test_population_predictions_are_those_of_the_draws(post: Posterior) -> None:
    row = TEETH.head(1)
    found = post.predict(row, thetas=2000).iloc[0]
    x = np.array([1.0, row["sex"].iloc[0] == "Male", row["age"].iloc[0]])
    drawn = post.draws.iloc[:, :3].to_numpy() @ x
    assert found["mean"] == pytest.approx(drawn.mean(), abs=4 * drawn.std() / 44.0)
    assert found["sd"] == pytest.approx(drawn.std(), rel=0.1)
    assert found["obs_sd"] > found["sd"]


def test_a_tight_prior_moves_what_it_is_on() -> None:
    fit = model().fit()
    tight = fit.posterior(2000, {"age": Normal(0.0, 0.01)}, rng=1)
    assert abs(tight.draws["age"].mean()) < 0.05
    found = tight.prior_sensitivity()
    assert found.loc["age", "diagnosis"]
    assert not fit.posterior(2000, rng=1).prior_sensitivity()["diagnosis"].any()


@pytest.mark.parametrize(
    "priors", [{}, {"age": Normal(0.5, 0.2), "Intercept": Normal(20, 3)}]
)
def test_fixed_effects_are_drawn_by_the_root_of_cholesky(priors: Any) -> None:
    target = Target(model().fit().fit, priors)
    z = target.start((target.fit.theta, 1.4)) + 0.1 * np.arange(3)[:, None]
    _, points, found = target.log_density(z)
    mean, root = target.fixed_effects(points, found)
    where, middle, sd = target.normal_priors()
    told, shift = np.zeros((3, 3)), np.zeros(3)
    told[where, where], shift[where] = sd**-2, middle / sd**2
    for k, sigma in enumerate(points.sigma):
        precision = np.linalg.inv(found.root[k] @ found.root[k].T) / sigma**2
        cov = np.linalg.inv(precision + told)
        np.testing.assert_allclose(root[k], np.linalg.cholesky(cov), atol=1e-9)
        np.testing.assert_allclose(mean[k], cov @ (precision @ found.beta[k] + shift))


def test_bayes_factors_need_proper_priors_on_what_differs(post: Posterior) -> None:
    smaller = mar.mixedlm("distance ~ age", TEETH, groups="subject", time="occ").fit()
    with pytest.raises(UnsupportedError, match=r"sex\[T.Male\]"):
        post.bayes_factor(smaller.posterior(500, rng=1))
    proper = model().fit().posterior(2000, {"sex[T.Male]": Normal(0, 3)}, rng=1)
    ratio = proper.bayes_factor(smaller.posterior(2000, rng=1))
    # Savage and Dickey: the density at zero, prior by posterior
    mean, root = proper.target.fixed_effects(proper.points, proper.profiles)
    sd = np.sqrt((root[:, 1] ** 2).sum(axis=1))
    height = stats.norm.pdf(0.0, mean[:, 1], sd).mean()
    assert ratio == pytest.approx(stats.norm.pdf(0, 0, 3) / height, rel=0.05)
    with pytest.raises(UnsupportedError, match=r"by='row': choose .*'group'"):
        post.loo(by="row")
    with pytest.raises(UnsupportedError, match="no posterior"):
        post.bayes_factor(3)  # type: ignore[arg-type]


def test_ranges_that_depend_on_one_another_have_their_volume() -> None:
    # three occasions: a correlation matrix covers pi^2 / 16 of the cube
    three = TEETH[TEETH["occ"] < 4]
    fit = mar.mixedlm(
        *("distance ~ age", three),
        groups="subject",
        re_formula="0",
        time="occ",
        residual="un",
    ).fit()
    target = Target(fit.fit, {})
    assert target.log_volume() == pytest.approx(np.log(np.pi**2 / 16), abs=0.06)


@pytest.mark.parametrize(
    ("priors", "text"),
    [
        ({"rho": Uniform(-np.inf, 1)}, "improper"),
        ({"sigma": LKJ(2)}, "one number"),
        ({"corr(subject)": HalfT(3, 1)}, "LKJ"),
        ({"age": HalfNormal(1)}, "Normal"),
        ({"sigma": 3.0}, "mixedar.priors"),
    ],
)
def test_priors_that_do_not_suit_are_refused(priors: Any, text: str) -> None:
    fit = model(re_formula="~age").fit()
    with pytest.raises(UnsupportedError, match=text):
        fit.posterior(100, priors)


def test_priors_may_leave_out_the_maximum_of_the_likelihood() -> None:
    fit = model().fit()
    free = fit.posterior(8000, rng=1).draws["rho"]
    assert not 0.2 < fit.rho < 0.6
    inside = fit.posterior(4000, {"rho": Uniform(0.2, 0.6)}, rng=1).draws["rho"]
    assert inside.between(0.2, 0.6).all()
    # what is left of the flat prior's
    expected = free[free.between(0.2, 0.6)]
    error = 4.0 * expected.std() / np.sqrt(len(expected))
    assert inside.mean() == pytest.approx(expected.mean(), abs=error)
    with pytest.raises(UnsupportedError, match="'rho' is zero wherever"):
        fit.posterior(100, {"rho": Uniform(2, 3)})


def test_unknown_parameters_of_priors_are_named() -> None:
    with pytest.raises(UnknownColumnError, match="'tau'"):
        model().fit().posterior(100, {"tau": HalfNormal(1)})
    with pytest.raises(UnsupportedError, match="mapping"):
        model().fit().posterior(100, [HalfNormal(1)])


@pytest.mark.parametrize(
    ("prior", "low", "high"),
    [
        (HalfT(3, 2), 0.0, np.inf),
        (HalfNormal(2), 0.0, np.inf),
        (Exponential(0.5), 0.0, np.inf),
        (PC(2, 0.05), 0.0, np.inf),
        (Normal(1, 2), -np.inf, np.inf),
        (LogNormal(10, 1.5), 0.0, np.inf),
        (Uniform(-1, 2), -1.0, 2.0),
        (Beta(2, 3), -1.0, 1.0),
    ],
)
def test_priors_integrate_to_one(prior: Prior, low: float, high: float) -> None:
    from scipy.integrate import quad

    def density(x: float) -> float:
        return float(np.exp(prior.log_density(np.array([x])))[0])

    middle = low if np.isfinite(low) else 0.0
    area = quad(density, middle, min(high, 1000.0), limit=400, points=[middle + 2])[0]
    if not np.isfinite(low):
        area += quad(density, -1000.0, middle, limit=400, points=[middle - 2])[0]
    assert area == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize(
    ("prior", "low", "high", "share"),
    [
        (HalfT(3, 2), 0.0, np.inf, 1.0),
        (HalfNormal(0.5), -1.0, 1.0, stats.halfnorm.cdf(2.0)),
        (Exponential(2.0), -1.0, 1.0, 1.0 - np.exp(-2.0)),
        (Normal(1, 2), 0.0, np.inf, stats.norm.cdf(0.5)),
        (Uniform(-3, 1), -1.0, 1.0, 0.5),
        (Beta(2, 3), 0.0, np.inf, 1.0 - stats.beta.cdf(0.5, 2, 3)),
        (Beta(0.5, 0.5), -1.0, 1.0, 1.0),
    ],
)
def test_what_a_range_has_of_a_prior(
    prior: Prior, low: float, high: float, share: float
) -> None:
    assert prior.share(low, high) == pytest.approx(share, abs=1e-6)


def test_priors_that_reach_beyond_a_parameter_count_within() -> None:
    fit, names = model().fit().fit, ("sigma", "rho")
    for beyond, within in (
        ((Normal(0, 1), Uniform(-3, 1)), (HalfNormal(1), Uniform(-1, 1))),
        ((Uniform(-5, 5), Normal(0, 9e9)), (Uniform(0, 5), Beta(1, 1))),
    ):
        wide, narrow = (
            Target(fit, dict(zip(names, priors, strict=True)))
            for priors in (beyond, within)
        )
        z = narrow.start((fit.theta, 1.4))[None]
        gap = wide.log_density(z)[0] - wide.log_volume()
        assert gap == pytest.approx(narrow.log_density(z)[0] - narrow.log_volume())
    with pytest.raises(UnsupportedError, match="HalfT: scale='a' is not a positive"):
        HalfT(3, "a")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "prior"),
    [("sigma", Beta(2, 2)), ("sigma", Normal(-5, 0.1)), ("rho", Normal(5, 0.1))],
)
def test_priors_beyond_the_range_are_refused(name: str, prior: Any) -> None:
    with pytest.raises(UnsupportedError, match=f"'{name}' (takes Half|is zero)"):
        model().fit().posterior(100, {name: prior}, rng=1)


@pytest.mark.parametrize("mean", [np.nan, np.inf])
def test_a_normal_prior_has_a_finite_mean(mean: float) -> None:
    with pytest.raises(UnsupportedError, match="not a finite number"):
        Normal(mean, 1.0)


def test_penalised_complexity_is_what_it_says() -> None:
    prior = PC(2.0, 0.05)
    assert np.exp(-prior.rate * 2.0) == pytest.approx(0.05)


def test_other_structures_and_several_factors() -> None:
    rng = np.random.default_rng(2)
    a, b = np.repeat(np.arange(20), 10), np.tile(np.arange(10), 20)
    y = rng.normal(size=20)[a] + 0.7 * rng.normal(size=10)[b] + rng.normal(size=200)
    data = pd.DataFrame({"y": y, "a": a, "b": b})
    crossed = mar.mixedlm("y ~ 1 + (1 | a) + (1 | b)", data).fit().posterior(500, rng=1)
    assert {"sd(a)", "sd(b)", "sigma"} <= set(crossed.draws)
    assert len(crossed.ranef("b", thetas=20)) == 10
    with pytest.raises(UnsupportedError, match="log_marginal_likelihood"):
        crossed.loo()
    spread = model(weights=ma.VarIdent("sex")).fit().posterior(500, rng=1)
    assert spread.draws.shape[1] == 7


def test_nested_factors_have_parts_of_the_outermost() -> None:
    rng = np.random.default_rng(5)
    school, room = np.repeat(np.arange(8), 12), np.repeat(np.arange(24), 4)
    data = pd.DataFrame(
        {"school": [f"s{k}" for k in school], "room": room, "t": np.tile(range(4), 24)}
    )
    y = rng.normal(size=8)[school] + rng.normal(size=24)[room] + rng.normal(size=96)
    data["y"] = y + 0.5 * data["t"]
    order, t = rng.permutation(96), data["t"].to_numpy()
    nested = mar.mixedlm("y ~ t + (1 | school/room)", data.iloc[order], time="t")
    post = nested.fit().posterior(200, rng=1)
    found = post.log_likelihood(draws=20)
    assert sorted(found.columns) == sorted(set(data["school"]))
    for k in (0, 19):
        draw = post.draws.iloc[k]
        apart = np.abs(np.subtract.outer(t, t))
        own = np.equal.outer(room, room)
        cov = draw["sd(school:room)"] ** 2 * own + draw["sd(school)"] ** 2
        cov = cov + draw["sigma"] ** 2 * own * draw["rho"] ** apart.astype(float)
        resid = y + 0.5 * t - draw["Intercept"] - draw["t"] * t
        for label in found.columns:
            here = np.flatnonzero(data["school"] == label)
            density = stats.multivariate_normal(np.zeros(12), cov[np.ix_(here, here)])
            assert found.loc[k, label] == pytest.approx(density.logpdf(resid[here]))
    loo = post.loo(draws=200)
    assert len(loo.table) == 8
    assert "No. levels of school:  8" in str(loo)


def machines() -> pd.DataFrame:
    """Return six workers on three machines each."""
    rng = np.random.default_rng(8)
    worker, rest = np.divmod(np.arange(54), 9)
    machine = rest // 3
    effects = rng.normal(size=(6, 1)) + rng.normal(size=(6, 3))
    y = machine + effects[worker, machine] + 0.5 * rng.normal(size=54)
    return pd.DataFrame({"y": y, "worker": worker, "m": np.array(list("abc"))[machine]})


def test_effects_that_share_a_correlation_have_the_density_of_the_textbook() -> None:
    data = machines()
    fit = mar.mixedlm(
        *("y ~ m", data),
        groups="worker",
        re_formula="0 + m",
        re_cov="compound",
        residual="independent",
    ).fit()
    post = fit.posterior(500, {"sigma": HalfNormal(2), "sd(m)": HalfT(3, 4)}, rng=1)
    assert list(post.draws)[3:] == ["sd(m)", "corr(m)", "sigma"]
    assert post.priors["corr(m)"] == "Uniform(lower=-0.5, upper=1)"
    z = np.array([[0.3, 0.4, -0.8], [-0.5, -1.0, 0.2]])
    found, points, _ = post.target.log_density(z)
    x, y = fit.model.exog, data["y"].to_numpy()
    own = (data["m"].to_numpy()[:, None] == np.array(["a", "b", "c"])).astype(float)
    same = np.equal.outer(data["worker"].to_numpy(), data["worker"].to_numpy())
    for k, (sd, rho, sigma) in enumerate(points.natural):
        assert sd == pytest.approx(np.exp(z[k, 0]))
        psi = sd**2 * (rho * np.ones((3, 3)) + (1.0 - rho) * np.eye(3))
        v = same * (own @ psi @ own.T) + sigma**2 * np.eye(54)
        inverse = np.linalg.inv(v)
        left = y - x @ np.linalg.solve(x.T @ inverse @ x, x.T @ inverse @ y)
        logs = np.linalg.slogdet(v)[1] + np.linalg.slogdet(x.T @ inverse @ x)[1]
        density = -0.5 * (51 * np.log(2 * np.pi) + logs + left @ inverse @ left)
        density += np.log(2.0) + stats.t.logpdf(sd, 3, scale=4.0) + np.log(sd)
        density += np.log(2.0) + stats.norm.logpdf(sigma, scale=2.0) + np.log(sigma)
        # uniform between -1/2 and 1, by the slope of 1/4 + 3/4 tanh(z)
        density += np.log(2.0 / 3.0) + np.log(0.75 / np.cosh(z[k, 1]) ** 2)
        assert found[k] == pytest.approx(density)
    wide = fit.posterior(2000, {"corr(m)": Uniform(-1, 1)}, rng=1)
    narrow = fit.posterior(2000, rng=1)
    # what lies below -1/2 is no covariance, and no part of the prior
    gap = wide.log_marginal_likelihood - narrow.log_marginal_likelihood
    assert gap == pytest.approx(0.0, abs=1e-3)
    with pytest.raises(UnsupportedError, match="one number"):
        fit.posterior(100, {"corr(m)": LKJ(2)})


def test_pictures_have_prior_and_posterior(post: Posterior) -> None:
    figure = post.plot()
    assert len(figure.axes) >= 6
    ax = post.plot("rho")
    assert [line.get_label() for line in ax.lines] == ["posterior", "prior"]
    # the prior is uniform between -1 and 1
    np.testing.assert_allclose(ax.lines[1].get_ydata(), 0.5)
    plt.close("all")


def test_arviz_is_asked_for_when_it_is_missing(
    post: Posterior, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "arviz", None)
    with pytest.raises(NotComputedError, match="pip install"):
        post.to_arviz()


def test_arviz_gets_all_groups(post: Posterior) -> None:
    pytest.importorskip("arviz")
    data = post.to_arviz(draws=50)  # 48 of them
    assert data.posterior["rho"].shape == (4, 12)
    assert data.log_likelihood["distance"].shape == (4, 12, 27)
    assert data.posterior_predictive["distance"].shape == (4, 12, 108)
    assert data.observed_data["distance"].shape == (108,)
