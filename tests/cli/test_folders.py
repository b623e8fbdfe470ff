"""Folders and patterns of files on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mixedar.cli import main
from mixedar.datasets import load_orthodont

OPTIONS = ["distance ~ age", "--groups", "subject", "--time", "age", "--json"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    teeth = load_orthodont()
    teeth.to_csv(tmp_path / "all.csv", index=False)
    for kind in ("parquet", "csv"):
        (tmp_path / kind).mkdir()
    for k in range(3):
        part = teeth.iloc[k * 36 : (k + 1) * 36]
        part.to_parquet(tmp_path / "parquet" / f"{k}.parquet")
        part.to_csv(tmp_path / "csv" / f"{k}.csv", index=False)
    return tmp_path


def numbers(*arguments: str, capsys: pytest.CaptureFixture[str]) -> Any:
    assert main(["fit", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["parquet", "parquet/*.parquet", "csv", "csv/*.csv"])
def test_the_numbers_are_those_of_one_file(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    one = numbers(str(folder / "all.csv"), *OPTIONS, capsys=capsys)
    many = numbers(str(folder / name), *OPTIONS, "--memory", "300MB", capsys=capsys)
    assert many["nobs"] == one["nobs"] == 108
    assert many["llf"] == pytest.approx(one["llf"], rel=1e-12)
    assert many["residual_quantiles"] is None
    for coefficient, row in one["fixed_effects"].items():
        found = many["fixed_effects"][coefficient]
        assert found["estimate"] == pytest.approx(row["estimate"], rel=1e-10)
        assert found["df"] == row["df"]


def test_labels_of_many_files_stay_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("duckdb")
    labels = ["01", "1", "1.10", "1.1", "02", "2"]
    rows = pd.DataFrame(
        {
            "id": [label for label in labels for _ in range(4)],
            "t": [0, 1, 2, 3] * len(labels),
            "y": [0.1 * ((7 * k) % 24) + 0.01 * k for k in range(24)],
        }
    )
    rows.to_csv(tmp_path / "a.csv", index=False)
    pattern = str(tmp_path / "*.csv")
    found = numbers(pattern, "y ~ t", "--groups", "id", "--json", capsys=capsys)
    assert found["n_groups"] == len(labels)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing/*.csv", "there are no such files"),
        ("csv", "memory="),
    ],
)
def test_errors_are_one_line(
    folder: Path, name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*OPTIONS, "--memory", "much"] if name == "csv" else OPTIONS
    assert main(["fit", str(folder / name), *arguments]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error or "--memory" in error
