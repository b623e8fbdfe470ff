"""The results summary: text, HTML, LaTeX, frames."""

from __future__ import annotations

import copy
import pickle
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.iolib.summary2 import Summary, summary_col
from statsmodels.regression.linear_model import OLSResults
from statsmodels.regression.mixed_linear_model import MixedLMResults

from mixedar.exceptions import UnknownColumnError, UnsupportedError
from mixedar.summary import ResultsSummary, SummaryTable, format_values

TREATMENTS = ["low dose", "high dose", "very high dose"]
LONG = [
    f'C(treatment, Treatment(reference="placebo"))[T.{dose}]{tail}'
    for dose in TREATMENTS
    for tail in ("", ":time", ":C(center)[T.Berlin]", ":C(center)[T.New York]")
]


def coefficients():
    return pd.DataFrame(
        {
            "Coef.": [0.13321, -0.425412, 12.0],
            "Std.Err.": [0.03, 0.040261, np.nan],
            "DF": [7499.0, 2498.0, np.nan],
            "t": [4.448, -10.567, np.nan],
            "P>|t|": [8.7e-6, 1e-25, np.nan],
        },
        index=["Intercept", "treatment[T.b]", "Group Var"],
    )


def example():
    fixed = coefficients()
    names = ["Intercept", "time"]
    corr = pd.DataFrame([[1, -0.307], [-0.307, 1]], names, names)
    quartiles = pd.DataFrame(
        [[-3.2, 0.02, 3.28]], index=[""], columns=["Min", "Median", "Max"]
    )
    return ResultsSummary(
        "Linear mixed model",
        {"Method:": "REML", "No. groups:": 2500, "AIC:": 25275.978, "Converged:": True},
        [
            SummaryTable(fixed, "Fixed effects", note="DF by containment."),
            SummaryTable(corr, "Correlation", lower_triangle=True),
            SummaryTable(quartiles, "Residuals", dict.fromkeys(quartiles, ".2f")),
        ],
        ["Standard errors are model-based."],
        {"AIC:": ".2f"},
    )


def test_exact_text():
    expected = """\
                   Linear mixed model
========================================================
Method:                REML   AIC:              25275.98
No. groups:            2500   Converged:             Yes
========================================================
Fixed effects     Coef.  Std.Err.    DF        t   P>|t|
--------------------------------------------------------
Intercept        0.1332    0.0300  7499    4.448  <0.001
treatment[T.b]  -0.4254    0.0403  2498  -10.567  <0.001
Group Var       12.0000
DF by containment.
========================================================
Correlation  Intercept
--------------------------------------------------------
time            -0.307
========================================================
Residuals    Min  Median   Max
--------------------------------------------------------
           -3.20    0.02  3.28
========================================================
Standard errors are model-based."""
    text = example().as_text()
    assert text == expected
    assert str(example()) == repr(example()) == text


@pytest.mark.parametrize(
    ("values", "fmt", "expected"),
    [
        ([0.5, -1.25, np.nan], "number", ["0.5000", "-1.2500", ""]),
        ([-0.0, 0.00001], "number", ["0", "1.000e-05"]),
        ([123456.789, 1.5], "number", ["123456.789", "1.500"]),
        ([1e12, -np.inf], "number", ["1.000e+12", "-inf"]),
        ([3, True, "text", None, 2.5], "number", ["3", "Yes", "text", "", "2.5000"]),
        ([1e-9, 0.25, 1.0], "pvalue", ["<0.001", "0.250", "1.000"]),
        ([0, 0.00099, 0.001], "pvalue", ["<0.001", "<0.001", "0.001"]),
        ([-3.0, 0.5], "pvalue", ["-3.0000", "0.5000"]),
        ([0.0, -0.0003, 0.5], "share", ["0", "0", "0.500"]),
        ([10.0, np.inf], "df", ["10", "inf"]),
        ([10.0, 7.25], "df", ["10.0", "7.2"]),
        ([4.4483, 1e7], "statistic", ["4.448", "10000000"]),
        ([1e12, -1e12], "statistic", [">999999999", "<-999999999"]),
        ([1e-9, -1e-9, 0.0], "statistic", ["<0.001", ">-0.001", "0"]),
        ([-np.inf, 2.0], "statistic", ["-inf", "2.000"]),
        ([-0.0004, 0.6], ".3f", ["0.000", "0.600"]),
        ([-0.0, 2], "%.1f", ["0.0", "2.0"]),
        ([1.5], lambda v: f"<{v}>", ["<1.5>"]),
        ([10**18], "number", ["1000000000000000000"]),
    ],
)
def test_format_values(values, fmt, expected):
    assert format_values(values, fmt) == expected


def test_missing_marker():
    frame = pd.DataFrame({"Corr": [np.nan, 0.5]}, index=["a", "b"])
    summary = ResultsSummary(tables=[SummaryTable(frame, missing="--")])
    assert summary.tables[0]["Corr"].tolist() == ["--", "0.5000"]


def test_tables_contract():
    summary = example()
    assert isinstance(summary, Summary)
    assert summary.title == "Linear mixed model"
    assert summary.tables[0].iloc[0].tolist() == ["Method:", "REML", "AIC:", "25275.98"]
    assert list(summary.tables[1].index.values) == list(coefficients().index)
    assert summary.tables[1].loc["Group Var", "Std.Err."] == ""
    assert all(isinstance(v, str) for v in summary.tables[1].to_numpy().ravel())
    assert len(summary.tables) == len(summary.settings) == 4


def test_frames_are_numeric_complete_and_independent():
    summary, original = example(), coefficients()
    assert list(summary.to_frames()) == ["fixed_effects", "correlation", "residuals"]
    pd.testing.assert_frame_equal(summary.to_frame(), original)
    pd.testing.assert_frame_equal(summary.to_frame("fixed_effects"), original)
    assert summary.to_frame("correlation").shape == (2, 2)
    assert summary.to_frame(-1).loc["", "Max"] == 3.28
    mine = summary.to_frame()
    mine.iloc[0, 0] = 99.0
    pd.testing.assert_frame_equal(summary.to_frame(), original)
    for key in ("fixed effects", 3, -4):
        with pytest.raises(UnknownColumnError, match="fixed_effects"):
            summary.to_frame(key)


def test_input_frames_stay_as_they_are():
    frame, original = coefficients(), coefficients()
    summary = ResultsSummary(tables=[SummaryTable(frame)])
    summary.as_text(), summary.as_html(), summary.as_latex()
    pd.testing.assert_frame_equal(frame, original)
    frame.iloc[0, 0] = 99.0
    pd.testing.assert_frame_equal(summary.to_frame(), original)


def test_names_of_frames():
    frame = coefficients()
    tables = [
        SummaryTable(frame, "A table"),
        SummaryTable(frame, "A table!"),
        SummaryTable(frame),
        SummaryTable(frame, "A table", name="given"),
    ]
    names = list(ResultsSummary(tables=tables).to_frames())
    assert names == ["a_table", "a_table_2", "table_3", "given"]


def test_changed_tables_are_printed():
    summary = example()
    summary.tables[1].index = ["Constant", "b", "c"]
    for text in (summary.as_text(), summary.as_html(), summary.as_latex()):
        assert "Constant" in text


def test_long_names_stay_apart_in_80_columns():
    values = np.random.default_rng(1).normal(size=(len(LONG), 7))
    columns = ["Coef.", "Std.Err.", "DF", "t", "P>|t|", "[0.025", "0.975]"]
    frame = pd.DataFrame(values, LONG, columns)
    corr = pd.DataFrame(np.eye(len(LONG)), LONG, LONG)
    text = ResultsSummary(
        tables=[
            SummaryTable(frame, "Fixed effects"),
            SummaryTable(corr, "Correlation", lower_triangle=True),
        ]
    ).as_text()
    assert max(map(len, text.splitlines())) <= 80
    body = text.split("=" * 80)[1].splitlines()
    labels = [re.split(r"  +-?\d", line)[0] for line in body[3:]]
    labels = labels[: len(LONG)]
    assert len(set(labels)) == len(LONG)
    assert "C(treatment..)[T.low dose]" in labels
    assert " 1 C(treatm" in text  # the triangle numbers its variables


names_of_up_to_60 = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc",)), max_size=60
)
cells = st.one_of(
    st.floats(width=64), st.integers(-(2**62), 2**62), names_of_up_to_60, st.none()
)


@st.composite
def frames(draw):
    rows = draw(st.lists(names_of_up_to_60, max_size=5))
    columns = draw(st.lists(names_of_up_to_60, max_size=6, unique=True))
    data = [[draw(cells) for _ in columns] for _ in rows]
    return pd.DataFrame(data, pd.Index(rows, dtype=object), columns, dtype=object)


@settings(max_examples=60, deadline=None)
@given(frames(), st.integers(40, 120), names_of_up_to_60, st.booleans())
def test_no_line_is_longer_than_the_width(frame, width, text, triangle):
    square = triangle and frame.shape[0] == frame.shape[1]
    table = SummaryTable(frame, text, lower_triangle=square, note=text)
    summary = ResultsSummary(text, {text: text, "k:": 1.5}, [table], [text])
    out = summary.as_text(width)
    assert max(map(len, out.splitlines())) <= width
    assert _balanced(summary.as_latex())
    _Reader().feed(summary.as_html())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text("ab[]:(),.", min_size=1, max_size=60), unique=True, max_size=12)
)
def test_different_names_stay_different(names):
    frame = pd.DataFrame({"x" * 30: np.ones(len(names))}, names)
    names = [name.strip() for name in names]
    text = ResultsSummary(tables=[SummaryTable(frame)]).as_text(40)
    rows = [line for line in text.splitlines() if line.endswith("1.0000")]
    assert len(set(rows)) == len(rows) == len(names)


class _Reader(HTMLParser):
    """Collects the texts and checks that tags are closed in order."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.texts, self.tags = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.add(tag)
        assert not {"src", "href"} & dict(attrs).keys()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def nasty():
    names = ["<b>", "a&b", '"q"', "</table>"]
    frame = pd.DataFrame(np.arange(16.0).reshape(4, 4), names, names)
    table = SummaryTable(frame, "<i>T</i>", index_header="<h>", note="x < y & z")
    return ResultsSummary("A & <B>", {"<k>:": "<v>"}, [table], ["<note>"]), names


def test_html_escapes_every_text():
    summary, names = nasty()
    reader = _Reader()
    reader.feed(summary.as_html())
    assert not reader.open
    tags = "div p strong table caption thead tbody tr th td"
    assert reader.tags <= set(tags.split(" "))
    texts = [*names, "A & <B>", "<k>:", "<v>", "<i>T</i>", "<h>", "x < y & z", "<note>"]
    assert set(texts) <= set(reader.texts)
    assert summary._repr_html_() == summary.as_html()


def _balanced(latex):
    depth = 0
    for mark in re.findall(r"(?<!\\)(?:\\\\)*([{}])", latex):
        depth += 1 if mark == "{" else -1
        if depth < 0:
            return False
    return depth == 0


def test_latex_escapes_every_text():
    names = [
        "a_b",
        "5%",
        "x&y",
        "#1",
        "$",
        "~",
        "^2",
        "\\alpha",
        "{z}",
        "[0.025",
        "P>|t|",
    ]
    frame = pd.DataFrame(np.full((len(names), 2), -1e-9), names, ["A_B", "[0.025"])
    table = SummaryTable(frame, "50% & more", note="n_1")
    latex = ResultsSummary("T_1", {"k_1:": "v%"}, [table], ["n^2"]).as_latex("tab:a_b")
    assert _balanced(latex)
    assert r"\label{tab:a_b}" in latex
    assert r"\caption{T\_1}" in latex
    for text in (
        r"a\_b",
        r"5\%",
        r"x\&y",
        r"\#1",
        r"\$",
        r"\textasciitilde{}",
        r"\textasciicircum{}2",
        r"\textbackslash{}alpha",
        r"\{z\}",
        "{[}0.025",
        r"P\textgreater{}\textbar{}t\textbar{}",
        r"$-1.000 \times 10^{-9}$",
        r"50\% \& more",
    ):
        assert text in latex
    for line in latex.splitlines():
        assert not re.search(r"(?<!\\)[%#]", line)
    columns = {len(re.findall(r"(?<!\\)&", li)) for li in latex.splitlines()}
    assert columns == {0, 2, 3}  # no cell, coefficients, header
    assert r"\begin{table}" in example()._repr_latex_()


@pytest.mark.parametrize(
    "summary",
    [
        ResultsSummary(),
        ResultsSummary("Title", {}, [], ["note"]),
        ResultsSummary(tables=[SummaryTable(pd.DataFrame())]),
        ResultsSummary(tables=[SummaryTable(pd.DataFrame(columns=["a", "b"]), "T")]),
        ResultsSummary(tables=[SummaryTable(pd.DataFrame(index=["a"]), "T")]),
        ResultsSummary(
            tables=[
                SummaryTable(pd.DataFrame([[1.0]], ["a"], ["a"]), lower_triangle=True)
            ]
        ),
    ],
)
def test_empty_things(summary):
    assert summary.as_text().rstrip().endswith(("=", "note"))
    _Reader().feed(summary.as_html())
    assert _balanced(summary.as_latex())
    assert len(summary.to_frames()) == len(summary.tables)


def test_wide_and_multi_level_labels():
    index = pd.MultiIndex.from_tuples([("id", "変数"), ("id", "größe")])
    columns = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])
    frame = pd.DataFrame(np.ones((2, 2)), index, columns)
    summary = ResultsSummary("要約", {"鍵": "値"}, [SummaryTable(frame, "表")])
    text = summary.as_text()
    assert "id 変数" in text
    assert "b 2" in text
    rules = [line for line in text.splitlines() if set(line) <= set("=-")]
    assert len({len(rule) for rule in rules}) == 1


@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))]
)
def test_pickle_and_deepcopy(clone):
    frame = coefficients()
    table = SummaryTable(frame, "T", {"Coef.": lambda v: f"{v:.1f}"})
    summary = ResultsSummary("x", {"k": 1}, [table])
    again = clone(summary)
    assert type(again) is ResultsSummary
    assert again.as_text() == summary.as_text()
    pd.testing.assert_frame_equal(again.to_frame(), frame)


def test_methods_of_the_parent():
    summary = ResultsSummary()
    summary.add_title("Added")
    summary.add_dict({"a": 1, "b": 2.5, "c": "x"})
    summary.add_df(pd.DataFrame({"Coef.": [1.23456]}, ["x1"]), float_format="%.2f")
    summary.add_array(np.array([[1.0, 2.0]]), float_format="%.1f")
    summary.add_text("A note.")
    text = summary.as_text()
    assert text.splitlines()[0].strip() == "Added"
    for part in ("2.5000", "x1", "1.23\n", "1.0", "A note."):
        assert part in text
    assert "1.23" in summary.as_html()
    assert "1.23" in summary.as_latex()
    assert list(summary.to_frames()) == ["table_1", "table_2", "table_3"]
    assert summary.to_frame("table_2").iloc[0, 0] == 1.23456


def test_summary_col_ignores_the_class_of_the_summary(monkeypatch):
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"g": np.repeat(np.arange(20), 5), "x": rng.normal(size=100)})
    data["y"] = data.x + rng.normal(size=20)[data.g] + rng.normal(size=100)
    ols = smf.ols("y ~ x", data).fit()
    mixed = smf.mixedlm("y ~ x", data, groups="g").fit()
    expected = summary_col([ols, mixed]).as_text()
    for results in (OLSResults, MixedLMResults):
        monkeypatch.setattr(results, "summary", lambda *_: example())
    assert isinstance(ols.summary(), ResultsSummary)
    assert isinstance(mixed.summary(), ResultsSummary)
    assert summary_col([ols, mixed]).as_text() == expected
    assert "Intercept" in expected


def test_bad_tables_are_refused():
    with pytest.raises(UnsupportedError, match=r"to_frame\(\)"):
        SummaryTable(pd.Series([1.0]), "T")
    with pytest.raises(UnknownColumnError, match=r"\['Coef'\].*Coef\."):
        SummaryTable(coefficients(), "T", {"Coef": ".2f"})
    with pytest.raises(UnsupportedError, match=r"\(3, 5\)"):
        SummaryTable(coefficients(), "T", lower_triangle=True)
