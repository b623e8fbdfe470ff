"""Options are one of their choices; filters of warnings are the user's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from inspect import Parameter, isabstract, signature
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.api as ma
import mixedar.formula.api as mar
from helpers.bad_data import make
from mixedar import AR1, ARMA, MixedLMAR, VarIdent, VarPower, priors
from mixedar.exceptions import (
    BoundaryWarning,
    MixedARError,
    NotComputedError,
    TimeError,
    UnsupportedError,
)
from mixedar.residual import Exponential

DATA = make(seed=1)


@cache
def mixed() -> Any:
    return mar.mixedlm("y ~ x", DATA, groups="id", time="t").fit()


@cache
def panel(kind: str = "fixed_effects") -> Any:
    return getattr(mar, kind)("y ~ x", DATA, "id", "t").fit()


def model() -> MixedLMAR:
    return mixed().model


# Names that users do not construct.
NO_CHOICE = {"TYPE_CHECKING", "ByGroupResults", "MixedLMARResults", "PanelResults"}


CALLS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "reml": ("reml", lambda v: model().fit(reml=v)),
    "do_cg": ("do_cg", lambda v: model().fit(do_cg=v)),
    "full_output": ("full_output", lambda v: model().fit(full_output=v)),
    "use_sqrt": (
        "use_sqrt",
        lambda v: mar.mixedlm("y ~ x", DATA, groups="id", use_sqrt=v),
    ),
    "use_sparse": (
        "use_sparse",
        lambda v: mar.mixedlm(
            "y ~ x", DATA, groups="id", vc_formula={"t": "0 + C(t)"}, use_sparse=v
        ),
    ),
    "fixed": ("fixed", lambda v: AR1(0.5, fixed=v)),
    "nugget": ("nugget", lambda v: AR1(nugget=v)),
    "nugget in space": ("nugget", lambda v: Exponential("x", nugget=v)),
    "fixed ARMA": ("fixed", lambda v: ARMA(1, 1, fixed=v)),
    "fixed power": ("fixed", lambda v: VarPower("x", power=1.0, fixed=v)),
    "fixed strata": ("fixed", lambda v: VarIdent("x", fixed=v)),
    "use_t": ("use_t", lambda v: mixed().t_test("x = 0", use_t=v)),
    "use_f": ("use_f", lambda v: mixed().wald_test("x = 0", use_f=v)),
    "scalar": ("scalar", lambda v: mixed().wald_test("x = 0", scalar=v)),
    "robust use_t": ("use_t", lambda v: mixed().get_robustcov_results(use_t=v)),
    "skip_single": ("skip_single", lambda v: mixed().wald_test_terms(skip_single=v)),
    "obs": ("obs", lambda v: mixed().get_prediction().conf_int(obs=v)),
    "transform": ("transform", lambda v: mixed().predict(DATA, transform=v)),
    "include_theta": (
        "include_theta",
        lambda v: mixed().get_prediction(include_theta=v),
    ),
    "standard_errors": (
        "standard_errors",
        lambda v: mixed().random_effects_frame(standard_errors=v),
    ),
    "robust": ("robust", lambda v: mixed().variogram(robust=v)),
    "studentize": (
        "studentize",
        lambda v: mixed().heteroscedasticity_test(studentize=v),
    ),
    "trend": ("trend", lambda v: mixed().heteroscedasticity_test(trend=v)),
    "external": ("external", lambda v: mixed().influence(1).outlier_test(external=v)),
    "pictures": ("pictures", lambda v: mixed().report(pictures=v)),
    "progress": ("progress", lambda v: mixed().bootstrap(2, progress=v)),
    "pool": ("pool", lambda v: mar.by_group("y ~ x", DATA, "id", pool=v)),
    "pool later": (
        "pool",
        lambda v: mar.by_group("y ~ x", DATA, "id").conf_int(pool=v),
    ),
    "drift": (
        "drift",
        lambda v: mar.first_difference("y ~ x", DATA, "id", "t", drift=v),
    ),
    "two_step": (
        "two_step",
        lambda v: mar.fixed_effects_ar1("y ~ x", DATA, "id", "t").fit(two_step=v),
    ),
    "panel use_f": ("use_f", lambda v: panel().wald_test("x = 0", use_f=v)),
    "hausman": (
        "use_f",
        lambda v: mar.hausman(panel(), panel("random_effects"), use_f=v),
    ),
    "allow": (
        "allow_different_samples",
        lambda v: mar.compare({"a": mixed()}, allow_different_samples=v),
    ),
    "stars": ("stars", lambda v: mar.compare({"a": mixed()}, stars=v)),
    "select": ("reml", lambda v: mar.select_residual(model(), ["ar1"], reml=v)),
}


@pytest.mark.parametrize("name", CALLS)
def test_flags_are_true_or_false(name: str) -> None:
    argument, call = CALLS[name]
    for wrong in ("no", "ML", 2, [True]):
        with pytest.raises(UnsupportedError, match=f"{argument}="):
            call(wrong)


def test_numpy_flags_will_do() -> None:
    assert model().fit(reml=np.False_).method == "ML"
    assert model().fit(reml=np.True_).llf == mixed().llf


@pytest.mark.parametrize("cov_type", ["HC3", "robust", None, 3])
def test_covariances_that_are_none(cov_type: Any) -> None:
    with pytest.raises(UnsupportedError, match=r"cov_type=.*CR2"):
        model().fit(cov_type=cov_type)


@pytest.mark.parametrize("alpha", [2, 0, "a", None, True, -0.1, 1 + 0j, float("nan")])
def test_one_check_of_alpha(alpha: Any) -> None:
    own = mar.by_group("y ~ x", DATA, "id")
    for call in (
        lambda: panel().conf_int(alpha),
        lambda: panel().summary(alpha=alpha),
        lambda: mixed().conf_int(alpha),
        lambda: mixed().conf_int_re(method="wald", alpha=alpha),
        lambda: mixed().get_prediction().summary_frame(alpha),
        lambda: mixed().random_effects_frame(alpha=alpha),
        lambda: mixed().serial_correlation_test().rejects(alpha),
        lambda: mixed().report(alpha=alpha, pictures=False),
        lambda: own.conf_int(alpha),
        lambda: mar.tidy(panel(), alpha),
        lambda: mar.compare({"a": panel()}, alpha=alpha),
        lambda: mar.hausman(panel(), panel("random_effects")).rejects(alpha),
    ):
        with pytest.raises(UnsupportedError, match="alpha="):
            call()


# Filters of warnings


def test_refits_in_threads_leave_no_filter() -> None:
    flat = at_boundary()
    ys = [flat.endog * k for k in range(1, 13)]
    before = list(warnings.filters)
    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda y: flat.refit(y).llf, ys))
    assert warnings.filters == before


def at_boundary() -> MixedLMAR:
    """A model whose random effects have no variance."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=len(DATA))
    y -= y.reshape(-1, 5).mean(axis=1).repeat(5)
    return mar.mixedlm("y ~ x", DATA.assign(y=y), groups="id")


def test_who_is_warned_of_the_boundary() -> None:
    boundary = at_boundary()
    with pytest.warns(BoundaryWarning, match="singular"):
        boundary.fit()
    assert boundary.refit(boundary.endog).at_boundary  # warnings are errors here
    found: list[Warning] = []
    boundary.fit(collected=found)
    assert [type(each).__mro__[1] for each in found] == [BoundaryWarning]
    chosen = mar.select_residual(boundary, ["independent"])
    assert "singular" in chosen.table["note"].iloc[0]


# Arguments that are none


@pytest.mark.parametrize(
    ("match", "call"),
    [
        ("bin_width=", lambda: mixed().acf(bin_width="a")),
        ("max_lag=", lambda: mixed().acf(max_lag=-1)),
        ("max_distance=", lambda: mixed().variogram(max_distance=-1)),
        ("lags=", lambda: mixed().serial_correlation_test(lags="a")),
        ("rng='a'", lambda: mixed().bootstrap(2, seed="a")),
        ("rng=-1", lambda: mixed().simulate(1, seed=-1)),
        ("rng=1.5", lambda: mixed().anova(null_model(), null="simulate", seed=1.5)),
        ("n_sim=", lambda: mixed().simulate(10**12)),
        ("cols: ", lambda: mixed().conf_int(cols=1.5)),
        ("'sd'", lambda: mixed().conf_int_re(parameters=["sd", 3], method="wald")),
        ("xname_fe", lambda: mixed().summary(xname_fe="ab")),
        ("gtol=", lambda: model().fit(gtol=-1)),
        ("start_params", lambda: model().fit(start_params=[1.0] * 9)),
        ("cov_p is not numeric", lambda: mixed().wald_test("x = 0", cov_p="a")),
        ("kind=", lambda: mixed().residuals(kind=["raw"])),
        ("adjust=", lambda: means().pairwise(adjust=3)),
        ("method=", lambda: mixed().influence(1).outlier_test(method=3)),
        ("shape", lambda: mixed().get_prediction(exog=3.0)),
        ("rename=", lambda: mar.compare({"a": mixed()}, rename=["x"])),
        ("n_sim=", lambda: mar.hausman(panel(), panel("random_effects"), "bootstrap",
                                      reps="a")),
        ("rng=", lambda: mar.hausman(panel(), panel("random_effects"), "bootstrap",
                                      reps=20, seed="a", progress=False)),
        ("xname", lambda: panel().summary(xname=3)),
    ],
)  # fmt: skip
def test_arguments_of_another_kind(match: str, call: Callable[[], Any]) -> None:
    with pytest.raises(MixedARError, match=match):
        call()


@cache
def null_model() -> Any:
    return mar.mixedlm("y ~ x", DATA, groups="id", residual="independent").fit()


@cache
def means() -> Any:
    data = DATA.assign(arm=np.where(DATA["id"] % 2, "b", "a"))
    return mar.mixedlm("y ~ arm", data, groups="id").fit().marginal_means("arm")


def test_models_without_their_data_say_so() -> None:
    fit = mar.mixedlm("y ~ x", DATA, groups="id", time="t").fit()
    point = fit.params_object
    fit.remove_data()
    for call in (
        lambda: fit.model.with_endog(DATA["y"]),
        lambda: fit.model.loglike(point),
        lambda: fit.model.score(point),
        lambda: fit.model.fit(),
        lambda: fit.model.get_distribution([1.0, 1.0, 1.0, 0.5], 1.0),
    ):
        with pytest.raises(NotComputedError, match="removed"):
            call()


def test_models_without_fixed_effects() -> None:
    fit = mar.mixedlm("y ~ 0", DATA, groups="id", time="t").fit()
    assert fit.shrinkage().table.index.get_level_values(0).nunique() == 30
    assert "Scale" in str(fit.with_df("kenward-roger").summary())
    fit.plot()


def test_labels_that_are_tuples() -> None:
    plain = mar.mixedlm("y ~ x", DATA, groups="id", time="t").fit()
    labels = pd.Series([("g", k) for k in DATA["id"]], DATA.index)
    fit = mar.mixedlm("y ~ x", DATA.assign(id=labels), groups="id", time="t").fit()
    effects = fit.random_effects_frame()
    assert effects.index[3] == ("g", 3)
    assert effects.index.nlevels == 1
    np.testing.assert_allclose(effects, plain.random_effects_frame())
    np.testing.assert_allclose(
        fit.influence(1).cooks_distance, plain.influence(1).cooks_distance
    )
    assert fit.ranef().index.tolist() == labels.unique().tolist()
    other = plain.group_covariance(3)
    np.testing.assert_allclose(fit.group_covariance(("g", 3)), other)
    text = plain.residual_spread(DATA["id"].map("{:02d}".format))
    np.testing.assert_allclose(fit.residual_spread(labels), text)
    panel_fit = mar.fixed_effects("y ~ x", DATA.assign(id=labels), "id", "t").fit()
    assert panel_fit.effects.index[0] == ("g", 0)


def test_labels_that_are_tuples_go_on_and_are_left_out() -> None:
    labels = pd.Series([("g", k) for k in DATA["id"]], DATA.index)
    plain, fit = (
        mar.mixedlm("y ~ 1", data, groups="id", time="t").fit()
        for data in (DATA, DATA.assign(id=labels))
    )
    ahead = fit.forecast(2).summary_frame()
    np.testing.assert_allclose(ahead, plain.forecast(2).summary_frame())
    assert ahead.index.names == ["id", "t"]
    assert ahead.index[0][0] == ("g", 0)
    left = fit.posterior(50, rng=1).log_likelihood()
    assert left.columns.tolist() == labels.unique().tolist()
    schools = pd.Series([("s", k % 5) for k in DATA["id"]], DATA.index)
    pupils = DATA.assign(school=schools, y=DATA["y"] + 2.0 * (DATA["id"] % 5))
    nested = mar.mixedlm("y ~ 1 + (1 | school/id)", pupils)
    left = nested.fit().posterior(20, rng=1).log_likelihood()
    assert left.columns[0] == ("s", 0)


def test_dates_beyond_nanoseconds() -> None:
    early = np.datetime64("1500-12-30", "s") + DATA["t"].to_numpy().astype("m8[D]")
    with pytest.raises(TimeError, match="nanoseconds"):
        mar.mixedlm("y ~ x", DATA.assign(t=early), groups="id", time="t")


@pytest.mark.parametrize(
    ("near", "call"),
    [
        ("reml", lambda: model().fit(rmel=False)),
        ("maxiter", lambda: model().fit(maxiters=3)),
        ("alpha", lambda: mixed().conf_int_re(alfa=0.1)),
        ("level", lambda: mixed().get_prediction(levels="group")),
        ("max_lag", lambda: mixed().acf(maxlag=2)),
        ("steps", lambda: mixed().forecast(step=2)),
        ("cov_type", lambda: panel().model.fit(covtype="robust")),
        ("cluster", lambda: panel("random_effects").model.fit(clusters="id")),
        ("alpha", lambda: panel().conf_int(alfa=0.1)),
        ("use_f", lambda: panel().wald_test("x = 0", useF=True)),
        ("alpha", lambda: mixed().conf_int(alfa=0.1)),
        ("groups", lambda: mar.by_group("y ~ x", DATA, group="id")),
        ("alpha", lambda: mar.by_group("y ~ x", DATA, groups="id").conf_int(alfa=0.1)),
        ("alpha", lambda: mar.tidy(panel(), alfa=0.1)),
    ],
)
def test_misspelt_arguments_name_the_near_one(
    near: str, call: Callable[[], Any]
) -> None:
    with pytest.raises(TypeError, match=rf"unexpected .* Did you mean {near}=\?$"):
        call()


def longest_name(function: Callable[..., Any]) -> str | None:
    """The longest name that an argument has; None if there is none, or any will do."""
    kinds = {p.name: p.kind for p in signature(function).parameters.values()}
    if isabstract(function) or Parameter.VAR_KEYWORD in kinds.values():
        return None
    named = Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY
    return max((k for k, kind in kinds.items() if kind in named), key=len, default=None)


CONSTRUCTORS = {
    **{n: getattr(ma, n) for n in dir(ma) if n[0].isupper() and n not in NO_CHOICE},
    **{f"priors.{n}": getattr(priors, n) for n in priors.__all__},
    **{n: getattr(ma, n) for n in ("check_structure", "glance", "load")},
    "Relationship.from_pedigree": ma.Relationship.from_pedigree,
}


@pytest.mark.parametrize(
    "name", [n for n, f in CONSTRUCTORS.items() if longest_name(f)]
)
def test_misspelt_arguments_of_constructors_name_the_near_one(name: str) -> None:
    function = CONSTRUCTORS[name]
    asked = longest_name(function)
    with pytest.raises(TypeError, match=rf"unexpected .* Did you mean {asked}=\?$"):
        function(**{f"{asked}_": 1})


def test_misspelt_arguments_of_panels_name_the_near_one() -> None:
    match = "'weigths' is not known to FixedEffects. Did you mean weights="
    with pytest.raises(UnsupportedError, match=match):
        mar.fixed_effects("y ~ x", DATA, "id", "t", weigths="w")


@pytest.mark.parametrize("further", [{"level": "group"}, {"offsets": "w"}])
def test_predict_takes_no_argument_that_it_does_not_use(further: Any) -> None:
    with pytest.raises(UnsupportedError, match=f"does not know {min(further)}; get_p"):
        mixed().predict(DATA, **further)
    with pytest.raises(UnsupportedError, match="a third argument"):
        mixed().predict(DATA, True, "group")
