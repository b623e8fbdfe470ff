"""Results of hypotheses print as summaries do, and stay statsmodels' results."""

from __future__ import annotations

from typing import Any

import pytest
from statsmodels.stats.contrast import ContrastResults, WaldTestResults

import mixedar.formula.api as mar
from mixedar.datasets import load_orthodont
from mixedar.summary import ResultFrame


@pytest.fixture(scope="module", params=["mixed", "panel"])
def fit(request: pytest.FixtureRequest) -> Any:
    teeth = load_orthodont()
    if request.param == "panel":
        formula = "distance ~ age * sex"
        return mar.fixed_effects(formula, teeth, "subject", "occ").fit()
    return mar.mixedlm("distance ~ age * sex", teeth, groups="subject").fit()


def test_joint_tests_print_in_a_line(fit: Any) -> None:
    test = fit.f_test("age = 0, age:sex[T.Male] = 0")
    assert isinstance(test, ContrastResults)
    assert test.pvalue < 1e-9
    assert str(test) == repr(test)
    assert str(test).startswith(f"<F test: F = {test.fvalue:.3f}, p < 0.001, df_num")
    wald = fit.wald_test("age = 0, age:sex[T.Male] = 0", use_f=False)
    assert str(wald).startswith("<Wald test: chi2 = ")
    assert "p < 0.001, df = 2>" in str(wald)
    for one in (test, wald):
        assert "<0.001" in one.summary().as_latex()
        assert "&lt;0.001" in one._repr_html_()
        # statsmodels' own error: its tables of a joint test have no rows
        with pytest.raises(NotImplementedError):
            one.summary_frame()


def test_small_statistics_read_as_they_are_written(fit: Any) -> None:
    near = float(fit.params["age"] + 0.01 * fit.bse["age"])
    assert str(fit.f_test(f"age = {near!r}")).startswith("<F test: F < 0.001, p = 0.99")


def test_single_tests_print_as_a_table(fit: Any) -> None:
    test = fit.t_test("age = 0")
    text = str(test)
    assert text == repr(test) == test.summary().as_text()
    assert "<0.001" in text
    assert "0.000" not in text
    frame = test.summary_frame(["age"], alpha=0.1)
    assert isinstance(frame, ResultFrame)
    assert frame.index.tolist() == ["age"]
    assert frame["P>|t|"].iloc[0] == test.pvalue
    assert "[0.05" in test.summary(["age"], alpha=0.1, title="Growth").as_text()


def test_tests_of_terms_print_as_a_frame() -> None:
    model = mar.mixedlm("distance ~ age * sex", load_orthodont(), groups="subject")
    found = model.fit().wald_test_terms()
    assert isinstance(found, WaldTestResults)
    assert str(found) == repr(found) == repr(found.summary_frame())
    assert "<0.001" in str(found)
    assert "&lt;0.001" in str(found._repr_html_())
    assert found.table["pvalue"].max() > 1e-3 > found.table["pvalue"].min()
