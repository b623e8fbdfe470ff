"""Formulas of strangers: what the whitelist lets through, and what it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixedar.cli import main
from mixedar.cli.no_eval import check_formula
from mixedar.exceptions import UnsupportedError

# Columns are strangers' too, and may be called anything.
COLUMNS = ["y", "x", "t", "g", "a b", "eval", "lambda", "__class__", "open", "exec"]

FINE = [
    "y ~ x",
    "y~x*t",
    "~ t",
    "0 + C(g)",
    "y ~ x - 1",
    "y ~ (x + t)**2",
    "np.log(y) ~ x + I(x**2)",
    "y ~ np.log1p(np.abs(x - 2e-3))",
    "y ~ C(g, Treatment('b')) * x",
    'y ~ C(g, Treatment(reference="b")) + center(x):t',
    "y ~ C(g, levels=['a', 'b', \"c\"])",
    "y ~ 0 + C(g):x + Q('a b')",
    "y ~ bs(x, df=4, degree=3) + cr(t, df=3, constraints='center')",
    "y ~ bs(x, knots=[1, 2.5])",
    "y ~ I((x > 0) & (t <= 3.5)) + I(g == 'b')",
    "y ~ x + (1 + t | g)",
    "y ~ (x || g) + (1 | g/t)",
    "y ~ x + (0 + x | g:t) + (np.log(t) | Q('a b'))",
    "y ~ x + (1 | (g/t))",
    "y ~ s(x, k=5) + te(x, t) + (1 | g)",
    "y ~ s(x) + s(t) + ti(x, t)",
    "y ~ eval + open",
]
# What each of them would do is beside the point: none may be evaluated.
REFUSED = [
    "y ~ __import__('os').system('true')",
    "y ~ eval('1')",
    "y ~ eval(x)",
    "y ~ open('f')",
    "y ~ (eval)(x)",
    "y ~ (C or I)(x)",
    "y ~ ((I))(x)",
    "y ~ x.values",
    "y ~ I(x.__class__)",
    "y ~ I(x).real",
    "y ~ np.load('f')",
    "y ~ np.log.__class__",
    "y ~ np.np.log(x)",
    "y ~ np.lib.npyio",
    "y ~ x.np.log(t)",
    "y ~ np.log(x)(t)",
    "y ~ C(np.log)",
    "y ~ 1 .real",
    "y ~ 1 .__class__",
    "y ~ I((1).__class__)",
    "y ~ (lambda: 1)()",
    "y ~ lambda",
    "y ~ I([i for i in x])",
    "y ~ I(i for i in x)",
    "y ~ C(g, levels=[i for i in x])",
    "y ~ C(g, levels=['a'][0])",
    "y ~ I(x)[0]",
    "y ~ x[0]",
    "y ~ [x](1)",
    "y ~ {x}",
    "y ~ {eval('1')}",
    "y ~ Q(Q('x'))",
    "y ~ Q(x)",
    "y ~ Q('x')('y')",
    "y ~ Q('__import__')('os')",
    "y ~ Q('z')",
    "y ~ Q('a b').x",
    "y ~ I(f'{x}')",
    "y ~ I(b'x')",
    "y ~ I(r'x')",
    "y ~ I('''x''')",
    "y ~ I('\\x41')",
    "y ~ I('a' * 10)",
    "y ~ I('%s' % x)",
    "y ~ I('a'.join(x))",
    "y ~ 'x'",
    "y ~ x 'x'",
    "y ~ C(x, cls=3)",
    "y ~ C(*x)",
    "y ~ C(**x)",
    "y ~ I(x := 3)",
    "y ~ I(yield)",
    "y ~ I(await x)",
    "y ~ x if t else x",
    "y ~ I(not x)",
    "y ~ I(9**9**9)",
    "y ~ I(9**99)",
    "y ~ I(x**x)",
    "y ~ I(0x41)",
    "y ~ 1" + "0" * 40,
    "y ~ z",
    "y ~ print(x)",
    "y ~ os.system('true')",
    "y ~ x # t",
    "y ~ x; t",
    "y ~ x + (1 | z)",
    "y ~ x + (1 | g.values)",
    "y ~ x + (1 | Q(g))",
    "y ~ x + (1 | `g`)",
    "y ~ x + (1 | 'g')",
    "y ~ x + (eval('1') | g)",
    "y ~ x + (1 | eval('1'))",
    "y ~ x + (1 | g[0])",
    "y ~ x + (1 | g",
    "y ~ x\n+ t",
    "y ~ x\r\neval('1')",
    "y ~ x \\\n + t",
    "y ~ `x`",
    "y ~ x @ t",
    "y ~ x ^ 2",
    "y ~ x %in% t",
    "y ~ x, t",
    "y = x",
    "y ~ ...",
    "y ~ \uff45val('1')",
    "y ~ \uff58",
    "y ~ x\x00",
    "(y ~ x",
    "y ~ x)",
    "y ~ (x]",
    "y ~ " + "(" * 60 + "x" + ")" * 60,
    "y ~ " + "x + " * 4000 + "x",
]


@pytest.mark.parametrize("formula", FINE)
def test_formulas_of_data_analysis_pass(formula: str) -> None:
    check_formula(formula, COLUMNS)
    check_formula(formula)


@pytest.mark.parametrize("formula", REFUSED)
def test_everything_else_is_refused(formula: str) -> None:
    with pytest.raises(UnsupportedError, match="--no-eval"):
        check_formula(formula, COLUMNS)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(8)
    table = pd.DataFrame(
        {"id": np.repeat(np.arange(12), 4), "t": np.tile(range(4), 12)}
    )
    table["a b"] = rng.normal(size=48)
    table["y"] = rng.normal(size=12)[table["id"]] + rng.normal(size=48)
    path = tmp_path / "data.csv"
    table.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("bar", ["({} | id)", "(1 | {})", "({} || id)"])
def test_bars_do_not_evaluate(
    file: Path, bar: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = file.parent / "mark"
    evil = f"I(__import__('pathlib').Path({str(mark)!r}).touch() or t)"
    formula = f"y ~ t + {bar.format(evil)}"
    assert main(["fit", str(file), formula, "--no-eval"]) == 1
    assert "--no-eval" in capsys.readouterr().err
    assert not mark.exists()


@pytest.mark.parametrize("where", ["formula", "re", "vc"])
def test_no_part_of_the_command_evaluates(
    file: Path, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = file.parent / "mark"
    evil = f"I(__import__('pathlib').Path({str(mark)!r}).touch() or t)"
    arguments = {"formula": "y ~ t", "re": "1", "vc": "w=0 + C(t)"}
    arguments[where] += f" + {evil}"
    command = ["fit", str(file), arguments["formula"], "--groups", "id"]
    command += ["--re", arguments["re"], "--vc", arguments["vc"], "--no-eval"]
    assert main(command) == 1
    assert "--no-eval" in capsys.readouterr().err
    assert not mark.exists()


def test_the_same_numbers(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    formula = "y ~ np.exp(t / 4) + I(t**2) + Q('a b')"
    command = ["fit", str(file), formula, "--groups", "id", "--re", "~t"]
    assert main(command) == 0
    expected = capsys.readouterr().out
    assert main([*command, "--no-eval"]) == 0
    assert capsys.readouterr().out == expected


def test_the_same_numbers_with_bars(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["fit", str(file), "y ~ t + (1 | id) + (0 + Q('a b') | t)"]
    assert main(command) == 0
    expected = capsys.readouterr().out
    assert main([*command, "--no-eval"]) == 0
    assert capsys.readouterr().out == expected
