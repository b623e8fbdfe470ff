"""Designs of new rows are matched by the names of their columns, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import mixedar.formula.api as mar
from helpers.bad_data import make
from mixedar import MixedLMAR
from mixedar.by_group import ByGroupOLS
from mixedar.exceptions import (
    LengthError,
    MixedARError,
    NotComputedError,
    UnknownColumnError,
)
from mixedar.panel import PooledOLS

DATA = make(seed=5)
DESIGN = pd.DataFrame({"one": 1.0, "x": DATA["x"], "w": DATA["w"]})
NEW = DESIGN.iloc[:7].set_axis(list("abcdefg"))


def mixed(exog: Any = DESIGN, **given: Any) -> Any:
    return MixedLMAR(DATA["y"], exog, DATA["id"], **given).fit()


def test_means_of_mixed_models() -> None:
    fit = mixed()
    right = pd.Series(NEW.to_numpy() @ np.asarray(fit.fe_params), NEW.index)
    turned = NEW[["w", "x", "one"]].assign(other=9.0)
    model = fit.model
    for exog in (NEW, turned, dict(turned), turned.to_records()):
        assert_allclose(fit.predict(exog), right)
        assert_allclose(fit.get_prediction(exog=exog).predicted_mean, right)
        assert_allclose(fit.get_prediction(exog).predicted_mean, right)
        assert_allclose(model.predict(fit.params, exog), right)
    pd.testing.assert_series_equal(fit.predict(turned), right, check_names=False)
    assert_allclose(model.predict(fit.params.iloc[::-1], turned), right)
    assert_allclose(fit.predict(turned.iloc[2]), right.iloc[[2]])
    # without names there are places only
    assert_allclose(fit.predict(NEW.to_numpy()), right)
    assert_allclose(fit.predict(pd.DataFrame(NEW.to_numpy())), right)
    drawn = fit.get_distribution(DESIGN[["w", "x", "one"]]).rvs(rng=1)
    assert_allclose(drawn, fit.get_distribution(DESIGN).rvs(rng=1))
    with pytest.raises(UnknownColumnError, match=r"one, x, w .* one, w are not there"):
        fit.predict(DATA[["id", "t", "x"]])
    with pytest.raises(UnknownColumnError, match="one"):
        fit.get_prediction(DATA[["id", "t", "x"]])
    with pytest.raises(UnknownColumnError, match="several columns 'x'"):
        fit.predict(NEW.set_axis(["one", "x", "x"], axis=1).assign(w=1.0))
    with pytest.raises(LengthError, match=r"\(7, 2\)"):
        fit.predict(NEW.to_numpy()[:, :2])


def test_random_effects_of_new_rows() -> None:
    effects = DESIGN[["one", "w"]]
    fit = mixed(exog_re=effects)
    rows, ids = slice(4, 40, 5), DATA["id"].iloc[4:40:5]
    right = fit.get_prediction(
        exog=DESIGN.iloc[rows], exog_re=effects.iloc[rows], groups=ids, level="group"
    ).predicted_mean
    assert_allclose(right, fit.fittedvalues.iloc[rows])
    turned = fit.get_prediction(
        exog=DESIGN.iloc[rows],
        exog_re=effects.iloc[rows][["w", "one"]],
        groups=ids,
        level="group",
    ).predicted_mean
    assert_allclose(turned, right)
    with pytest.raises(UnknownColumnError, match="w are not there"):
        fit.get_prediction(
            exog=DESIGN.iloc[rows], exog_re=DESIGN[["one", "x"]].iloc[rows], groups=ids
        )


@pytest.mark.parametrize("how", ["mundlak", "within_between"])
def test_models_with_means_of_entities(how: str) -> None:
    data = DATA.assign(x=DATA["x"] + DATA["id"] % 4)
    fit = getattr(mar, how)("y ~ x + w", data, "id", "t", model="mixed").fit()
    with pytest.raises(UnknownColumnError, match=r"Intercept, mean\(x\)"):
        fit.predict(data)
    with pytest.raises(UnknownColumnError, match=r"Intercept, mean\(x\)"):
        fit.get_prediction(data)
    means = data.groupby("id")[["x", "w"]].transform("mean")
    full = data.assign(Intercept=1.0)
    full["mean(x)"], full["mean(w)"] = means["x"], means["w"]
    if how == "within_between":
        full[["x", "w"]] -= means
    assert_allclose(fit.predict(full), fit.fitted_marginal)
    assert_allclose(fit.get_prediction(full).predicted_mean, fit.fitted_marginal)


def test_panels_and_regressions_by_group() -> None:
    panel = PooledOLS(DATA["y"], DESIGN, DATA["id"]).fit()
    turned = NEW[["w", "x", "one"]].assign(id=1)
    right = NEW.to_numpy() @ panel.params.to_numpy()
    assert_allclose(panel.predict(turned), right)
    assert_allclose(panel.predict(NEW.to_numpy()), right)
    with pytest.raises(UnknownColumnError, match="w are not there"):
        panel.predict(NEW.rename(columns={"w": "v"}))
    own = ByGroupOLS(DATA["y"], DESIGN[["one", "x"]], DATA["id"]).fit()
    assert_allclose(own.predict(DESIGN[["x", "one"]], DATA["id"]), own.fittedvalues)
    with pytest.raises(UnknownColumnError, match="one are not there"):
        own.predict(DESIGN[["x", "w"]], DATA["id"])


@pytest.mark.parametrize(
    "values",
    [
        np.ones(2) * (1 + 1j),
        np.array([1 + 1j, 2.0], dtype=object),
        np.array([1, 2], dtype="m8[D]"),
        np.array(["2001-01-01", "2001-01-02"], dtype="M8[ns]"),
    ],
)
@pytest.mark.parametrize("kind", ["mixedlm", "fixed_effects", "by_group"])
def test_new_values_that_are_no_real_numbers(kind: str, values: Any) -> None:
    if kind == "by_group":
        fit = mar.by_group("y ~ x", DATA, groups="id")
    elif kind == "mixedlm":
        fit = mar.mixedlm("y ~ x", DATA, groups="id").fit()
    else:
        fit = mar.fixed_effects("y ~ x", DATA, "id", "t").fit()
    new = pd.DataFrame({"x": values, "id": DATA["id"].iloc[:2].to_numpy()})
    with pytest.raises(MixedARError, match="'x' was numeric when the model was built"):
        fit.predict(new)


@pytest.mark.parametrize(
    ("at", "error"),
    [
        (pd.array([1.0, pd.NA], dtype="Float64"), NotComputedError),
        (np.array([1, 2], dtype="m8[D]"), MixedARError),
    ],
)
def test_slopes_at_values_that_are_no_numbers(at: Any, error: type[Exception]) -> None:
    fit = mar.mixedlm("y ~ x + I(x**2)", DATA, groups="id").fit()
    with pytest.raises(error, match=r"not finite|'x' was numeric"):
        fit.marginal_slopes("x", at={"x": at})
