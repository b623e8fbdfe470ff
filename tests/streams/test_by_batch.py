"""What a fit says of rows batch by batch, and of groups with their histories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from helpers.panels import growth
from mixedar.api import VarIdent
from mixedar.exceptions import EmptyDataError, NotComputedError, SourceError
from mixedar.streams import Source, source

FRAME = growth()
OPTIONS: dict[str, Any] = {"groups": "id", "re_formula": "~time", "time": "time"}
FORMULA = "y ~ time * arm"


@pytest.fixture(scope="module")
def here() -> Any:
    return mar.mixedlm(FORMULA, FRAME, **OPTIONS).fit()


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Source:
    path = tmp_path_factory.mktemp("data") / "rows.parquet"
    FRAME.to_parquet(path)
    return mar.scan(path)


@pytest.fixture(scope="module")
def there(rows: Source) -> Any:
    return mar.mixedlm(FORMULA, rows, **OPTIONS).fit()


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_ROWS", 67)


def test_predictions(there: Any, here: Any, rows: Source) -> None:
    of_all = pd.concat(there.predict(rows))
    np.testing.assert_allclose(of_all["predicted"], here.predict(), rtol=1e-12)
    np.testing.assert_array_equal(of_all["id"], FRAME["id"])
    of_groups = pd.concat(there.predict(rows, level="group"))
    np.testing.assert_allclose(of_groups["predicted"], here.fittedvalues, rtol=1e-9)


@pytest.mark.parametrize("kind", ["raw", "pearson", "normalized"])
def test_residuals(there: Any, here: Any, rows: Source, kind: str) -> None:
    found = pd.concat(there.residuals(rows, kind=kind))
    expected = here.residuals(kind)
    np.testing.assert_allclose(found[kind], expected, rtol=1e-8, atol=1e-10)


def test_random_effects(there: Any, here: Any, rows: Source) -> None:
    found = pd.concat(there.random_effects_frame(rows))
    expected = here.random_effects_frame()
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)
    assert found.index.tolist() == expected.index.tolist()


def test_answers_are_written(there: Any, rows: Source, tmp_path: Path) -> None:
    path = there.residuals(rows, to=tmp_path / "residuals.parquet")
    found = pd.concat(there.residuals(rows))
    pd.testing.assert_frame_equal(pd.read_parquet(path), found)
    assert [p.name for p in tmp_path.iterdir()] == ["residuals.parquet"]


def test_no_half_file_is_left(there: Any, rows: Source, tmp_path: Path) -> None:
    other = tmp_path / "in"
    other.mkdir()
    FRAME.iloc[:300].to_parquet(other / "part-0.parquet")
    whole = (other / "part-0.parquet").read_bytes()
    (other / "part-1.parquet").write_bytes(whole)
    broken = mar.scan(other)
    object.__setattr__(broken, "paths", broken.paths)
    FRAME.iloc[300:].assign(id=lambda d: d["id"] + 1000).to_parquet(
        other / "part-1.parquet"
    )
    with pytest.raises(SourceError, match=r"part-1\.parquet.* changed"):
        there.residuals(broken, to=tmp_path / "out.parquet")
    assert not list(tmp_path.glob("out*"))


def test_groups_with_their_histories(there: Any, here: Any) -> None:
    some = there.with_rows(FRAME[FRAME["id"] < 5])
    ahead = some.forecast(2).summary_frame()
    expected = here.forecast(2).summary_frame().iloc[: len(ahead)]
    np.testing.assert_allclose(ahead, expected, rtol=1e-8)
    count = int((FRAME["id"] < 5).sum())
    np.testing.assert_allclose(some.resid, here.resid[:count], rtol=1e-8)
    again = here.with_rows(FRAME[FRAME["id"] < 5])
    np.testing.assert_allclose(again.fittedvalues, here.fittedvalues[:count])
    with pytest.raises(EmptyDataError):
        there.with_rows(FRAME.head(0))


def test_what_needs_rows_says_so(there: Any) -> None:
    for question in (
        lambda: there.resid,
        lambda: there.fittedvalues,
        lambda: there.influence(),
        lambda: there.simulate(),
        lambda: there.model.with_endog(FRAME["y"]),
    ):
        with pytest.raises(NotComputedError, match="read from a source"):
            question()


def test_what_needs_no_rows_is_as_in_memory(there: Any, here: Any) -> None:
    for df in ("satterthwaite", "kenward-roger", "between-within", "residual"):
        np.testing.assert_allclose(there.with_df(df).df, here.with_df(df).df, rtol=1e-7)
    np.testing.assert_allclose(
        there.conf_int_re(method="profile").select_dtypes("number"),
        here.conf_int_re(method="profile").select_dtypes("number"),
        rtol=1e-7,
    )
    np.testing.assert_allclose(
        there.get_prediction(FRAME.head(3)).summary_frame(),
        here.get_prediction(FRAME.head(3)).summary_frame(),
        rtol=1e-9,
    )
    assert str(there.anova()) == str(here.anova())


def test_shares_of_the_variance(there: Any, here: Any) -> None:
    np.testing.assert_allclose(there.r2(), here.r2(), rtol=1e-10)
    found, expected = (fit.icc(ci=0.9).drop(columns="note") for fit in (there, here))
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_shares_with_an_offset_and_variances_of_strata(rows: Source) -> None:
    options: dict[str, Any] = {"groups": "id", "time": "time", "offset": "x"}
    options["weights"] = VarIdent("arm")
    found, expected = (
        mar.mixedlm("y ~ time", data, **options).fit() for data in (rows, FRAME)
    )
    np.testing.assert_allclose(found.r2(), expected.r2(), rtol=1e-10)
    np.testing.assert_allclose(found.icc(), expected.icc(), rtol=1e-10)


def test_posterior(there: Any, here: Any) -> None:
    found, expected = (fit.posterior(draws=200, seed=1) for fit in (there, here))
    assert repr(found.priors) == repr(expected.priors)
    np.testing.assert_allclose(
        found.summary_frame(), expected.summary_frame(), rtol=1e-5, atol=1e-8
    )
    with pytest.raises(NotComputedError, match="read from a source"):
        found.loo()
