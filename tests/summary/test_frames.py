"""Frames of results print whole."""

from __future__ import annotations

import pickle
from functools import cache
from typing import Any

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
    for made in (found.copy(), found[["term"]], found.head(2), found.set_index("term")):
        assert type(made) is pd.DataFrame
    again = pickle.loads(pickle.dumps(found))
    assert isinstance(again, ResultFrame)
    pd.testing.assert_frame_equal(again, found)


def test_notes_stand_with_it() -> None:
    frame = pd.DataFrame({"a": [1.0]})
    frame.attrs["null"] = "nothing"
    assert ResultFrame.of(frame).attrs == {"null": "nothing"}
    text = "a text that is longer than fifty characters is not cut at all, is it"
    assert text in repr(ResultFrame({"a": [text]}))
