"""Mixed models as estimators of scikit-learn: its own checks, and what they leave."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar import AR1
from mixedar.exceptions import (
    MissingDataError,
    ResponseError,
    UnknownColumnError,
    UnsupportedError,
)

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.compose import (
    TransformedTargetRegressor,
    make_column_transformer,
)
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    cross_val_predict,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from mixedar.sklearn import MixedRegressor

# scikit-learn's tables have no column of groups: a regression without them.
CHECKS = [
    pytest.param(*pair, id=getattr(pair[1], "func", pair[1]).__name__)
    for pair in estimator_checks_generator(MixedRegressor(re_formula="0"))
]
# Fits a response that is a column of X: no residual variance is left to estimate.
EXACT = "check_regressors_no_decision_function"


@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_checks_of_scikit_learn(
    estimator: Any, check: Any, request: pytest.FixtureRequest
) -> None:
    if EXACT in request.node.name:
        with pytest.raises(ResponseError, match="is a linear combination"):
            check(estimator)
    else:
        check(estimator)


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng, n, m = np.random.default_rng(1), 24, 5
    frame = pd.DataFrame(
        {
            "id": np.repeat([f"s{k}" for k in range(n)], m),
            "t": np.tile(np.arange(m), n),
            "dose": rng.normal(size=n * m),
            "arm": np.repeat(rng.choice(["a", "b"], n), m),
            "body mass": rng.normal(size=n * m),
        },
        index=[f"row {k}" for k in range(n * m)],
    )
    level = np.repeat(2.0 * rng.normal(size=n), m)
    return frame.assign(y=1 + frame["dose"] + level + rng.normal(size=n * m))


def parts(data: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    return data.drop(columns="y"), data["y"]


def test_columns_are_regressors_but_those_with_a_task(data: pd.DataFrame) -> None:
    X, y = parts(data)
    fitted = MixedRegressor(groups="id", time="t").fit(X, y)
    formula = "y ~ dose + arm + Q('body mass')"
    expected = mar.mixedlm(formula, data, groups="id", time="t").fit()
    pd.testing.assert_series_equal(fitted.results_.params, expected.params)
    assert list(fitted.feature_names_in_) == list(X.columns)
    slopes = MixedRegressor(groups="id", time="t", re_formula="0 + t", residual=None)
    growing = y + X["t"] * pd.factorize(X["id"])[0] % 7
    assert "t" in slopes.fit(X, growing).results_.fe_params
    weighted = MixedRegressor(groups="id", options={"weights": "w"})
    weighted.fit(X[["id", "dose"]].assign(w=2.0), y)
    assert list(weighted.results_.fe_params.index) == ["Intercept", "dose"]
    keywords = X[["id", "dose"]].rename(columns={"dose": "class"})
    named = MixedRegressor(groups="id").fit(keywords, y.rename("in"))
    assert list(named.results_.fe_params.index) == ["Intercept", "Q('class')"]


def test_a_formula_is_that_of_mixedlm(data: pd.DataFrame) -> None:
    X, y = parts(data)
    expected = mar.mixedlm("y ~ np.exp(dose) + (1 | id)", data, eval_env={"np": np})
    for formula in ("np.exp(dose) + (1 | id)", "y ~ np.exp(dose) + (1 | id)"):
        for given in (y, y.to_numpy()):
            fitted = MixedRegressor(formula, reml=False).fit(X, given)
            assert fitted.results_.llf == pytest.approx(expected.fit(reml=False).llf)


def test_the_response_is_what_is_passed_as_y(data: pd.DataFrame) -> None:
    X, y = parts(data)
    fitted = MixedRegressor("y ~ dose", groups="id").fit(X.assign(y=0.0), y)
    assert fitted.results_.model.endog == pytest.approx(y)
    # a regressor is not lost to a response of the same name
    covariate = X[["id"]].assign(y=X["dose"])
    fitted = MixedRegressor(groups="id").fit(covariate, y)
    assert list(fitted.results_.fe_params.index) == ["Intercept", "y"]
    assert fitted.results_.model.endog == pytest.approx(y)


@pytest.mark.parametrize("level", ["group", "population", "forecast"])
def test_known_groups_and_new_ones(data: pd.DataFrame, level: str) -> None:
    X, y = parts(data)
    new = pd.concat([X.iloc[:3].assign(t=9), X.iloc[:1].assign(id="new", t=1)])
    fitted = MixedRegressor("dose", groups="id", time="t", level=level).fit(X, y)
    mean, std = fitted.predict(new, return_std=True)
    fit = mar.mixedlm("y ~ dose", data, groups="id", time="t").fit()
    expected = fit.get_prediction(new, level=level, unknown="population")
    np.testing.assert_allclose(mean, expected.predicted_mean)
    np.testing.assert_allclose(std, expected.se_obs)
    of_population = fit.predict(new.iloc[3:]).to_numpy()
    assert mean[3:] == pytest.approx(of_population)


def test_groups_left_out_are_predicted_for_the_population(data: pd.DataFrame) -> None:
    X, y = parts(data)
    model = MixedRegressor("dose", groups="id")
    folds = GroupKFold(4)
    found = cross_val_predict(model, X, y, groups=X["id"], cv=folds)
    for train, test in folds.split(X, y, X["id"]):
        fit = mar.mixedlm("y ~ dose", data.iloc[train], groups="id").fit()
        np.testing.assert_allclose(found[test], fit.predict(X.iloc[test]))


def test_searches_and_pipelines(data: pd.DataFrame) -> None:
    X, y = parts(data)
    grid = {"residual": [AR1(), "independent"], "level": ["group", "population"]}
    model = MixedRegressor("dose", groups="id", time="t")
    search = GridSearchCV(model, grid, cv=3).fit(X, y)
    assert search.best_params_["level"] == "group"
    scaled = make_column_transformer(
        (StandardScaler(), ["dose"]),
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    whole = make_pipeline(scaled, MixedRegressor("dose", groups="id")).fit(X, y)
    alone = MixedRegressor("dose", groups="id").fit(X, y)
    np.testing.assert_allclose(whole.predict(X), alone.predict(X), rtol=1e-6)
    logs = TransformedTargetRegressor(alone, func=np.log, inverse_func=np.exp)
    found = np.log(logs.fit(X, np.exp(y)).predict(X))
    np.testing.assert_allclose(found, alone.predict(X))


def test_arrays_name_columns_by_number(data: pd.DataFrame) -> None:
    X, y = parts(data)
    values = np.column_stack([pd.factorize(X["id"])[0], X["t"], X["dose"]])
    fitted = MixedRegressor(groups=0, time=1).fit(values, y)
    assert list(fitted.results_.fe_params.index) == ["Intercept", "x2"]
    named = MixedRegressor("x2 + (1 | x0)", time="x1").fit(values, y)
    np.testing.assert_allclose(fitted.predict(values), named.predict(values))
    numbered = MixedRegressor(groups=0, time=1).fit(pd.DataFrame(values), y.to_numpy())
    np.testing.assert_allclose(fitted.predict(values), numbered.predict(values))


def test_frames_of_polars(data: pd.DataFrame) -> None:
    pl = pytest.importorskip("polars")
    X, y = parts(data)
    fitted = MixedRegressor("dose", groups="id").fit(pl.from_pandas(X), y.to_numpy())
    expected = MixedRegressor("dose", groups="id").fit(X, y)
    rows = pl.from_pandas(X.head(3))
    np.testing.assert_allclose(fitted.predict(rows), expected.predict(X.head(3)))


def test_copies_and_files(data: pd.DataFrame) -> None:
    X, y = parts(data)
    model = MixedRegressor("np.exp(dose)", groups="id", residual=AR1(), time="t")
    kept = pickle.loads(pickle.dumps(model.fit(X, y)))
    np.testing.assert_allclose(kept.predict(X), model.predict(X))
    assert not hasattr(clone(model), "results_")


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({}, UnsupportedError, "needs groups="),
        ({"groups": "idd"}, UnknownColumnError, "Did you mean 'id'"),
        ({"groups": 0}, UnsupportedError, "names of columns"),
        ({"groups": "id", "level": "row"}, UnsupportedError, "population"),
        ({"formula": "np.log(y) ~ dose", "groups": "id"}, UnsupportedError, "Target"),
        ({"groups": "id", "options": {"time": "t"}}, UnsupportedError, "'time'"),
        ({"groups": "id", "options": "w"}, UnsupportedError, "mapping"),
        ({"groups": "id", "options": {"foo": 1}}, UnsupportedError, "foo"),
    ],
)
def test_parameters_that_cannot_be_used(
    data: pd.DataFrame, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        MixedRegressor(**options).fit(*parts(data))


def test_tables_that_cannot_be_used(data: pd.DataFrame) -> None:
    X, y = parts(data)
    model = MixedRegressor("dose", groups="id")
    with pytest.raises(UnsupportedError, match="y and X have different row labels"):
        model.fit(X, y.iloc[::-1])
    with pytest.raises(ValueError, match="inconsistent numbers"):
        model.fit(X, y.iloc[1:])
    with pytest.raises(ValueError, match="y should be a 1d array"):
        model.fit(X, np.ones((len(X), 2)))
    with pytest.raises(MissingDataError, match="dose"):
        model.fit(X.assign(dose=np.nan), y)
    with pytest.raises(UnknownColumnError, match="3 columns"):
        MixedRegressor(groups=3).fit(np.ones((9, 3)), np.arange(9))
    fitted = model.fit(X, y)
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(X[["id", "dose"]])


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mixedar.sklearn")
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    with pytest.raises(ImportError, match=r"pip install 'mixedar\[sklearn\]'"):
        import mixedar.sklearn  # noqa: F401
