"""Files as other programs write them, and what must not happen to them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixedar.cli import main
from mixedar.cli.files import read_table
from mixedar.exceptions import MixedARError


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"id": np.repeat(np.arange(8), 3), "t": np.tile(range(3), 8)})
    frame["y"] = np.round(rng.normal(size=8)[frame["id"]] + rng.normal(size=24), 4)
    return frame


def written(path: Path, table: pd.DataFrame, separator: str, header: str) -> Path:
    """A file of the rows with numbers before them, under some header."""
    text = table.set_axis(range(1, len(table) + 1)).to_csv(sep=separator)
    lines = text.splitlines()
    lines[0] = (
        separator.join([f'"{n}"' for n in table]) if header == "short" else lines[0]
    )
    if header == "quoted":
        lines[0] = separator.join(['""', *table])
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("header", ["short", "quoted", "empty"])
@pytest.mark.parametrize(
    ("name", "separator"),
    [("a.csv", ","), ("a.csv", " "), ("a.csv", ";"), ("a.tsv", "\t")],
)
def test_names_of_rows(
    tmp_path: Path, table: pd.DataFrame, name: str, separator: str, header: str
) -> None:
    # a blank in front is no column
    header = "short" if (separator, header) == (" ", "empty") else header
    path = written(tmp_path / name, table, separator, header)
    found = read_table(str(path), ["id"])
    pd.testing.assert_frame_equal(found, table)
    assert main(["fit", str(path), "y ~ t", "--groups", "id"]) == 0


def test_decimal_commas(tmp_path: Path, table: pd.DataFrame) -> None:
    path = tmp_path / "a.csv"
    table.to_csv(path, sep=";", decimal=",")
    pd.testing.assert_frame_equal(read_table(str(path))[list(table)], table)


def test_separators_at_the_ends_of_lines(tmp_path: Path, table: pd.DataFrame) -> None:
    """They are no names of rows: nothing moves to the next column."""
    path = tmp_path / "a.csv"
    head, *lines = table.to_csv(index=False).splitlines()
    path.write_text(
        "\n".join([head, *[f"{line}," for line in lines]]), encoding="utf-8"
    )
    pd.testing.assert_frame_equal(read_table(str(path)), table)


@pytest.mark.parametrize(
    "labels",
    [
        ["1.1", "1.10", "1.2", "1.20", "2.1", "2.10", "3.1", "3.10"],
        ["01", "1", "2", "3", "4", "5", "6", "7"],
        ["9007199254740992", "9007199254740993", *"123456"],
        ["1e2", "100", *"234567"],
    ],
)
@pytest.mark.parametrize(
    "options",
    [
        ["y ~ t", "--groups", "id"],
        ["y ~ t", "--groups", "all", "--re", "0", "--series", "id"],
        ["y ~ t + C(id)", "--groups", "t", "--re", "0"],
        ["y ~ t", "--groups", "all", "--re", "0", "--vc", "w=0 + C(id)"],
    ],
)
def test_labels_keep_their_spelling(
    tmp_path: Path,
    table: pd.DataFrame,
    labels: list[str],
    options: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    table["id"] = np.array(labels)[table["id"]]
    table["all"] = np.where(table["id"] == labels[0], "a", "b")
    paths = []
    for name in ("bare", "words"):  # with a word before there is no doubt
        if name == "words":
            table["id"] = "n" + table["id"]
        paths.append(tmp_path / f"{name}.csv")
        table.to_csv(paths[-1], index=False)
    found = []
    for path in paths:
        assert main(["fit", str(path), *options]) == 0
        out = capsys.readouterr().out
        found.append([x.split()[3] for x in out.splitlines() if "Log-lik" in x])
    assert found[0] == found[1]


def test_numbers_stay_numbers(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": [1.5, 2.5, np.nan, 2.5], "x": [1.10, 1.1, 2.0, 3.0]})
    path = tmp_path / "a.csv"
    table.to_csv(path, index=False)
    pd.testing.assert_frame_equal(read_table(str(path), ["id"]), table)


@pytest.mark.parametrize("how", ["same", "link", "dots"])
def test_output_never_replaces_the_data(
    tmp_path: Path, table: pd.DataFrame, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.csv"
    table.to_csv(path, index=False)
    before, output = path.read_bytes(), path
    if how == "link":
        output = tmp_path / "b.csv"
        output.symlink_to(path)
    elif how == "dots":
        output = tmp_path / ".." / tmp_path.name / "a.csv"
    command = ["fit", str(path), "y ~ t", "--groups", "id", "--output"]
    assert main([*command, str(output)]) == 1
    assert "name another" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert main([*command, str(tmp_path / "no" / "b.txt")]) == 1
    assert "folder" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "b.txt")]) == 0


def shell(command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = f"{sys.executable} -m mixedar fit a.csv 'y ~ t' --groups id {command}"
    return subprocess.run(
        ["/bin/sh", "-c", line], capture_output=True, check=False, cwd=cwd, text=True
    )


@pytest.mark.skipif(sys.platform == "win32", reason="redirections of a shell")
def test_closed_streams_have_no_traceback(tmp_path: Path, table: pd.DataFrame) -> None:
    table.to_csv(tmp_path / "a.csv", index=False)
    done = shell(">&-", tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "--output" in done.stderr
    done = shell("--output b.txt >&- 2>&-", tmp_path)
    assert done.returncode == 0
    assert "Log-likelihood" in (tmp_path / "b.txt").read_text(encoding="utf-8")
    if Path("/dev/full").exists():
        done = shell("> /dev/full", tmp_path)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
    done = shell("--re '~ nothing' 2>&-", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")


def test_unreadable_files(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n\xe9,1\n")
    with pytest.raises(MixedARError, match="cannot be read"):
        read_table(str(path))
    path.write_text("", encoding="utf-8")
    with pytest.raises(MixedARError, match="empty"):
        read_table(str(path))
    path.write_text("a,b\n", encoding="utf-8")
    with pytest.raises(MixedARError, match="no rows"):
        read_table(str(path))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz"])
def test_two_columns_of_one_name_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"data{suffix}"
    frame = pd.DataFrame(np.arange(12.0).reshape(3, 4), columns=["id", "x", "y", "x"])
    frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    with pytest.raises(MixedARError, match=r"several columns are named 'x'"):
        read_table(str(path))


def test_names_with_numbers_are_other_names(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("id,x,x.1\n1,2,3\n2,3,4\n")
    assert list(read_table(str(path)).columns) == ["id", "x", "x.1"]
