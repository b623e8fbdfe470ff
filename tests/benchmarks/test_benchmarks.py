"""The benchmarks run: workloads, adapters that need no R, command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks import panel_report, prepare, problems, report, run, worker  # noqa: E402
from benchmarks.corners import CORNERS  # noqa: E402
from benchmarks.measure import measure  # noqa: E402
from benchmarks.panel_problems import PANEL_WORKLOADS  # noqa: E402
from benchmarks.peers import PANEL_PEERS, PEERS, peers_of  # noqa: E402
from benchmarks.peers.base import Job, PythonPeer, dense_design  # noqa: E402
from benchmarks.peers.panel import PanelProgram  # noqa: E402
from benchmarks.peers.rpeer import RPeer  # noqa: E402
from benchmarks.runner import Limits, PeerRuns, run_workload  # noqa: E402
from benchmarks.specs import LevelsSpec  # noqa: E402
from benchmarks.structure_problems import (  # noqa: E402
    MANY_WAVES,
    STRUCTURE_WORKLOADS,
)
from benchmarks.worker import fit_once, refit_many  # noqa: E402

AR1_MODEL = "y ~ time + treatment"


def _python_peer(name: str) -> PythonPeer:
    peer = PEERS[name]
    assert isinstance(peer, PythonPeer)
    return peer


def _panel_program(name: str) -> PanelProgram:
    peer = PANEL_PEERS[name]
    assert isinstance(peer, PanelProgram)
    return peer


@pytest.mark.parametrize("name", list(problems.PROBLEMS))
def test_workload_is_reproducible_and_complete(name: str) -> None:
    first, second = problems.tiny(name), problems.tiny(name)
    pd.testing.assert_frame_equal(first.data, second.data)
    np.testing.assert_array_equal(first.responses, second.responses)
    model = first.model
    columns = {model.response, *model.fixed, model.groups, *model.slopes, model.time}
    assert columns <= set(first.data.columns)
    assert first.data.notna().all(axis=None)
    assert not first.data.duplicated([model.groups, model.time]).any()
    ordered = first.data.sort_values([model.groups, model.time])
    assert ordered.index.is_monotonic_increasing
    assert first.n_clusters >= 30
    p, q = len(model.fixed) + 1, len(model.slopes) + 1
    if name in PANEL_WORKLOADS or name in STRUCTURE_WORKLOADS:  # there is no Z
        q = 0
    if isinstance(model, LevelsSpec):  # for each of the factors
        assert set(model.others) <= set(first.data.columns)
        q *= 1 + len(model.others)
    assert first.design_bytes == 8 * len(first.data) * (p + q)


def test_growth_at_full_size_is_the_data_set_of_the_package() -> None:
    from mixedar.datasets import load_growth

    problem = problems.build("growth")
    assert "shipped" in problem.title
    shipped = load_growth().astype(problem.data.dtypes)
    pd.testing.assert_frame_equal(problem.data, shipped)


def test_dropout_has_gaps_and_a_covariate_of_each_row() -> None:
    problem = problems.build("dropout", 0.005)
    step = problem.data.groupby("id")["time"].diff().dropna()
    assert (step > 1).any()
    sizes = problem.data["id"].value_counts()
    assert sizes.min() < sizes.max() == problem.largest_cluster
    assert problem.data["dose"].is_unique


def test_long_series_have_irregular_times() -> None:
    problem = problems.tiny("long")
    step = problem.data.groupby("id")["time"].diff().dropna()
    assert step.min() > 0
    assert step.nunique() == len(step)


def test_refits_have_one_response_a_row() -> None:
    problem = problems.tiny("refits_slope")
    assert problem.responses.shape == (5, len(problem.data))
    exog, exog_re, groups, time = dense_design(problem)
    assert exog.shape == (150, 3)
    assert exog_re.shape == (150, 2)
    assert groups.shape == time.shape == (150,)


@pytest.mark.parametrize(
    ("name", "scale", "message"),
    [("nothing", 1.0, "there are growth"), ("growth", 0.0, "scale")],
)
def test_build_refuses(name: str, scale: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        problems.build(name, scale)


@pytest.mark.parametrize("name", ["growth", "panel_re", "un10", "items", "nested"])
def test_facts_survive_the_way_through_a_file(name: str, tmp_path: Path) -> None:
    problem, small = problems.build(name, 0.002), problems.tiny(name)
    prepare.write(problem, small, tmp_path, csv=True)
    assert prepare.read_facts(tmp_path) == prepare.facts_of(problem)
    # Python's float reads back what was written, to the last bit.
    exact = dict.fromkeys(problem.data.select_dtypes("float"), float)
    read = pd.read_csv(tmp_path / "data.csv", converters=exact)
    pd.testing.assert_frame_equal(read, problem.data)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["growth", "dropout", "long"])
def test_mixedar_adapter_beats_the_model_without_correlation(name: str) -> None:
    problem = problems.build(name, 0.003)
    ours = fit_once(_python_peer("mixedar"), problem, 0.0)
    plain = fit_once(_python_peer("statsmodels"), problem, 0.0)
    # The independent model is the case rho = 0 of ours.
    assert ours["llf"] > plain["llf"]
    assert len(ours["params"]) == len(plain["params"]) == len(ours["bse"])
    assert 0 < ours["rho"] < 1
    assert plain["rho"] is None


MANY = [name for name, w in STRUCTURE_WORKLOADS.items() if w.waves >= MANY_WAVES]


@pytest.mark.parametrize("name", MANY)
def test_many_waves_have_no_rivals(name: str) -> None:
    problem = problems.build(name, 0.05)
    assert list(peers_of(name)) == ["mixedar"]
    assert problem.largest_cluster == STRUCTURE_WORKLOADS[name].waves


@pytest.mark.parametrize("name", [n for n in STRUCTURE_WORKLOADS if n not in MANY])
def test_structures_beat_independence(name: str) -> None:
    problem = problems.build(name, 0.05 if "10" in name else 0.002)
    ours = fit_once(_python_peer("mixedar"), problem, 0.0)
    x = np.column_stack(
        [
            np.ones(len(problem.data)),
            problem.data["time"],
            problem.data["treatment"] == "treatment",
        ]
    )
    _, rss, *_ = np.linalg.lstsq(x, problem.data["y"], rcond=None)
    n, p = x.shape
    plain = (n - p) * (1.0 + np.log(2.0 * np.pi * rss[0] / (n - p)))
    plain += np.linalg.slogdet(x.T @ x)[1]
    assert ours["llf"] > -0.5 * plain + 10.0
    assert ours["converged"]
    assert len(ours["params"]) == 3
    assert ours["rho"] is None
    assert set(peers_of(name)) == {"mixedar", "nlme", "glmmTMB"}
    missing = problem.data["id"].value_counts().min() < problem.largest_cluster
    assert missing == ("dropout" in name)


def test_sizes_of_several_factors() -> None:
    for name, rows, levels in (
        ("crossed_300x100", 30_000, {"a": 300, "b": 100}),
        ("items", 12_000, {"subject": 200, "item": 60}),
        ("nested", 120_000, {"pupil": 20_000, "school": 200}),
        ("ratings", 73_000, {"student": 3_000, "lecturer": 1_100, "dept": 28}),
    ):
        problem = problems.build(name)
        assert len(problem.data) == rows
        assert {key: problem.data[key].nunique() for key in levels} == levels
        model = problem.model
        assert isinstance(model, LevelsSpec)
        assert list(levels) == [model.groups, *model.others]
        inside = problem.data.groupby(model.groups)[list(model.others)].nunique()
        assert model.nested == bool((inside == 1).all(axis=None))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", problems.LEVELS_RIVALS)
def test_several_factors_are_fitted(name: str) -> None:
    problem = problems.tiny(name)
    ours = fit_once(_python_peer("mixedar"), problem, 0.0)
    assert ours["converged"]
    assert len(ours["params"]) == len(ours["bse"]) == 2
    assert (ours["rho"] is not None) == (problem.model.residual == "ar1")
    assert list(peers_of(name)) == ["mixedar", *problems.LEVELS_RIVALS[name]]
    if "statsmodels" in peers_of(name):
        theirs = fit_once(_python_peer("statsmodels"), problem, 0.0)
        assert ours["llf"] == pytest.approx(theirs["llf"], abs=1e-3)
        assert ours["params"] == pytest.approx(theirs["params"], rel=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_models_without_residual_correlation_have_more_rivals() -> None:
    problem = problems.tiny("growth_plain")
    pd.testing.assert_frame_equal(problem.data, problems.tiny("growth").data)
    rivals = set(peers_of(problem.name))
    assert {"glmm", "lme_python", "gpboost", "bambi", *PEERS} == rivals
    ours = fit_once(_python_peer("mixedar"), problem, 0.0)
    theirs = fit_once(_python_peer("statsmodels"), problem, 0.0)
    assert ours["rho"] is None
    assert ours["llf"] == pytest.approx(theirs["llf"], abs=1e-3)
    assert peers_of(problem.name)["gpboost"].fitted(problem.model).startswith("ML")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", problems.SMOOTHS)
def test_smooths_are_fitted(name: str) -> None:
    problem = problems.tiny(name)
    assert problem.data["age"].nunique() == len(problem.data)
    ours = fit_once(_python_peer("mixedar"), problem, 0.0)
    assert ours["converged"]
    assert len(ours["params"]) == len(ours["bse"]) == 6
    assert list(peers_of(name)) == ["mixedar", "mgcv"]
    assert problem.model.formula == "y ~ arm + s(age, by=arm, k=10)"


def test_r_is_told_of_the_other_factors(tmp_path: Path) -> None:
    facts = prepare.facts_of(problems.tiny("nested"))
    job = Job("nlme", facts, tmp_path, tmp_path / "out", 0.0, 0.0)
    assert {"groups=pupil", "others=school"} <= set(PEERS["nlme"].command(job))
    assert PEERS["nlme"].fitted(facts.model) == "AR(1)"
    assert PEERS["lme4"].fitted(facts.model) == "no AR"
    ratings = prepare.facts_of(problems.tiny("ratings"))
    assert PEERS["lme4"].fitted(ratings.model) == "independent"
    formula = "y ~ service + (1 | student) + (1 | lecturer) + (1 | dept)"
    assert ratings.model.lme4_formula == formula


def test_r_is_told_that_there_are_no_random_effects(tmp_path: Path) -> None:
    facts = prepare.facts_of(problems.tiny("un4"))
    job = Job("nlme", facts, tmp_path, tmp_path / "out", 0.0, 0.0)
    command = PEERS["nlme"].command(job)
    assert {"random=0", "residual=un"} <= set(command)
    arma = prepare.facts_of(problems.tiny("arma4"))
    assert PEERS["glmmTMB"].refuse(arma) == "has no ARMA(1,1)"
    assert PEERS["nlme"].fitted(arma.model) == "ARMA(1,1)"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["refits", "refits_slope", "refits_many"])
def test_refits_agree_with_the_formula_fit(name: str) -> None:
    problem = problems.tiny(name)
    peer = _python_peer("mixedar")
    by_formula = peer.fit(problem.data, problem.model)
    by_array = peer.refitter(problem)(problem.responses[0])
    assert by_array.llf == pytest.approx(by_formula.llf, abs=1e-6)
    result = refit_many(peer, problem, 60.0)
    assert result["fits"] == len(problem.responses)
    assert result["llf"] is not None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [n for n in PANEL_WORKLOADS if "bootstrap" not in n])
def test_linearmodels_computes_what_mixedar_computes(name: str) -> None:
    problem = problems.tiny(name)
    ours, theirs = (
        fit_once(_panel_program(peer), problem, 0.0)
        for peer in ("mixedar", "linearmodels")
    )
    assert ours["df"] == theirs["df"]
    assert ours["df"] == (None if name in ("panel_fe", "panel_re") else 4)
    if ours["df"]:
        assert ours["statistic"] == pytest.approx(theirs["statistic"], rel=1e-8)
    if not name.startswith("panel_hausman"):  # tests have no coefficients of their own
        assert ours["params"] == pytest.approx(theirs["params"], rel=1e-8, abs=1e-10)
        assert ours["bse"] == pytest.approx(theirs["bse"], rel=1e-8)


@pytest.mark.filterwarnings("ignore")
def test_bootstrap_of_a_rival_is_scaled_up() -> None:
    problem = problems.tiny("panel_bootstrap")
    ours = fit_once(_panel_program("mixedar"), problem, 0.0)
    theirs = fit_once(_panel_program("linearmodels"), problem, 0.0)
    assert ours["statistic"] > 0
    assert 0 < ours["test_s"] < ours["wall"]
    assert theirs["share"] == pytest.approx(2 / 999)
    entries = [PeerRuns("mixedar", "one", [ours]), PeerRuns("other", "two", [theirs])]
    table = panel_report.panel_table(prepare.facts_of(problem), entries)
    assert "1 run; scaled up from 0.2 % of the work" in table
    assert table.endswith("mixedar: one\n  other: two")


def test_every_panel_peer_says_what_it_computes() -> None:
    for name, model in PANEL_WORKLOADS.items():
        for peer in peers_of(name).values():
            assert peer.fitted(model)


def test_plm_is_skipped_without_r(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    plm = PANEL_PEERS["plm"]
    assert plm.missing() == "Rscript is not on the PATH"
    facts = prepare.facts_of(problems.tiny("panel_fe"))
    entry = PeerRuns("plm", plm.fitted(facts.model), note=f"skipped: {plm.missing()}")
    table = panel_report.panel_table(facts, [entry])
    assert table.endswith("skipped: Rscript is not on the PATH")


def test_worker_runs_a_panel_workload(tmp_path: Path) -> None:
    small = problems.tiny("panel_hausman")
    prepare.write(small, small, tmp_path, csv=False)
    out = tmp_path / "out"
    worker.main(["mixedar", str(tmp_path), str(out), "0", "0"])
    result = json.loads(out.read_text())
    assert result["df"] == 4
    assert {"wall", "cpu", "peak_bytes", "import_s", "warmup_s"} <= set(result)


def test_plm_is_told_the_task_and_read(tmp_path: Path) -> None:
    facts = prepare.facts_of(problems.tiny("panel_hausman"))
    out = tmp_path / "out"
    job = Job("plm", facts, tmp_path, out, 0.0, 0.0)
    command = PANEL_PEERS["plm"].command(job)
    assert Path(command[2]).name == "plm.R"
    assert {"task=hausman", "regressors=x1 x2 x3 x4"} <= set(command)
    lines = ["wall\t1.5", "params\tNA", "bse\tNA", "statistic\t3.5", "fits\t1"]
    out.write_text("\n".join([*lines, "failed\t0", "peak_bytes\t1024"]))
    result = PANEL_PEERS["plm"].read(job)
    assert result["params"] == result["bse"] == []
    assert result["statistic"] == 3.5


def test_command_line_leaves_out_peers_that_do_something_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["--smoke", "--workloads", "panel_fe", "--peers", "statsmodels"]
    assert run.main(command) == 0
    assert "panel_fe: none of statsmodels does this" in capsys.readouterr().out


def test_measure_counts_what_the_work_takes() -> None:
    done = measure(lambda: np.ones(4_000_000).sum(), 0.0, 3)
    assert done.calls == 1
    assert done.value == 4_000_000
    assert done.wall > 0
    assert measure(int, 1e9, 3).calls == 3


def test_absent_program_is_skipped_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    facts, entries = run_workload("growth", ["lme4"], 0.01, 1, Limits(), str)
    assert entries[0].note == "skipped: Rscript is not on the PATH"
    assert "Rscript is not on the PATH" in report.workload_table(facts, entries)


def test_nlme_refuses_series_of_twenty_thousand() -> None:
    facts = prepare.facts_of(problems.build("long", 0.6))
    reason = PEERS["nlme"].refuse(facts)
    assert reason is not None
    assert "n x n" in reason


def test_r_results_are_read(tmp_path: Path) -> None:
    problem = problems.tiny("growth")
    out = tmp_path / "out"
    job = Job("nlme", prepare.facts_of(problem), tmp_path, out, 0.0, 0.0)
    peer = PEERS["nlme"]
    assert isinstance(peer, RPeer)
    command = peer.command(job)
    assert f"formula={AR1_MODEL}" in command
    assert "random=1 + time" in command
    lines = ["wall\t1.5", "rho\tNA", "params\t1\t2", "fits\t3", "failed\t0"]
    out.write_text("\n".join([*lines, "peak_bytes\t1024", "note\twords"]))
    result = peer.read(job)
    assert result["wall"] == 1.5
    assert result["rho"] is None
    assert result["params"] == [1.0, 2.0]
    assert result["fits"] == 3
    assert result["note"] == "words"


def test_table_states_ratios_and_the_simpler_model() -> None:
    facts = prepare.facts_of(problems.tiny("growth"))
    run = {"cpu": 0.1, "peak_bytes": 10**6, "llf": -1.0, "rho": 0.5, "converged": True}
    ours = PeerRuns("mixedar", "AR(1)", [{**run, "wall": 0.01}])
    other = PeerRuns("lme4", "no AR", [{**run, "wall": w} for w in (0.1, 0.2, 0.3)])
    table = report.workload_table(facts, [ours, other])
    assert "20.00" in table
    assert "200 ms (100 ms - 300 ms)" in table
    assert "lme4: a simpler model, without residual correlation" in table


def test_smoke_run_from_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "run.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--smoke"]
    command += ["--workloads", "growth", "--peers", "mixedar", "--json", str(out)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "logLik" in done.stdout
    record = json.loads(out.read_text())
    runs = record["workloads"]["growth"]["peers"][0]["runs"]
    assert len(runs) == 1
    assert {"wall", "cpu", "peak_bytes", "import_s", "process_s"} <= set(runs[0])


def test_command_line_names_what_exists(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run.main(["--peers", "nobody"])
    assert stopped.value.code == 2
    assert "there are mixedar, nlme" in capsys.readouterr().err


#: Corners that take seconds, or end at a boundary, with few rows too.
_LONG = {
    "all_effects100k",
    "arma21_5x3000",
    "arma33_500",
    "exp_nugget20x10000",
    "report_weights",
}


@pytest.mark.parametrize("name", sorted(set(CORNERS) - _LONG))
def test_corners_are_there(name: str) -> None:
    assert CORNERS[name](0.1)() is not None
