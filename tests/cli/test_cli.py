"""The command line: the main job, fits of files, messages and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar
import mixedar.formula.api as mar
from helpers import reference_cases
from mixedar.cli import main
from mixedar.cli.files import as_options, parse_dates, read_table
from mixedar.exceptions import MixedARError

DATA = reference_cases.FOLDER / "data"


@pytest.fixture
def orthodont(tmp_path: Path) -> Path:
    path = tmp_path / "orthodont.csv"
    path.write_bytes((DATA / "orthodont.csv").read_bytes())
    return path


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A process of its own, with Python's default treatment of warnings."""
    return subprocess.run(
        [sys.executable, "-m", "mixedar", *arguments],
        capture_output=True,
        check=False,
        cwd=cwd,
        text=True,
    )


def fit(*arguments: str | Path) -> int:
    return main(["fit", *map(str, arguments)])


def fit_json(
    capsys: pytest.CaptureFixture[str], *arguments: str | Path
) -> dict[str, Any]:
    assert fit(*arguments, "--json") == 0

    def refuse(text: str) -> float:
        raise AssertionError(f"{text} is not JSON")

    out = capsys.readouterr().out
    return json.loads(out, parse_constant=refuse)  # type: ignore[no-any-return]


def one_line_of_error(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("mixedar: error: ")
    return captured.err


def test_main_job_prints_every_figure_of_nlme() -> None:
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout
    words = [line.split() for line in text.splitlines()]
    # nlme: summary(lme(y ~ time + treatment, random = ~ time | id, corAR1(, ~ time)))
    for row in (
        "Intercept 0.1328 0.0299 7499 4.448 <0.001",
        "time 0.5074 0.0091 7499 55.846 <0.001",
        "treatment[T.treatment] -0.4248 0.0402 2498 -10.567 <0.001",
    ):
        assert row.split() in [line[:6] for line in words]
    for figure in ("-12629.9871", "25275.9742", "25333.6545", "10000", "2500"):
        assert figure in text
    for figure in ("0.3324", "0.5766", "0.0667", "0.2583", "0.009", "0.9076", "0.9527"):
        assert figure in text
    for figure in ("0.6748", "-0.307", "-0.673"):
        assert figure in text
    for figure in ("-3.1971", "-0.5489", "0.0173", "0.5486", "3.2820"):
        assert figure in text
    assert max(map(len, text.splitlines())) <= 80


def test_fit_prints_the_summary(
    orthodont: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(orthodont, "distance ~ age", "--groups", "subject") == 0
    captured = capsys.readouterr()
    assert " independent\n" in captured.out
    assert captured.err == ""
    timed = ["--groups", "subject", "--time", "occ"]
    assert fit(orthodont, "distance ~ age", *timed) == 0
    assert "Linear mixed model with AR(1) residuals" in capsys.readouterr().out


CASES = {
    "orthodont_rs_ar1_reml": ["--groups", "subject", "--time", "occ", "--re", "~age"],
    "orthodont_ri_ar1_ml": ["--groups", "subject", "--time", "occ", "--ml"],
    "bodyweight_car1_reml": [
        *("--groups", "rat", "--time", "time", "--re", "~time", "--residual", "car1")
    ],
    "sim_dropout_gls_ar1_ml": [
        *("--groups", "id", "--time", "wave", "--re", "0", "--ml", "--missing", "drop")
    ],
    "sim_nested_ar1_reml": [
        *("--groups", "clinic", "--re", "~1", "--vc", "patient=0 + C(patient)"),
        *("--series", "patient", "--time", "visit"),
    ],
    "sleepstudy_rs_reml": [
        *("--groups", "subject", "--re", "~days", "--residual", "independent")
    ],
}


@pytest.mark.parametrize("case_name", CASES)
@pytest.mark.filterwarnings("ignore::mixedar.exceptions.MixedARWarning")
def test_json_holds_the_numbers_of_r(
    case_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    case = reference_cases.load(case_name)
    raw = json.loads((reference_cases.FOLDER / f"{case_name}.json").read_text())
    result = fit_json(
        capsys, DATA / f"{raw['data']}.csv", case.formula, *CASES[case_name]
    )
    expected = case.expected
    assert result["llf"] == pytest.approx(expected["loglike"], abs=1e-6)
    assert result["aic"] == pytest.approx(expected["aic"], abs=1e-5)
    assert result["bic"] == pytest.approx(expected["bic"], abs=1e-5)
    assert result["scale"] == pytest.approx(expected["sigma2"], rel=1e-5)
    assert result["method"] == ("REML" if case.reml else "ML")
    assert result["converged"] is True
    assert result["at_boundary"] is False
    assert result["fixed_effects"].keys() == expected["fixef"].keys()
    for name, effect in result["fixed_effects"].items():
        se = expected["fixef_se_unadjusted"][name]
        assert effect["estimate"] == pytest.approx(expected["fixef"][name], rel=1e-5)
        assert effect["df"] == expected["df"][name]
        assert effect["se"] == pytest.approx(se, rel=1e-5)
        if case.reml:
            assert effect["t"] == pytest.approx(expected["tvalues"][name], rel=1e-4)
            assert effect["p"] == pytest.approx(expected["pvalues"][name], rel=1e-3)
            low, _, high = expected["intervals"]["fixed"][name]
            assert effect["ci"] == pytest.approx([low, high], rel=1e-3)
    if case.residual is not None:
        phi = expected["residual_params"]["phi"]
        assert result["residual_params"]["rho"] == pytest.approx(phi, rel=1e-4)
    quantiles = list(result["residual_quantiles"].values())
    assert quantiles == pytest.approx(expected["std_residual_quantiles"], abs=1e-4)
    correlation = np.array(result["fixed_effects_correlation"]["values"])
    np.testing.assert_allclose(np.diag(correlation), 1.0)


def test_variance_component_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    result = fit_json(
        capsys,
        DATA / "oats.csv",
        "grain ~ nitro + variety",
        *("--groups", "block", "--re", "~1", "--vc", "variety=0 + C(variety)"),
        *("--residual", "independent"),
    )
    levels = reference_cases.load("oats_nested_reml").expected["cov_re_levels"]
    assert result["vcomp"]["variety"] == pytest.approx(
        levels["block/variety"][0][0], rel=1e-5
    )
    assert result["cov_re"]["values"][0][0] == pytest.approx(
        levels["block"][0][0], rel=1e-5
    )


COMPOUND = reference_cases.FOLDER.parent / "compound"


def test_covariance_of_random_effects(capsys: pytest.CaptureFixture[str]) -> None:
    case = json.loads((COMPOUND / "cases.json").read_text())["machines_reml"]
    given = [COMPOUND / "machines.csv", "score ~ Machine", "--groups", "Worker"]
    result = fit_json(capsys, *given, "--re", "0 + Machine", "--re-cov", "compound")
    assert result["llf"] == pytest.approx(case["loglike"], abs=1e-8)
    cov = np.array(result["cov_re"]["values"])
    assert cov[1, 0] == pytest.approx(case["covariance"], rel=1e-5)
    diagonal = [*given, "--re", "~Machine", "--re-cov", "diagonal", "--no-eval"]
    cov = np.array(fit_json(capsys, *diagonal)["cov_re"]["values"])
    np.testing.assert_array_equal(cov, np.diag(np.diag(cov)))


def test_known_weights(orthodont: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = pd.read_csv(orthodont)
    data["w"] = 1.0 + data.index % 3
    data.to_csv(orthodont, index=False)
    given = [orthodont, "distance ~ age", "--groups", "subject", "--weights"]
    result = fit_json(capsys, *given, "w", "--no-eval")
    expected = mar.mixedlm("distance ~ age", data, groups="subject", weights="w").fit()
    assert result["llf"] == pytest.approx(expected.llf, abs=1e-8)
    assert "power" in fit_json(capsys, *given, "varPower")["residual_params"]
    for name, message in (("ww", "Did you mean 'w'"), ("sex", "has to be numeric")):
        assert fit(*given, name) == 1
        assert message in one_line_of_error(capsys)


LEVELS = reference_cases.FOLDER.parent / "levels"


def levels_case(name: str) -> tuple[dict[str, Any], Path]:
    case = json.loads((LEVELS / f"{name}.json").read_text())
    return case, LEVELS / "data" / f"{case['data']}.csv"


@pytest.mark.parametrize(
    ("name", "options", "levels"),
    [
        ("crossed_slopes_reml", [], {"subj": 32, "item": 20}),
        (
            "crossed_slopes_ar1_ml",
            ["--groups", "subj", "--time", "trial", "--ml"],
            {"subj": 32, "item": 24},
        ),
        (
            "nested_slopes_ar1_balanced_reml",
            ["--time", "time"],
            {"school:pupil": 96, "school": 16},
        ),
    ],
)
def test_bars_give_the_numbers_of_r(
    name: str,
    options: list[str],
    levels: dict[str, int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    case, path = levels_case(name)
    expected = case["expected"]
    result = fit_json(capsys, path, case["lme4_formula"], *options, "--no-eval")
    assert result["llf"] == pytest.approx(expected["loglike"], abs=1e-6)
    assert result["n_levels"] == levels
    found: dict[str, list[float]] = {}
    for row in result["varcorr"]:
        found.setdefault(row["factor"], []).append(row["variance"])
    assert found.pop("Residual") == [pytest.approx(expected["sigma2"], rel=1e-5)]
    assert found.keys() == levels.keys()
    for factor, cov in expected["cov_re_levels"].items():
        variances = found[factor.replace("/", ":")]
        assert variances == pytest.approx(np.diag(cov).tolist(), rel=1e-5)


def test_summary_of_bars_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    case, path = levels_case("crossed_slopes_reml")
    assert fit(path, case["lme4_formula"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "Containment knows of nested factors only" in captured.out
    starts = [line.split("  ")[0] for line in lines]
    for name in ("item Var", "item x cond|item Cov", "cond|item Var", "Residual"):
        assert name in starts
    assert "No. levels of item:       20" in captured.out


def test_bars_say_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    case, path = levels_case("crossed_slopes_ar1_reml")
    formula = case["lme4_formula"]
    for options, message in (
        ([formula, "--time", "trial"], "'subj', 'item'"),
        ([formula, "--groups", "trial"], "none of the factors"),
        (["y ~ cond + (1 | subjekt)"], "'subjekt'"),
        (["y ~ cond + (1 | subj) + (1 | item)", "--re", "~cond"], "leave out --re,"),
        (["y ~ cond + (cond | subj)", "--re-cov", "diagonal"], "leave out --re,"),
        (["y ~ I(cond | 1)"], "--groups is missing"),
    ):
        assert fit(path, *options) == 1
        assert message in one_line_of_error(capsys)


def test_boundary_is_null_and_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*("--groups", "subject", "--time", "days", "--re", "~days", "--json")]
    assert fit(DATA / "sleepstudy.csv", "reaction ~ days", *arguments) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert result["at_boundary"] is True
    assert len(result["boundary_notes"]) == 1
    assert result["warnings"] == result["boundary_notes"]
    assert captured.err == f"mixedar: warning: {result['warnings'][0]}\n"
    assert any(
        entry["se"] is None and entry["ci"] == [None, None]
        for entry in result["covariance_parameters"].values()
    )


def test_missing_values(orthodont: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = pd.read_csv(orthodont)
    data.loc[[3, 50], "distance"] = np.nan
    data.to_csv(orthodont, index=False)
    arguments = [str(orthodont), "distance ~ age", "--groups", "subject"]
    arguments += ["--time", "occ"]
    assert fit(*arguments) == 1
    assert "missing" in one_line_of_error(capsys)
    assert fit(*arguments, "--missing", "drop", "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["nobs"] == len(data) - 2
    assert captured.err == (
        "mixedar: warning: 2 rows with missing values were left out\n"
    )


@pytest.mark.parametrize(
    ("name", "llf", "params"),
    [
        # gls(distance ~ age * Sex, correlation = ...) of nlme 3.1-162
        ("cs", -216.8787, ["rho"]),
        ("arma11", -216.6948, ["phi1", "theta1"]),
        (
            "corSymm",
            -213.0853,
            [f"rho({a}, {b})" for b in range(2, 5) for a in range(1, b)],
        ),
        ("ar1h", -221.3981, ["rho", "sd[2]", "sd[3]", "sd[4]"]),
    ],
)
def test_residual_structures_by_name(
    name: str,
    llf: float,
    params: list[str],
    orthodont: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = fit_json(
        capsys,
        orthodont,
        "distance ~ age * sex",
        *("--groups", "subject", "--time", "occ", "--re", "0", "--residual", name),
    )
    assert result["llf"] == pytest.approx(llf, abs=2e-4)
    assert list(result["residual_params"]) == params


def test_unknown_residual_structures(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "data.csv", "y ~ x", "--groups", "id", "--residual", "toeplits"])
    assert "did you mean 'toeplitz'?" in capsys.readouterr().err


def test_dates_are_times(orthodont: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["distance ~ age", "--groups", "subject", "--time"]
    by_number = fit_json(capsys, orthodont, *arguments, "occ")
    data = pd.read_csv(orthodont)
    data["day"] = [
        f"2024-02-{27 + occ}" if occ < 3 else f"2024-03-{occ - 2:02d}"
        for occ in data["occ"]
    ]
    data.to_csv(orthodont, index=False)
    by_date = fit_json(capsys, orthodont, *arguments, "day")
    assert by_date["time_unit"] == "1 day"
    assert by_date["llf"] == pytest.approx(by_number["llf"], abs=1e-9)


@pytest.mark.parametrize("delta", ["2", "auto"])
def test_unit_of_time(
    delta: str, orthodont: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [orthodont, "distance ~ age", "--groups", "subject", "--re", "0"]
    want = fit_json(capsys, *given, "--time", "occ")
    got = fit_json(capsys, *given, "--time", "age", "--delta", delta)
    assert got["time_unit"] == "step of 2"
    assert got["residual_params"] == pytest.approx(want["residual_params"], rel=1e-6)


def test_functions_of_numpy(
    orthodont: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = fit_json(
        capsys, orthodont, "np.log(distance) ~ np.sqrt(age)", "--groups", "subject"
    )
    assert list(result["fixed_effects"]) == ["Intercept", "np.sqrt(age)"]


@pytest.mark.parametrize("suffix", [".csv.gz", ".tsv", ".parquet", ".PQ"])
def test_kinds_of_files(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = reference_cases.read_csv(DATA / "orthodont.csv")
    path = tmp_path / f"data{suffix}"
    if suffix.lower() in (".parquet", ".pq"):
        data.to_parquet(path)
    else:
        data.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    result = fit_json(
        capsys,
        path,
        "distance ~ age * sex",
        *("--groups", "subject", "--time", "occ", "--re", "~age"),
    )
    expected = reference_cases.load("orthodont_rs_ar1_reml").expected
    assert result["llf"] == pytest.approx(expected["loglike"], abs=1e-6)


def test_output_goes_to_a_file(
    orthodont: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.json"
    arguments = ["distance ~ age", "--groups", "subject", "--json"]
    assert fit(orthodont, *arguments, "--output", target) == 0
    assert capsys.readouterr().out == ""
    assert json.loads(target.read_text(encoding="utf-8"))["nobs"] == 108
    assert fit(orthodont, *arguments, "--output", tmp_path / "no" / "out.json") == 1
    assert "out.json" in one_line_of_error(capsys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["distance ~ agee", "--groups", "subject"], "Did you mean 'age'"),
        (["distance ~ age", "--groups", "subjekt"], "Did you mean 'subject'"),
        (["distance ~ age", "--groups", "subject", "--time", "sex"], "sex"),
        (["distance ~ age +* sex", "--groups", "subject"], "age +* sex"),
        (["sex ~ age", "--groups", "subject"], "not numeric"),
        (["distance ~ age", "--groups", "sex", "--time", "occ"], "twice"),
        (["distance ~ age", "--groups", "subject", "--re", "~~"], "~"),
        (["distance ~ age", "--groups", "subject", "--vc", "a=0 + C(b)"], "'b'"),
    ],
)
def test_errors_are_one_line(
    options: list[str],
    message: str,
    orthodont: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fit(orthodont, *options) == 1
    assert message in one_line_of_error(capsys)


def test_files_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = {
        "missing.csv": (None, "no such file"),
        "empty.csv": (b"", "is empty"),
        "header.csv": (b"y,x,id\n", "no rows"),
        "latin.csv": (b"y,x\n1,\xe9\n", "cannot be read"),
        "ragged.csv": (b"y,x\n1,2\n1,2,3\n", "cannot be read"),
        "broken.csv.gz": (b"no gzip", "cannot be read"),
        "broken.parquet": (b"no parquet", "cannot be read"),
        "data.xlsx": (b"", "neither CSV nor Parquet"),
        "data": (b"", "neither CSV nor Parquet"),
    }
    for name, (content, message) in contents.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        assert fit(path, "y ~ x", "--groups", "id") == 1
        line = one_line_of_error(capsys)
        assert message in line
        assert name in line
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(MixedARError, match="cannot be read"):
        read_table(str(tmp_path / "folder.csv"))


def test_parquet_without_pyarrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data.parquet"
    path.write_bytes(b"")
    for engine in ("pyarrow", "fastparquet"):
        monkeypatch.setitem(sys.modules, engine, None)
    with pytest.raises(MixedARError, match=r'pip install "mixedar\[parquet\]"'):
        read_table(str(path))


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit"],
        ["fit", "data.csv", "y ~ x"],
        ["fit", "data.csv", "y ~ x", "--groups", "id", "--residual", "ar1x"],
        ["fit", "data.csv", "y ~ x", "--groups", "id", "--vc", "0 + C(x)"],
        ["fit", "data.csv", "y ~ x", "--groups", "id", "--vc", "a=1", "--vc", "a=2"],
        ["predict"],
        ["--nonsense"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: mixedar" in capsys.readouterr().err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["fit", "--help"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
        text = capsys.readouterr().out
        assert "examples:" in text
        assert "fit data.csv" in text or "mixedar fit data.csv" in text
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"mixedar {mixedar.__version__}\n"


def test_process_exit_codes(tmp_path: Path) -> None:
    done = run("fit", "none.csv", "y ~ x", "--groups", "id", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "python -m mixedar: error: none.csv: there is no such file\n"
    )
    with pytest.raises(SystemExit) as misused:
        main(["fit"])
    assert misused.value.code == 2


def test_reader_that_goes_away() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mixedar"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 1
    assert errors == b""


def test_only_dates_in_iso_form_are_parsed() -> None:
    days = parse_dates(pd.Series(["2024-01-31", None, "2024-02-01"]))
    assert pd.api.types.is_datetime64_any_dtype(days)
    for values in (["01/02/2024"], ["2024-13-01"], ["a", "2024-01-01"], [1, 2], [None]):
        column = pd.Series(values)
        assert parse_dates(column) is column


@pytest.mark.parametrize(
    ("python", "here"),
    [
        ("residual='car1', or missing=\"drop\"", "--residual car1, or --missing drop"),
        ("groups='g' is nothing; series=", "--groups g is nothing; --series"),
        ("pass re_formula='0 + x' (re_formula)", 'pass --re "0 + x" (--re)'),
        ("write vc_formula={'b': '0 + C(b)'}.", 'write --vc "b=0 + C(b)".'),
        ("weights='w' or re_cov='diagonal'", "--weights w or --re-cov diagonal"),
        ("fit(reml=False), delta='auto', time= and df='normal'",
         "fit(--ml), --delta auto, --time and --df normal"),
    ],
)  # fmt: skip
def test_remedies_are_options(python: str, here: str) -> None:
    assert as_options(python) == here


@pytest.mark.parametrize(
    "python",
    [
        "pass residual=AR1(nugget=True)",
        "pass weights=VarIdent('g')",
        "needs to know its column: pass VarFixed('age')",
    ],
)
def test_remedies_without_an_option_are_said_to_be_python(python: str) -> None:
    assert as_options(python).startswith(python)
    assert "is Python" in as_options(python)


def test_an_error_names_the_option(
    orthodont: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(orthodont, "distance ~ age", "--groups", "nobody") == 1
    assert "--groups nobody is not a column" in one_line_of_error(capsys)


def test_degrees_of_freedom(
    orthodont: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Satterthwaite's are those of lmerTest: 26 subjects' slopes."""
    call = [orthodont, "distance ~ age", "--groups", "subject", "--re", "~age"]
    found = fit_json(capsys, *call, "--df", "satterthwaite")
    assert found["df_method"] == "satterthwaite"
    np.testing.assert_allclose(found["fixed_effects"]["age"]["df"], 26.0, rtol=1e-4)
    assert fit_json(capsys, *call)["fixed_effects"]["age"]["df"] == 80.0
