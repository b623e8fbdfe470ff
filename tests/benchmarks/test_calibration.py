"""The calibration study runs, and its published tables are what it computed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.calibration import (  # noqa: E402
    curves,
    designs,
    nlme,
    report,
    run,
    study,
)
from benchmarks.calibration.methods import JOINT, KR, METHODS, ROBUST  # noqa: E402
from benchmarks.calibration.summary import FALLBACK, select  # noqa: E402

RESULTS = ROOT / "benchmarks" / "calibration" / "results"
PAGE = ROOT / "docs" / "calibration.md"


def test_three_replicates_from_data_to_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work, out = tmp_path / "work", tmp_path / "out"
    arguments = ["--replicates", "3", "--draws", "4", "--cells", "intercept_15x5_0.4"]
    arguments += ["--work", str(work), "--out", str(out)]
    assert run.main(arguments) == 0
    tables = report.read(out)
    tests = tables["tests"]
    assert set(tests["replicates"]) == {3}
    expected = {*METHODS, ROBUST, *FALLBACK}
    has_r = nlme.missing() is None
    assert set(tests["method"]) == expected | ({"nlme"} if has_r else set())
    ours = tests[tests["method"] != "nlme"]
    assert len(ours) == len(expected) * (4 + len(JOINT))
    assert set(tables["units"]["method"]) == set(KR)
    assert {"profile", "wald", "bootstrap"} <= set(tables["intervals"]["method"])
    # Kenward-Roger without the second derivatives knows no unit of time
    linear = tables["units"][tables["units"]["method"].str.contains("linear")]
    assert linear["se_change_largest"].max() < 1e-4
    assert {path.name for path in out.glob("*.png")} == {
        *report.PICTURES.values(),
        "coverage.png",
    }
    # what has a checkpoint is not run again
    capsys.readouterr()
    run.main([*arguments, "--no-plots"])
    again = capsys.readouterr().err
    assert "replicates in" not in again
    run.main([*arguments, "--no-plots", "--replicates", "4", "--parts", "unit"])
    assert "unit intercept_15x5_0.4: 4 replicates" in capsys.readouterr().err


def test_a_cell_with_slopes_has_all_parameters(tmp_path: Path) -> None:
    folders = ["--work", str(tmp_path / "w"), "--out", str(tmp_path / "o")]
    cells = ["--cells", "slope_30x4_-0.3", "--replicates", "2", "--no-plots"]
    run.main([*folders, *cells, "--parts", "nlme,tests"])
    tables = report.read(tmp_path / "o")
    cell = designs.cell_named("slope_30x4_-0.3")
    for method, rows in tables["intervals"].groupby("method"):
        assert set(rows["parameter"]) == set(designs.truth(cell)), method
    ratio = select(tables["tests"], effect="time")["se_ratio"]
    assert ratio.between(0.7, 1.4).all()


def test_without_r_the_study_goes_on(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nlme.shutil, "which", lambda _: None)
    folders = ["--work", str(tmp_path / "w"), "--out", str(tmp_path / "o")]
    cells = ["--cells", "intercept_15x5_0", "--replicates", "2", "--no-plots"]
    run.main([*folders, *cells, "--parts", "nlme,tests"])
    assert "nlme is left out: Rscript" in capsys.readouterr().err
    assert set(report.read(tmp_path / "o")) == {"fits", "intervals", "tests"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--cells", "nothing"], "no cell"), (["--parts", "nothing"], "no part")],
)
def test_command_line_refuses(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run.main(arguments)
    assert message in capsys.readouterr().err


def test_a_checkpoint_that_was_not_finished_is_none(tmp_path: Path) -> None:
    cell = designs.CELLS[0]
    assert study.run_part(cell, "unit", 2, tmp_path)
    assert not study.run_part(cell, "unit", 2, tmp_path)
    (tmp_path / f"{cell.name}.unit" / "replicates").unlink()
    assert study.load(cell, "unit", tmp_path) == {}


@pytest.mark.parametrize("design", designs.DESIGNS)
def test_designs(design: str) -> None:
    data = designs.frame(design)
    assert not data.duplicated(["id", "time"]).any()
    arms = data.groupby("id")["treatment"].agg(["nunique", "first"])
    assert (arms["nunique"] == 1).all()
    treated, groups = int(arms["first"].sum()), len(arms)
    text = designs.DESIGNS[design]
    assert text.startswith(f"{groups} groups")
    assert f"{treated} " in text
    assert treated < groups / 2.0
    if design == "unbalanced":
        sizes = data["id"].value_counts()
        assert (sizes.min(), sizes.max()) == (2, 7)
        assert (data.groupby("id")["time"].diff() > 1).any()
        assert data.groupby("id")["time"].min().nunique() > 1


@pytest.mark.parametrize("name", ["slope_unbalanced_-0.3", "intercept_30x4_0.8"])
def test_responses_have_the_covariance_of_the_cell(name: str) -> None:
    cell = designs.cell_named(name)
    y = designs.responses(cell, 3000)
    np.testing.assert_allclose(y[:5], designs.responses(cell, 5), rtol=1e-9)
    data, true = designs.frame(cell.design), designs.truth(cell)
    one = np.flatnonzero(data["id"] == 10)
    time = data["time"].to_numpy()[one].astype(float)
    z = np.column_stack([np.ones(len(time)), time])
    psi = np.diag([true["id Var"], true.get("time Var", 0.0)])
    if "time Var" in true:
        psi[0, 1] = psi[1, 0] = true["corr(id, time)"] * np.sqrt(psi[0, 0] * psi[1, 1])
    v = z @ psi @ z.T
    v += true["scale"] * true["rho"] ** np.abs(np.subtract.outer(time, time))
    found = np.cov(y[:, one].T)
    spread = np.sqrt((np.outer(np.diag(v), np.diag(v)) + v**2) / len(y))
    assert (np.abs(found - v) < 5.0 * spread).all()
    rest = np.flatnonzero(data["id"] != 10)
    assert np.abs(np.corrcoef(y.T)[np.ix_(one, rest)]).max() < 0.1


def test_published_tables_are_complete() -> None:
    tables = report.read(RESULTS)
    assert set(tables) == {"fits", "intervals", "tests", "units"}
    where = ["model", "design", "rho"]
    cells = {(cell.model, cell.design, cell.rho) for cell in designs.CELLS}
    for table in tables.values():
        assert set(table[where].itertuples(index=False, name=None)) == cells
    tests, n_cells = tables["tests"], len(cells)
    for method in (*METHODS, ROBUST, *FALLBACK):
        rows = select(tests, method=method)
        assert len(rows) == n_cells * (4 + len(JOINT)), method
        assert (rows["replicates"] >= 1000).all()
    assert len(select(tests, method="nlme")) == n_cells * 5
    used = tests["replicates"] - tests["failed"]
    np.testing.assert_allclose(tests["size"], tests["rejected"] / used, atol=1e-5)
    error = np.sqrt(tests["size"] * (1.0 - tests["size"]) / used)
    np.testing.assert_allclose(tests["mcse"], error, atol=1e-5)
    single = tests["coverage"].notna()
    total = (tests["coverage"] + tests["size"])[single]
    np.testing.assert_allclose(total, 1.0, atol=1e-5)
    # nothing disappears: a fit that failed is a test that failed
    fits = select(tables["fits"], program="nlme").set_index(where)["failed"]
    failed = select(tests, method="nlme", effect="time").set_index(where)["failed"]
    pd.testing.assert_series_equal(fits, failed, check_dtype=False)


def test_page_and_tables_show_the_published_numbers() -> None:
    page = PAGE.read_text(encoding="utf-8")
    listed = (RESULTS / "tables.md").read_text(encoding="utf-8")
    shown = 0
    for title, table in report.markdown_tables(report.read(RESULTS)).items():
        assert f"## {title}\n\n{table}" in listed
        shown += table in page
    assert shown >= 8
    text = report.update_page(page, report.markdown_tables(report.read(RESULTS)))
    assert text == page
    for path in RESULTS.glob("*.png"):
        assert f"](../benchmarks/calibration/results/{path.name})" in page


def test_curves_from_data_to_table(tmp_path: Path) -> None:
    cell = curves.CELLS[-1]
    rows = pd.DataFrame(curves.replicates(cell, range(2)))
    assert set(rows["fitted"]) == set(curves.FITTED)
    again = pd.DataFrame(curves.replicates(cell, [1]))
    pd.testing.assert_frame_equal(again, rows[2:].reset_index(drop=True))
    where = {"curve": cell.curve, "design": cell.design, "rho": cell.rho}
    table = curves.coverage_table(rows.assign(**where))
    assert table["replicates"].tolist() == [2, 2]
    assert table["pointwise"].between(0.5, 1.0).all()
    data = np.array([cell.data(r)["y"] for r in range(300)])
    values = np.array([cell.data(r)["x"] for r in range(300)])
    left = data - curves.CURVES[cell.curve](values)
    v = np.cov(left[:, :12].T)
    lag = np.abs(np.subtract.outer(np.arange(12), np.arange(12)))
    np.testing.assert_allclose(v, 1.0 + cell.rho**lag, atol=0.6)


def test_published_coverage_of_curves() -> None:
    table = pd.read_csv(RESULTS / "curves" / "coverage.csv")
    assert len(table) == len(curves.CELLS) * len(curves.FITTED)
    assert table["replicates"].min() >= 400
    assert not table["failed"].any()
    page = PAGE.read_text(encoding="utf-8")
    assert curves.markdown(table) in page
    assert "calibration/results/curves/coverage.png)" in page
    right = table[table["fitted"] == "AR(1)"]
    assert right["pointwise"].between(0.92, 0.98).all()
    assert right["simultaneous"].between(0.90, 0.99).all()
