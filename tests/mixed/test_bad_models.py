"""Models that the data cannot carry, absurd numbers, options that do not exist."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from statsmodels.regression.mixed_linear_model import MixedLMParams

import mixedar.formula.api as mar
from helpers.bad_data import (
    Builder,
    N,
    both,
    by_arrays,
    by_formula,
    make,
    message_of,
    with_slope,
)
from mixedar import AR1, CAR1, MixedLMAR
from mixedar.exceptions import (
    BoundaryWarning,
    ConvergenceWarning,
    GroupError,
    IdentificationError,
    LengthError,
    MixedARError,
    ResponseError,
    UnsupportedError,
)


@pytest.fixture
def data() -> pd.DataFrame:
    return make()


# Groups and identification


@both
def test_one_group(build: Builder, data: pd.DataFrame) -> None:
    one = data.assign(id=1, t=np.arange(N))
    with pytest.raises(GroupError, match="one group") as error:
        build(one)
    assert "re_formula='0'" in message_of(error)


def test_one_group_without_random_effects(data: pd.DataFrame) -> None:
    one = data.assign(id=1, t=np.arange(N))
    assert by_formula(one, re_formula="0").fit().converged


@both
def test_groups_of_one_with_a_slope(build: Builder, data: pd.DataFrame) -> None:
    single = data.assign(id=np.arange(N))
    with pytest.raises(IdentificationError, match=r"one observation|1 observation"):
        build(single, **with_slope(build, data))


def test_groups_of_one(data: pd.DataFrame) -> None:
    single = data.assign(id=np.arange(N))
    for residual in ("ar1", "independent"):
        with pytest.raises(IdentificationError, match="'id Var'"):
            by_formula(single, residual=residual)
    with pytest.raises(IdentificationError, match="'rho'"):
        by_formula(single, re_formula="0")
    ols = by_formula(single, re_formula="0", residual="independent").fit()
    assert ols.converged


@both
def test_intercept_and_ar1_with_two_observations(
    build: Builder, data: pd.DataFrame
) -> None:
    del data
    with pytest.raises(IdentificationError, match="'rho'") as error:
        build(make(30, 2))
    message = message_of(error)
    assert "Var'" in message
    assert "2 observations" in message
    assert "residual='independent'" in message


def test_more_random_effects_than_the_data_can_carry() -> None:
    with pytest.raises(IdentificationError, match="'t Var'"):
        by_formula(make(30, 2), re_formula="~ t", residual="independent")
    with pytest.raises(IdentificationError):
        by_formula(make(30, 3), re_formula="~ t + I(t ** 2)")
    # a fixed rho, or a third observation, tells them apart
    assert by_formula(make(30, 2), residual=AR1(0.4, fixed=True)).fit().converged
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        assert by_formula(make(30, 3)).fit().converged


def levels_within(groups: int, levels: int, times: int) -> pd.DataFrame:
    rows = pd.MultiIndex.from_product(
        [range(groups), range(levels), range(times)], names=["acc", "seq", "rep"]
    ).to_frame(index=False)
    rng = np.random.default_rng(4)
    own = rng.normal(size=(groups, 1)) + rng.normal(size=(groups, levels))
    noise = rng.normal(size=len(rows))
    return rows.assign(y=own[rows["acc"], rows["seq"]] + noise)


@pytest.mark.parametrize(("levels", "groups"), [(20, 19), (80, 20), (32, 40)])
def test_more_covariances_than_can_be_estimated(levels: int, groups: int) -> None:
    data = levels_within(groups, levels, 2)
    options: dict[str, Any] = {"groups": "acc", "residual": "independent"}
    count = f"{levels * (levels + 1) // 2} variances"
    with pytest.raises(IdentificationError, match=count) as caught:
        MixedLMAR.from_formula("y ~ 1", data, re_formula="~C(seq)", **options)
    # what the message says to write instead
    assert "re_formula='1' and vc_formula={'seq': '0 + C(seq)'}" in str(caught.value)
    assert "re_cov='diagonal'" in str(caught.value)
    vc = {"seq": "0 + C(seq)"}
    model = MixedLMAR.from_formula(
        "y ~ 1", data, re_formula="1", vc_formula=vc, **options
    )
    assert model.fit().converged
    with pytest.raises(IdentificationError, match=r"re_cov='diagonal' for variances"):
        MixedLMAR(
            data["y"],
            np.ones(len(data)),
            data["acc"],
            exog_re=np.eye(levels)[data["seq"]],
        )


def test_effects_of_levels_that_come_late_in_a_group() -> None:
    # more rows than the check looks at, in the order of the levels
    data = levels_within(24, 22, 3)
    MixedLMAR.from_formula(
        "y ~ 1", data, groups="acc", re_formula="0 + C(seq)", residual="independent"
    )


def test_effects_that_are_confounded(data: pd.DataFrame) -> None:
    data = data.assign(all=0)
    with pytest.raises(IdentificationError, match="a Var"):
        by_formula(data, re_formula="1", vc_formula={"a": "0 + C(all)"})


@pytest.mark.parametrize("kind", ["list", "object", "frame"])
def test_mixed_labels(data: pd.DataFrame, kind: str) -> None:
    labels = [str(i) if k % 2 else int(i) for k, i in enumerate(data["id"])]
    objects = np.array(labels, dtype=object)
    calls: dict[str, Callable[[], Any]] = {
        "frame": lambda: by_formula(data.assign(id=labels)),
        "list": lambda: by_arrays(data, groups=labels),
        "object": lambda: by_arrays(data, groups=objects),
    }
    with pytest.raises(GroupError, match=r"int.*str.*astype") as error:
        calls[kind]()
    message_of(error)


# Magnitudes


def sound(call: Callable[[], Any]) -> Any:
    """Call and accept a typed error, or else a result without NaN or infinity."""
    fit = reason = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BoundaryWarning)
            fit = call()
    except MixedARError as error:
        reason = str(error)
    if reason is not None:
        assert "linear combination" not in reason
        return None
    assert fit is not None
    for name in ("llf", "scale", "params", "bse_fe", "fittedvalues", "resid"):
        assert np.isfinite(getattr(fit, name)).all(), name
    if not fit.at_boundary:
        assert np.isfinite(fit.bse).all()
        assert np.isfinite(fit.conf_int()).all(axis=None)
    assert (np.asarray(fit.bse_fe) > 0).all()
    return fit


@pytest.mark.parametrize("column", ["y", "x", "w"])
@pytest.mark.parametrize(
    "size", [1e-310, 1e-200, 1e-150, 1e-30, 1e-15, 1e15, 1e30, 1e150, 1e200, 1e300]
)
def test_magnitudes(data: pd.DataFrame, column: str, size: float) -> None:
    scaled = data.assign(**{column: data[column] * size})
    fit = sound(lambda: by_formula(scaled, re_formula="~ w").fit())
    if 1e-20 < size < 1e20:
        assert fit is not None
    if fit is not None:
        expected = by_formula(data, re_formula="~ w").fit()
        change = (N - 2) * np.log(size) if column == "y" else 0.0
        if column == "x":
            change = np.log(size)
        assert fit.llf + change == pytest.approx(expected.llf, rel=1e-7)


@pytest.mark.parametrize("size", [1e-2, 1.0 / 12.0, 7.0, 30.0, 365.25, 1e6, 1e9])
@pytest.mark.parametrize("residual", ["ar1", "car1"])
def test_units_of_time(data: pd.DataFrame, residual: str, size: float) -> None:
    expected = by_formula(data, residual=residual).fit()
    fit = by_formula(data.assign(t=data["t"] * size), residual=residual).fit()
    assert fit.llf == pytest.approx(expected.llf, abs=1e-6)


@pytest.mark.parametrize("size", [1e-300, 1e-150, 1e-9, 1e15, 1e150, 1e300])
@pytest.mark.parametrize("residual", ["ar1", "car1"])
def test_absurd_units_of_time(data: pd.DataFrame, residual: str, size: float) -> None:
    # rho at the distance one may be zero or one to rounding
    expected = by_formula(data, residual=residual).fit()
    scaled = data.assign(t=data["t"] * size)
    fit = sound(lambda: by_formula(scaled, residual=residual).fit())
    if fit is not None:
        assert fit.llf == pytest.approx(expected.llf, abs=1e-6)


def test_times_that_are_small_in_their_unit() -> None:
    # 0.999 between neighbours at a distance of 1e-4: rho is 4.5e-5
    rng = np.random.default_rng(5)
    n = 500
    noise = rng.normal(size=(4, n))
    for k in range(1, n):
        noise[:, k] = 0.999 * noise[:, k - 1] + np.sqrt(1 - 0.999**2) * noise[:, k]
    data = pd.DataFrame({"y": noise.ravel(), "id": np.repeat(np.arange(4), n)})
    data["t"] = np.tile(np.arange(n), 4)
    small = data.assign(t=data["t"] * 1e-4)
    options: dict[str, Any] = {"re_formula": "0", "residual": "car1"}
    expected = by_formula(data, "y ~ 1", **options).fit()
    fit = by_formula(small, "y ~ 1", **options).fit()
    assert fit.llf == pytest.approx(expected.llf, abs=1e-6)
    assert fit.rho == pytest.approx(expected.rho**1e4, rel=1e-3)


def test_large_constant_in_the_response(data: pd.DataFrame) -> None:
    expected = by_formula(data).fit()
    fit = by_formula(data.assign(y=data["y"] + 1e9)).fit()
    assert fit.llf == pytest.approx(expected.llf, abs=1e-4)
    with pytest.raises(ResponseError):
        by_formula(data.assign(y=data["y"] + 1e17))


# Residual structures and options of fit


@pytest.mark.parametrize("residual", ["bogus", "ar1x", 3, ["ar1"], ""])
def test_unknown_residual(data: pd.DataFrame, residual: Any) -> None:
    with pytest.raises(UnsupportedError, match=r"'ar1', 'ar1h', 'arma'|AR1"):
        by_formula(data, residual=residual)


@pytest.mark.parametrize("rho", [1.0, -1.0, 1.5, np.nan, "a"])
@pytest.mark.parametrize("structure", [AR1, CAR1])
def test_rho_out_of_range(structure: Any, rho: Any) -> None:
    with pytest.raises(MixedARError, match="rho"):
        structure(rho)


def test_penalties_are_refused(data: pd.DataFrame) -> None:
    model = by_formula(data)
    for call in (
        lambda: model.fit(fe_pen=object()),
        lambda: model.fit(cov_pen=object()),
        lambda: model.fit_regularized(),
    ):
        with pytest.raises(UnsupportedError, match=r"independent.*AR\(1\)"):
            call()
    independent = by_arrays(data, residual="independent")
    assert len(independent.fit_regularized(alpha=0.1).params) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"method": "bogus"},
        {"method": 3},
        {"maxiter": -1},
        {"maxiter": "many"},
        {"gtol": "small"},
        {"gtol": np.nan},
        {"start_params": [1.0] * 9},
        {"start_params": [np.nan, 0.1]},
        {"start_params": [0.5, 1.5]},
        {"start_params": "zero"},
        {"free": 3},
    ],
)
def test_options_of_fit(data: pd.DataFrame, options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(MixedARError, match=name):
        by_formula(data).fit(**options)


def test_unknown_options_of_fit(data: pd.DataFrame) -> None:
    with pytest.raises(TypeError, match="'foo'"):
        by_formula(data).fit(foo=3)
    by_formula(data).fit(disp=False, full_output=True, gtol=1e-8, maxiter=100)


def test_too_few_iterations_are_reported_once(data: pd.DataFrame) -> None:
    with pytest.warns(ConvergenceWarning, match="maxiter") as caught:
        fit = by_formula(data).fit(maxiter=1)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert fit.converged is False
    assert "did not reach a maximum" in str(fit.summary()).replace("\n", " ")


@pytest.mark.parametrize(
    "method", ["bfgs", "lbfgs", "cg", "powell", "nm", ["bfgs", "cg"]]
)
def test_methods_of_statsmodels(data: pd.DataFrame, method: Any) -> None:
    model = by_formula(data)
    assert model.fit(method=method).llf == pytest.approx(model.fit().llf, abs=1e-8)


def test_a_boundary_is_announced_once() -> None:
    data = make(20, 6, seed=7)
    data["y"] -= data.groupby("id")["y"].transform("mean")
    with pytest.warns(BoundaryWarning, match="'id Var' is zero") as caught:
        fit = by_formula(data, residual="independent").fit()
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert fit.at_boundary is True
    assert "'id Var' is zero" in str(fit.summary()).replace("\n", " ")


def test_free_with_impossible_pattern(data: pd.DataFrame) -> None:
    model = by_formula(data, re_formula="~ w")
    free = MixedLMParams.from_components(fe_params=np.ones(2), cov_re=np.eye(3))
    with pytest.raises(MixedARError, match="free"):
        model.fit(free=free)


@pytest.mark.parametrize("residual", ["independent", "ar1"])
def test_packed_parameters_have_the_model_s_length(
    data: pd.DataFrame, residual: str
) -> None:
    model = by_formula(data, residual=residual)
    k_residual = int(residual == "ar1")
    calls = {
        "loglike": (model.loglike, 1),
        "score": (model.score, 1),
        "score with fixed effects": (lambda p: model.score(p, False), 3),
        "hessian": (model.hessian, 3),
        "get_distribution": (lambda p: model.get_distribution(p, 1.0), 3),
    }
    for call, k in calls.values():
        call(np.full(k + k_residual, 0.5))
        for wrong in (np.full(k + k_residual + 1, 0.5), np.full(k - 1, 0.5), 0.5):
            with pytest.raises(LengthError, match=f"the model has {k} and"):
                call(wrong)
        with pytest.raises(LengthError):
            call(np.full((k + k_residual, 1), 0.5))
    for wrong in (np.zeros(4 + k_residual), np.zeros(1), 1.0):
        with pytest.raises(LengthError, match="pass the 2 fixed effects"):
            model.predict(wrong)
    other = MixedLMParams.from_components(fe_params=np.zeros(2), cov_re=np.eye(2))
    with pytest.raises(LengthError, match="cov_re of the parameters"):
        model.loglike(other)
    with pytest.raises(ResponseError, match="params is not numeric"):
        model.get_distribution(["a"] * 3, 1.0)
    with pytest.raises(UnsupportedError, match="scale is positive"):
        model.get_distribution(np.full(3 + k_residual, 0.5), -1.0)


def test_messages_speak_of_values_not_of_numpy_s_types(data: pd.DataFrame) -> None:
    fit = by_formula(data).fit()
    labels = np.array(["p", "q"])[data["id"] % 2]
    calls: dict[str, Callable[[], Any]] = {
        "df=-1.5": lambda: fit.with_df(np.float64(-1.5)),
        "alpha=2.0": lambda: fit.conf_int(alpha=np.float32(2.0)),
        "n_sim=1": lambda: fit.bootstrap(np.int64(1)),
        "'none'": lambda: fit.marginal_means(np.str_("none")),
        "maxiter=0": lambda: by_formula(data).fit(maxiter=np.int8(0)),
        "[3, 'x', True]": lambda: fit.t_test([np.int64(3), np.str_("x"), np.True_]),
        "'p'": lambda: by_formula(data.assign(id=labels, t=0)),
    }
    for text, call in calls.items():
        with pytest.raises(MixedARError) as caught:
            call()
        assert text in str(caught.value)
        assert "np." not in str(caught.value)
    # what is no scalar of NumPy's stays as it is written
    quoted = "y ~ np.log(x) + np.float64(x)"
    assert str(UnsupportedError(quoted)) == quoted
    awkward = repr('it\'s (a) "label"')
    assert str(UnsupportedError(f"np.str_({awkward})")) == awkward


def test_a_covariance_of_effects_that_never_meet() -> None:
    data = make(seed=1)
    data["arm"] = np.where(data["id"] % 2, "b", "a")
    match = r"does not depend on 'arm\[a\] x arm\[b\] Cov' .*re_cov='diagonal'"
    with pytest.raises(IdentificationError, match=match):
        mar.mixedlm("y ~ x", data, groups="id", re_formula="0 + arm")
    options = {"groups": "id", "re_formula": "0 + arm", "re_cov": "diagonal"}
    fit = mar.mixedlm("y ~ x", data, **options).fit()
    assert fit.converged
