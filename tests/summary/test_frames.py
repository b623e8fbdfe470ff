"""Frames of results print whole."""

from __future__ import annotations

import pickle
import re
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar.datasets import load_orthodont
from mixedar.summary import ResultFrame


@cache
def fit(formula: str = "distance ~ age * sex") -> Any:
    model = mar.mixedlm(
        formula,
        load_orthodont(),
        groups="subject",
        re_formula="~age",
        residual="independent",
    )
    return model.fit(reml=False)


@pytest.mark.parametrize(
    "frame",
    [
        lambda: fit().anova(),
        lambda: fit().anova(fit("distance ~ age")),
        lambda: fit().conf_int_re(),
        lambda: fit().covariance_parameters(),
        lambda: fit().ranef(se=True),
        lambda: fit().marginal_means("sex", at={"age": 8}).pairwise(),
        lambda: fit().marginal_means("sex").contrast([1, -1]),
        lambda: fit().modes,
        lambda: mar.tidy(fit()),
        lambda: mar.glance(fit()),
        lambda: mar.pool([fit(), fit()]).frame,
    ],
)
def test_results_print_every_column(frame: Any) -> None:
    found = frame()
    assert isinstance(found, ResultFrame)
    with pd.option_context("display.width", 80, "display.max_columns", 5):
        text, html = repr(found), found._repr_html_()
    for column in found.columns:
        name = str(column[-1] if isinstance(column, tuple) else column)
        assert name in text
        assert name in html
    lines = text.splitlines()
    assert not any(line.rstrip().endswith("...") for line in lines)
    assert " ... " not in text


def test_what_is_made_of_it_is_an_ordinary_frame() -> None:
    found = mar.tidy(fit())
    for made in (found.copy(), found[["term"]], found.set_index("term")):
        assert type(made) is pd.DataFrame
    assert isinstance(found.head(2), ResultFrame)
    assert isinstance(found.tail(2), ResultFrame)
    again = pickle.loads(pickle.dumps(found))
    assert isinstance(again, ResultFrame)
    pd.testing.assert_frame_equal(again, found)


def test_notes_stand_with_it() -> None:
    frame = pd.DataFrame({"a": [1.0]})
    frame.attrs["null"] = "nothing"
    assert ResultFrame.of(frame).attrs == {"null": "nothing"}
    text = "a text that is longer than fifty characters is not cut at all, is it"
    assert text in repr(ResultFrame({"a": [text]}))


def test_small_p_values_print_as_such_and_stay_numbers() -> None:
    frame = ResultFrame({"F": [1.2e12, 3.0], "p": [1e-20, 0.5], "df": [3.0, 4.0]})
    assert "<0.001" in repr(frame)
    assert "&lt;0.001" in str(frame._repr_html_())
    assert not re.search(r"\de[-+]\d", repr(frame))
    assert frame["p"].tolist() == [1e-20, 0.5]
    assert frame.as_printed()["F"].tolist() == [">999999999", "3.000"]


def test_variables_called_p_and_t_are_numbers() -> None:
    data = load_orthodont().rename(columns={"age": "t"})
    data["p"] = 10.0 * (data["sex"] == "Male")
    fit = mar.mixedlm("distance ~ p + t", data, groups="subject").fit()
    assert set(fit.coef().as_printed()["p"]) == {f"{fit.fe_params['p']:.4f}"}
    table = ResultFrame.of(pd.DataFrame({"p": [0.0004], "t": [1e-5]}), "number")
    assert table.as_printed().iloc[0].tolist() == ["4.000e-04", "1.000e-05"]
    named = ResultFrame.of(pd.DataFrame({"p": [0.5], "t": [1e-5]}), {"t": "number"})
    assert named.as_printed().iloc[0].tolist() == ["0.500", "1.000e-05"]


def test_of_long_frames_only_what_is_shown_is_written() -> None:
    frame = ResultFrame({"p": np.full(10_000, 1e-9)})
    assert repr(frame).count("<0.001") == 10
    assert (frame.as_printed()["p"] == "").any()
    with pd.option_context("display.max_rows", None):
        assert not (frame.as_printed()["p"] == "").any()
