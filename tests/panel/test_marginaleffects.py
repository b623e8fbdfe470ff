"""marginaleffects on panel fits: designs of new rows, and errors of the fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import mixedar.formula.api as mar
from helpers.panel_cases import panel_data
from mixedar.exceptions import UnsupportedError
from mixedar.panel import PanelResults

me = pytest.importorskip("marginaleffects")

# marginaleffects' own use of polars
pytestmark = pytest.mark.filterwarnings("ignore:.*get_categories:DeprecationWarning")


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    frame = panel_data(1)
    return frame.assign(g=frame["g"].astype("category"), wt=1.0 + frame["x2"] ** 2)


FITS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("fixed_effects", {}, {}),
    ("fixed_effects", {"effects": "twoways"}, {"cov_type": "clustered"}),
    ("random_effects", {}, {"cov_type": "CR2"}),
    ("pooled", {"weights": "wt"}, {"cov_type": "robust"}),
    ("first_difference", {}, {}),
]


@pytest.mark.parametrize(("function", "options", "given"), FITS)
def test_slopes_predictions_and_comparisons(
    data: pd.DataFrame, function: str, options: dict[str, Any], given: dict[str, Any]
) -> None:
    # z is absorbed by effects of entities
    model = getattr(mar, function)("y ~ x1 * x2 + g + z", data, "id", "t", **options)
    fit = model.fit(**given)
    names, cov = list(fit.params.index), fit.cov_params().to_numpy()

    def error(row: np.ndarray) -> float:
        return float(np.sqrt(row @ cov @ row))

    row = np.zeros(len(names))
    row[names.index("x1")], row[names.index("x1:x2")] = 1.0, data["x2"].mean()
    found = me.avg_slopes(fit, variables="x1", eps_vcov=1e-3)
    assert_allclose(found["estimate"], row @ fit.params, rtol=1e-5)
    assert_allclose(found["std_error"], error(row), rtol=1e-5)
    row = 1.0 * (np.array(names) == "g[T.c]")
    found = me.avg_comparisons(fit, variables={"g": ["a", "c"]}, eps_vcov=1e-3)
    assert_allclose(found["estimate"], row @ fit.params, rtol=1e-6)
    assert_allclose(found["std_error"], error(row), rtol=1e-5)
    some = data.head(5)
    found = me.predictions(fit, newdata=some)
    expected = fit.get_prediction(some)
    assert_allclose(found["estimate"], expected.predicted_mean, rtol=1e-7)
    assert_allclose(found["std_error"], expected.se_mean, rtol=1e-4)
    table = me.hypotheses(fit)
    assert table["term"].to_list() == names
    assert_allclose(table["std_error"], fit.bse, rtol=1e-5)


def test_means_of_entities_are_not_made_of_new_rows(data: pd.DataFrame) -> None:
    fit = mar.mundlak("y ~ x1", data, "id", "t").fit()
    with pytest.raises(UnsupportedError, match="means of entities"):
        me.avg_slopes(fit)


def test_the_class_is_itself(data: pd.DataFrame) -> None:
    fit = mar.pooled("y ~ x1", data, "id", "t").fit()
    assert type(fit) is PanelResults
    assert "mixedar.panel.results.PanelResults" in repr(type(fit))
