"""
Tables for people: Markdown from the summaries, which are kept as CSV.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from benchmarks import machine
from benchmarks.calibration.designs import DESIGNS, MODELS, SEED
from benchmarks.calibration.methods import JOINT
from benchmarks.calibration.summary import select, summaries

__all__ = ["PICTURES", "markdown_tables", "publish", "read", "update_page", "write"]

_COLUMNS = [(model, design) for model in MODELS for design in DESIGNS]
PICTURES = {
    "time:treatment": "size-slope.png",
    "F treatment": "size-f.png",
}


def _range(values: pd.Series) -> str:
    """Mean and range over the residual correlations, in percent."""
    values = 100.0 * values.dropna()
    if values.empty:
        return ""
    return f"{values.mean():.1f} ({values.min():.1f}-{values.max():.1f})"


def _failures(failed: pd.Series, replicates: pd.Series) -> str:
    if not len(failed):
        return ""
    return f"{100.0 * failed.sum() / replicates.sum():.1f}"


def _markdown(header: list[str], rows: Iterable[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _header(first: str) -> list[str]:
    return [first, *(f"{model}, {design}" for model, design in _COLUMNS)]


def _cells(table: pd.DataFrame) -> list[pd.DataFrame]:
    return [select(table, model=model, design=design) for model, design in _COLUMNS]


def _sizes(tests: pd.DataFrame, effect: str) -> str:
    table = tests[tests["effect"] == effect]
    rows = [
        [str(method), *(_range(one["size"]) for one in _cells(group))]
        for method, group in table.groupby("method", sort=False)
    ]
    return _markdown(_header("method"), rows)


def _test_failures(tests: pd.DataFrame) -> str:
    rows = []
    for method, group in tests.groupby("method", sort=False):
        for label, effects in (
            ("one coefficient", group["effect"] == "time:treatment"),
            ("two", group["effect"].str.startswith("F ")),
        ):
            part = group[effects]
            if method != "nlme" and part["failed"].sum() == 0:
                continue
            shares = [
                _failures(one["failed"], one["replicates"]) for one in _cells(part)
            ]
            rows.append([f"{method}, {label}", *shares])
    return _markdown(_header("no test, %"), rows)


def _errors(tests: pd.DataFrame) -> str:
    """Estimated by true standard errors."""
    table = tests[tests["effect"] == "time:treatment"]
    rows = []
    for method in (
        "normal",
        "Kenward-Roger full, expected",
        "Kenward-Roger full, observed",
        "Kenward-Roger linear, expected",
        "Kenward-Roger linear, observed",
        "CR2 robust",
    ):
        group = table[table["method"] == method]
        shares = [
            f"{one['se_ratio'].mean():.2f} "
            f"({one['se_ratio'].min():.2f}-{one['se_ratio'].max():.2f})"
            for one in _cells(group)
        ]
        rows.append(["none" if method == "normal" else method, *shares])
    return _markdown(_header("correction"), rows)


def _coverages(intervals: pd.DataFrame) -> str:
    rows = []
    names = {"profile": "profile", "wald": "Wald", "nlme": "nlme"}
    for (parameter, method), group in intervals.groupby(
        ["parameter", "method"], sort=False
    ):
        if method not in names:
            continue
        texts = []
        for one in _cells(group):
            text = _range(one["coverage"])
            if one["failed"].sum():
                text += f"; none {_failures(one['failed'], one['replicates'])}"
            texts.append(text)
        rows.append([f"{parameter}, {names[str(method)]}", *texts])
    order = [*dict.fromkeys(intervals["parameter"])], [*names.values()]
    rows.sort(
        key=lambda row: [
            one.index(part)
            for one, part in zip(order, row[0].rsplit(", ", 1), strict=True)
        ]
    )
    return _markdown(_header("interval"), rows)


def _fits(fits: pd.DataFrame) -> str:
    rows = []
    ours, other = (fits[fits["program"] == name] for name in ("mixedar", "nlme"))

    def add(label: str, table: pd.DataFrame, column: str, failed: bool) -> None:
        if column not in table:
            return
        cells = []
        for one in _cells(table):
            if not len(one):
                cells.append("")
            elif failed:
                cells.append(_failures(one[column], one["replicates"]))
            else:
                cells.append(f"{100.0 * one[column].mean():.1f}")
        rows.append([label, *cells])

    add("mixedar: no convergence", ours, "failed", True)
    add("mixedar: estimate on the boundary", ours, "boundary", False)
    add("mixedar: several maxima", ours, "several_modes", False)
    add("nlme: `lme` stops", other, "failed", True)
    add("nlme: fit, but `intervals` stops", other, "intervals_failed", True)
    add("nlme: fit below the maximum", other, "below_maximum", True)
    return _markdown(_header("% of data sets"), rows)


def _units(units: pd.DataFrame) -> str:
    rows = []
    for method, group in units.groupby("method", sort=False):
        slope = group[group["model"] == "slope"]
        rows.append(
            [
                str(method),
                _failures(slope["failed"], slope["replicates"]),
                _failures(slope["failed_finer"], slope["replicates"]),
                f"{100.0 * slope['se_change_median'].max():.2f}",
                f"{100.0 * slope['se_change_largest'].max():.1f}",
                f"{int(slope['decisions_changed'].sum())} of "
                f"{int(slope['replicates'].sum())}",
            ]
        )
    header = [
        "method",
        "no test, %",
        "no test with finer time, %",
        "median change of the standard error, %",
        "largest, %",
        "decisions at 5 % that change",
    ]
    return _markdown(header, rows)


def _bootstrap(intervals: pd.DataFrame) -> str:
    cells = intervals.loc[intervals["method"] == "bootstrap", ["model", "design"]]
    rows = []
    for parameter in dict.fromkeys(intervals["parameter"]):
        row = [str(parameter)]
        for method in ("bootstrap", "profile", "wald"):
            for model in dict.fromkeys(cells["model"]):
                where = {"parameter": parameter, "method": method, "model": model}
                one = select(intervals, design="15x5", rho=0.4, **where)
                if one.empty:
                    row.append("")
                    continue
                first = one.iloc[0]
                row.append(f"{100 * first['coverage']:.0f} ± {100 * first['mcse']:.0f}")
        rows.append(row)
    models = list(dict.fromkeys(cells["model"]))
    header = ["parameter"]
    header += [f"{m}, {model}" for m in ("bootstrap", "profile", "Wald")
               for model in models]  # fmt: skip
    return _markdown(header, rows)


def markdown_tables(tables: dict[str, pd.DataFrame]) -> dict[str, str]:
    """
    The tables of the page.

    Parameters
    ----------
    tables : dict of DataFrame
        As :func:`read` returns them.

    Returns
    -------
    dict of str
    """
    out = {}
    if "tests" in tables:
        tests = tables["tests"]
        for effect in ("time:treatment", "treatment", *JOINT):
            out[f"size of tests: {effect}"] = _sizes(tests, effect)
        out["tests that could not be computed"] = _test_failures(tests)
        out["standard errors of time:treatment"] = _errors(tests)
    if "fits" in tables:
        out["fits"] = _fits(tables["fits"])
    if "units" in tables:
        out["unit of time"] = _units(tables["units"])
    if "intervals" in tables:
        out["coverage of intervals"] = _coverages(tables["intervals"])
        if (tables["intervals"]["method"] == "bootstrap").any():
            out["bootstrap"] = _bootstrap(tables["intervals"])
    return out


def read(folder: Path) -> dict[str, pd.DataFrame]:
    """Read the published tables of a folder."""
    return {path.stem: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}


def write(work: Path, out: Path, *, plots: bool = True) -> None:
    """
    Write tables and pictures of whatever has been run.

    Parameters
    ----------
    work : Path
        Folder of the checkpoints.
    out : Path
        CSV files, ``tables.md``, ``study.json``, and pictures.
    plots : bool
    """
    tables = summaries(work)
    if not tables:
        return
    out.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(out / f"{name}.csv", index=False, float_format="%.6g")
    tables = read(out)  # what is published, with its digits
    text = [f"## {title}\n\n{body}" for title, body in markdown_tables(tables).items()]
    (out / "tables.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    versions = machine.python_versions()
    if "version" in tables.get("fits", {}):
        versions["nlme"] = str(tables["fits"]["version"].dropna().iloc[0])
    about = {"seed": SEED, "versions": versions}
    (out / "study.json").write_text(json.dumps(about, indent=2) + "\n")
    if plots and "tests" in tables:
        from benchmarks.calibration.pictures import plot_coverages, plot_sizes

        for effect, name in PICTURES.items():
            plot_sizes(tables["tests"], effect, out / name)
        plot_coverages(tables["intervals"], out / "coverage.png")


def update_page(page: str, tables: dict[str, str]) -> str:
    """
    Put tables below their marks, ``<!-- table: title -->``, in place of old ones.

    Parameters
    ----------
    page : str
    tables : dict of str
        Of :func:`markdown_tables`.

    Returns
    -------
    str
    """

    def table(match: re.Match[str]) -> str:
        return f"{match[1]}\n\n{tables[match[2]]}\n\n"

    mark = r"(<!-- table: (.+?) -->)\n\n(?:\|.*\n)*\n*"
    return re.sub(mark, table, page)


def publish(out: Path, docs: Path) -> None:
    """Bring the tables of the documentation's page up to date."""
    page = docs / "calibration.md"
    text = update_page(page.read_text(encoding="utf-8"), markdown_tables(read(out)))
    page.write_text(text, encoding="utf-8")
