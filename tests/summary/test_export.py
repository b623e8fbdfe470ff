"""Summaries for papers: Markdown, LaTeX with booktabs, great_tables, Excel."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar.datasets import load_orthodont
from mixedar.exceptions import UnknownColumnError, UnsupportedError
from mixedar.summary import ResultsSummary, SummaryTable


def example() -> ResultsSummary:
    frame = pd.DataFrame(
        {"estimate": [1.5, -2.0], "P>|t|": [0.25, 0.75]}, index=["a_b", "x[T.c]"]
    )
    tables = [
        SummaryTable(frame, "Numbers", name="numbers", note="first"),
        SummaryTable(frame.iloc[:1], name="one"),
    ]
    return ResultsSummary("Two * numbers", {"Rows:": 3}, tables, ["last | note"])


def test_markdown_is_pipe_tables() -> None:
    parts = example().as_markdown().split("\n\n")
    assert parts[0] == r"**Two \* numbers**"
    assert parts[2] == "*Numbers*"
    lines = parts[3].splitlines()
    assert lines[0] == r"|  | estimate | P>\|t\| |"
    assert lines[1] == "| :-- | --: | --: |"
    assert lines[2] == r"| a\_b | 1.5000 | 0.250 |"
    assert lines[3].startswith(r"| x\[T.c\] | -2.0000 |")
    assert parts[4] == "first"
    assert parts[-1] == r"last \| note"
    for part in parts:
        rows = [line for line in part.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) <= 1


def test_every_table_has_a_markdown_form() -> None:
    model = mar.mixedlm("distance ~ age * sex", load_orthodont(), groups="subject")
    fit = model.fit()
    summary = fit.summary()
    text = summary.as_markdown()
    assert len(re.findall(r"^\| :--", text, re.M)) == len(summary.tables)
    assert "| Estimator | REML |" in mar.compare({"a": fit}).as_markdown()
    assert ResultsSummary().as_markdown() == ""


def test_latex_has_rules_caption_and_label() -> None:
    latex = example().as_latex("tab:x", caption="Mine & yours")
    assert r"\caption{Mine \& yours}" in latex
    assert r"\label{tab:x}" in latex
    assert r"\hline" not in latex
    assert latex.count(r"\toprule") == latex.count(r"\bottomrule") == 3
    assert latex.count(r"\midrule") == 2
    plain = example().as_latex(booktabs=False)
    assert r"\caption{Two * numbers}" in plain
    assert r"\toprule" not in plain
    assert plain.count(r"\hline") == 8
    with pytest.raises(UnsupportedError, match="booktabs"):
        example().as_latex(booktabs="yes")  # type: ignore[arg-type]


def test_one_table_has_a_float_of_its_own() -> None:
    latex = example().as_latex("tab:one", table="numbers")
    assert latex.count(r"\begin{table}") == latex.count(r"\begin{tabular}") == 1
    assert r"\textit{Numbers}" in latex
    assert r"\label{tab:one}" in latex
    assert "Rows:" not in latex
    assert "-2.0000" in latex
    assert latex == example().as_latex("tab:one", table=0)
    with pytest.raises(UnknownColumnError, match="nothing"):
        example().as_latex(table="nothing")


def test_tables_of_great_tables() -> None:
    pytest.importorskip("great_tables")
    html = example().as_gt("numbers").as_raw_html()
    for text in ("Two * numbers", "Numbers", "estimate", "a_b", "first", "last | note"):
        assert text in html
    assert "a_b" in example().as_gt(1).as_raw_html()


def test_workbooks_hold_full_precision(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    model = mar.mixedlm("distance ~ age * sex", load_orthodont(), groups="subject")
    summary = model.fit().summary()
    summary.to_excel(tmp_path / "fit.xlsx")
    sheets = pd.read_excel(tmp_path / "fit.xlsx", sheet_name=None, index_col=0)
    frames = summary.to_frames()
    assert list(sheets) == ["about", *frames]
    found = sheets["parameters"]
    pd.testing.assert_frame_equal(
        found, pd.DataFrame(frames["parameters"]), check_names=False, check_dtype=False
    )


def test_what_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnsupportedError, match="xlsx"):
        example().to_excel(tmp_path / "fit.csv")
    with pytest.raises(UnknownColumnError, match="nothing"):
        example().as_gt("nothing")
    for name in ("great_tables", "openpyxl"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UnsupportedError, match="pip install"):
        example().as_gt()
    with pytest.raises(UnsupportedError, match="pip install"):
        example().to_excel(tmp_path / "fit.xlsx")
