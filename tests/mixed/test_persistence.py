"""Summaries of fits, and fits in files and in other processes."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pandas as pd
import pytest
from statsmodels.iolib.smpickle import load_pickle
from statsmodels.iolib.summary2 import summary_col

from helpers.fitted_models import (
    build,
    fit_named,
    reference_frame,
    shared,
)
from mixedar import CAR1
from mixedar.exceptions import (
    LengthError,
    NotComputedError,
)


@pytest.fixture
def data() -> pd.DataFrame:
    return reference_frame().copy()


def half(x: Any) -> Any:
    """A function for formulas that pickles have to find again."""
    return np.asarray(x) / 2.0


# Summaries


def test_summary_options() -> None:
    fit = shared("slope")
    text = str(
        fit.summary(
            yname="weight", xname_fe=["a", "b", "c"], title="A title", alpha=0.1
        )
    )
    assert "weight" in text
    assert "A title" in text
    assert "[0.05" in text
    with pytest.raises(LengthError, match="xname_fe"):
        fit.summary(xname_fe=["a"])
    table = summary_col([fit, shared("gls")], stars=True)
    assert "arm[T.b]" in str(table)


def test_summary_units() -> None:
    data = reference_frame().copy()
    data["date"] = pd.Timestamp("2021-01-04") + pd.to_timedelta(7 * data["t"], unit="D")
    fit = build(data, time="date").fit()
    assert "1 week" in str(fit.summary())
    assert fit.llf == pytest.approx(shared("intercept").llf, abs=1e-9)


@pytest.mark.parametrize("name", ["slope", "both", "gls", "independent"])
def test_summary_numbers(name: str) -> None:
    fit = shared(name)
    text = str(fit.summary())
    assert f"{fit.llf:.4f}" in text
    assert f"{fit.aic:.4f}" in text
    assert f"{fit.fe_params['x']:.4f}" in text


# Persistence


def test_removed_data_are_missed_politely() -> None:
    fit = fit_named("slope")
    fit.remove_data()
    new = pd.DataFrame({"x": [1.0], "arm": ["a"]})
    np.testing.assert_allclose(fit.predict(new), shared("slope").predict(new))
    for call in (
        lambda: fit.fittedvalues,
        lambda: fit.resid,
        lambda: fit.random_effects,
        lambda: fit.predict(),
        lambda: fit.profile_re(0, "re"),
        lambda: fit.get_distribution().rvs(),
        lambda: fit.model.fit(),
    ):
        with pytest.raises(NotComputedError, match="data"):
            call()


def test_pickles_find_functions_again(data: pd.DataFrame, tmp_path: Path) -> None:
    fit = build(data, "y ~ half(x) + arm").fit()
    path = tmp_path / "fit.pickle"
    fit.save(path)
    new = pd.DataFrame({"x": [3.0], "arm": ["a"]})
    for twin in (load_pickle(path), pickle.loads(pickle.dumps(fit))):
        np.testing.assert_allclose(twin.predict(new), fit.predict(new))
        assert twin.model.fit().llf == pytest.approx(fit.llf, abs=1e-10)


SCRIPT = """
import pickle
import sys
import numpy as np
import pandas as pd
import mixedar.formula.api as mar

def third(x):
    return np.asarray(x) / 3.0

def main(data, path):
    local = 2.0
    fit = mar.mixedlm("y ~ third(x) + I(local * x ** 2) + arm", data, groups="id",
                      time="t", vc_formula={"day": "0 + C(day)"}, re_formula="1").fit()
    fit.save(path)
    again = pickle.loads(pickle.dumps(fit))
    new = data.iloc[:3]
    assert np.allclose(again.predict(new), fit.predict(new))
    assert str(again.summary()) == str(fit.summary())
    assert abs(again.model.fit().llf - fit.llf) < 1e-9
    from statsmodels.iolib.smpickle import load_pickle
    assert np.allclose(load_pickle(path).predict(new), fit.predict(new))

if __name__ == "__main__":
    main(pd.read_csv(sys.argv[1]), sys.argv[2])
    print("pickled")
"""


def test_pickling_in_a_script(data: pd.DataFrame, tmp_path: Path) -> None:
    script, table = tmp_path / "script.py", tmp_path / "data.csv"
    script.write_text(dedent(SCRIPT))
    data.to_csv(table, index=False)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), str(table), str(tmp_path / "f")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "pickled"
    # and another process, which does not have the script's functions, reads the numbers
    read = "import sys; from statsmodels.iolib.smpickle import load_pickle;"
    read += "print(load_pickle(sys.argv[1]).rho)"
    other = subprocess.run(
        [sys.executable, "-c", read, str(tmp_path / "f")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert other.returncode == 0, other.stderr


def test_pickles_are_small(data: pd.DataFrame) -> None:
    fit = build(data, re_formula="~ x").fit()
    fit.fittedvalues, fit.random_effects, fit.random_effects_cov  # noqa: B018
    before = len(pickle.dumps(build(data, re_formula="~ x").fit()))
    assert len(pickle.dumps(fit)) < 1.2 * before


def test_car1_objects_in_fits(data: pd.DataFrame) -> None:
    fit = build(data, residual=CAR1(0.3)).fit()
    twin = pickle.loads(pickle.dumps(fit))
    assert twin.model.residual == CAR1(0.3)
    assert twin.rho == fit.rho
