"""The report: one HTML file with everything in it, and nothing outside of it."""

from __future__ import annotations

import base64
import io
import re
import warnings
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from helpers.fitted_models import shared
from helpers.pictures import teeth
from mixedar import AR1, MixedLMAR
from mixedar.data.variables import main_factor
from mixedar.datasets import load_bodyweight, load_orthodont
from mixedar.exceptions import UnsupportedError
from mixedar.report.facts import call_text, data_facts, value_text, variables_used
from mixedar.residual import ARMA
from mixedar.residual.variance import VarComb, VarIdent, VarPower

_VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails if tags do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@cache
def teeth_html() -> str:
    before = plt.get_fignums()
    html = teeth().report()
    assert plt.get_fignums() == before  # no figure stays open
    return html


@cache
def teeth_page() -> Page:
    return Page(teeth_html())


# -- the page -------------------------------------------------------------------------


def test_report_needs_no_other_file() -> None:
    page = teeth_page()
    for tag, attrs in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "base"), tag
        for name, value in attrs.items():
            if name == "src":
                assert str(value).startswith("data:image/png;base64,")
            if name == "href":
                assert str(value).startswith("#")
            assert not name.startswith("on")
    assert "http" not in page.text
    assert "url(" not in teeth().report(pictures=False)


def test_report_can_be_read_by_everyone() -> None:
    page = teeth_page()
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1
    for image in page.all("img"):
        assert len(str(image["alt"])) > 30
    anchors = {str(a["href"])[1:] for a in page.all("a")}
    assert anchors == {str(one["id"]) for one in page.all("section")}
    assert all(cell.get("scope") in ("row", "col") for cell in page.all("th"))


def test_images_are_images() -> None:
    images = teeth_page().all("img")
    assert len(images) == 9
    for image in images:
        data = base64.b64decode(str(image["src"]).partition(",")[2], validate=True)
        assert data.startswith(b"\x89PNG\r\n")
        assert len(data) > 5000


def test_report_has_the_numbers() -> None:
    text = teeth_page().text
    fit = teeth()
    for value in [*fit.fe_params, *fit.bse_fe]:
        assert f"{value:.4f}" in text
    assert f"{fit.llf:.4f}" in text
    profile = fit.conf_int_re()
    assert f"{profile.loc['sd(subject)', 'lower']:.4f}" in text
    anova = fit.anova(type=3)
    assert f"{anova.loc['age:sex', 'F']:.3f}" in text
    assert "108 observations of 27 groups" in text
    for line in call_of(fit).splitlines():
        assert line.strip() in text


def test_report_writes_a_file(tmp_path: Path) -> None:
    path = tmp_path / "teeth.html"
    found = teeth().report(path, title="Teeth & <jaws>", pictures=False)
    assert found == path
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert "<title>Teeth &amp; &lt;jaws&gt;</title>" in text
    assert page.text.count("Teeth & <jaws>") == 2
    assert isinstance(teeth().report(str(tmp_path / "b.html"), pictures=False), Path)
    with pytest.raises(FileNotFoundError):
        teeth().report(tmp_path / "none" / "c.html", pictures=False)


def test_names_from_the_data_are_escaped() -> None:
    data = load_orthodont().rename(columns={"sex": "s&x"})
    data["s&x"] = data["s&x"].map({"Female": "<b>girl</b>", "Male": "boy & co"})
    data["subject"] = "<i>" + data["subject"]
    fit = mar.mixedlm(
        'distance ~ age * Q("s&x")', data, groups="subject", time="occ"
    ).fit()
    html = fit.report(pictures=False)
    Page(html)
    assert "<b>girl" not in html
    assert "<i>" not in html
    assert "&lt;b&gt;girl&lt;/b&gt;" in html


@pytest.mark.parametrize("name", ["diagonal", "gls", "components", "series"])
def test_report_of_other_models(name: str) -> None:
    page = Page(shared(name).report(pictures=False))
    assert "Call and versions" in page.text
    assert "Not available" not in page.text


def test_pictures_of_a_model_with_variance_components() -> None:
    assert len(Page(shared("both").report()).all("img")) == 9


def test_report_without_data_says_so() -> None:
    fit = mar.mixedlm(
        "distance ~ age", load_orthodont(), groups="subject", time="occ"
    ).fit()
    fit.remove_data()
    page = Page(fit.report())
    assert f"{fit.fe_params['age']:.4f}" in page.text
    assert "Not available: the data were removed" in page.text
    assert "not drawn, since the data were removed" in page.text


def test_report_of_arrays() -> None:
    data = load_orthodont()
    fit = MixedLMAR(
        data["distance"].to_numpy(),
        np.column_stack([np.ones(108), data["age"]]),
        data["subject"].to_numpy(),
        time=data["occ"].to_numpy(),
    ).fit()
    page = Page(fit.report(pictures=False))
    assert "MixedLMAR(endog, exog, groups, time=time)" in page.text
    other = mar.mixedlm("distance ~ age", data, groups="subject", time="occ")
    other = other.with_endog(data["distance"] + 1.0).fit()
    assert call_of(other).splitlines()[2] == (
        'model = mar.mixedlm("distance ~ age", data, groups="subject", time="occ")'
    )


def test_warnings_of_the_fit_are_in_the_report() -> None:
    data = load_orthodont()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = mar.mixedlm(
            "distance ~ sex", data, groups="subject", residual="ar1"
        ).fit()
    assert fit.at_boundary
    html = fit.report(pictures=False)
    assert '<p class="warning">The random effects covariance is singular' in html


# -- its order ------------------------------------------------------------------------


def test_the_verdict_comes_first() -> None:
    html = teeth_html()
    names = re.findall(r'<section id="(\w+)">', html)
    assert names == [
        "verdict",
        "text",
        "data",
        "estimates",
        "means",
        "effects",
        "influence",
        "diagnosis",
        "call",
    ]
    alarms = teeth().diagnose().alarms
    verdict = html.split('<section id="text">')[0]
    assert len(alarms) == verdict.count('<p class="warning">') > 0
    no_effects = Page(shared("gls").report(pictures=False))
    assert "effects" not in {one["id"] for one in no_effects.all("section")}


def test_figures_are_numbered_and_of_one_width() -> None:
    html = teeth_html()
    captions = re.findall(r"<figcaption>Figure (\d+)\. (.*?)\.", html)
    assert [int(number) for number, _ in captions] == list(range(1, 10))
    titles = [title for _, title in captions]
    assert len(set(titles)) == len(titles)
    widths = set()
    for image in teeth_page().all("img"):
        data = base64.b64decode(str(image["src"]).partition(",")[2])
        widths.add(plt.imread(io.BytesIO(data)).shape[1])
    assert len(widths) == 1


def test_means_effects_and_influence_are_in_the_report() -> None:
    text, fit = teeth_page().text, teeth()
    means = fit.marginal_means("sex").to_frame()
    slopes = fit.marginal_slopes("age", "sex").to_frame()
    for value in [*means["mean"], *slopes["slope"]]:
        assert f"{value:.4f}" in text
    distance = fit.influence().summary_frame()["cooks_d"]
    assert f"{distance.idxmax()} 4 {distance.max():.4f}" in text
    effect = fit.random_effects_frame()["subject"]
    assert f"{effect['M13']:.4f}" in text


def test_cells_of_tables_know_their_columns() -> None:
    assert "@media (max-width: 40rem)" in teeth_html()
    labels = {cell.get("data-label") for cell in teeth_page().all("td")}
    assert {"Coef.", "P>|t|", "lower", "Cook's D"} <= labels


def test_effects_of_all_factors_and_no_slopes_of_smooths() -> None:
    row = np.arange(48)
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"person": row // 8, "item": row % 8, "x": rng.normal(size=48)})
    data["y"] = rng.normal(size=6)[row // 8] + rng.normal(size=8)[row % 8]
    data["y"] += data["x"] ** 2 + 0.5 * rng.normal(size=48)
    fit = mar.mixedlm("y ~ s(x, k=5) + (1 | person) + (1 | item)", data).fit()
    page = Page(fit.report(pictures=False))
    for factor in ("person", "item"):
        effects = fit.ranef(factor)["Intercept"]
        assert f"{effects[effects.abs().idxmax()]:.4f}" in page.text
    assert "Slopes along x" not in page.text
    assert "Its mean depended on s(x" in page.text


def test_many_covariance_parameters_are_not_profiled() -> None:
    data = load_bodyweight()
    data = data[data["time"] <= 29]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = mar.mixedlm(
            "weight ~ time + C(diet)",
            data,
            groups="rat",
            re_formula="0",
            time="time",
            residual="un",
        ).fit()
    page = Page(fit.report(pictures=False))
    assert "Wald intervals" in page.text
    assert "conf_int_re() has profile intervals." in page.text


# -- other formats ---------------------------------------------------------------------


def test_methods_and_results_as_text(tmp_path: Path) -> None:
    fit = teeth()
    text = fit.report(format="text")
    flat = " ".join(text.split())
    assert flat.startswith("Methods. distance was analysed with a linear mixed model")
    assert "108 observations of 27 groups (subject) by restricted maximum" in flat
    assert "random intercepts and slopes of age by subject" in flat
    assert "along occ was AR(1)" in flat
    row = fit.t_test("age:sex[T.Male] = 0")
    estimate, error = float(np.squeeze(row.effect)), float(np.squeeze(row.sd))
    low, high = fit.conf_int().loc["age:sex[T.Male]"]
    assert (
        f"age:sex[T.Male] {estimate:.2f} (SE {error:.2f}, 95% CI {low:.2f} to "
        f"{high:.2f}, t(79) = {estimate / error:.2f}, p = 0.021)"
    ) in flat
    anova = fit.anova(type=3).loc["age:sex"]
    assert f"age:sex F(1, 79) = {anova['F']:.2f}, p = 0.021" in flat
    assert "The diagnosis of the fit raised an alarm: outlying groups." in flat
    assert max(map(len, text.splitlines())) <= 88
    assert all(part in teeth_page().text for part in flat.split(" Results. "))
    path = fit.report(tmp_path / "teeth.txt", title="Jaws", progress=True)
    assert path.read_text(encoding="utf-8") == f"Jaws\n\n{text}"


@pytest.mark.parametrize("name", ["diagonal", "gls", "components", "series", "car1"])
def test_texts_of_other_models(name: str) -> None:
    text = shared(name).report(format="text")
    assert text.startswith("Methods. ")
    assert "\n\nResults. " in text
    assert "nan" not in text


def test_text_of_tests_by_the_normal_distribution() -> None:
    text = " ".join(teeth().with_df("normal").report(format="text").split())
    assert "used the normal distribution" in text
    assert ", z = " in text
    assert "chi2(1) = " in text


def test_report_as_pdf(tmp_path: Path) -> None:
    before = plt.get_fignums()
    path = teeth().report(tmp_path / "teeth.pdf", title="Costs in $ and $")
    content = path.read_bytes()
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")
    pages = len(re.findall(rb"/Type /Page\b", content))
    assert 5 <= pages <= 15
    assert plt.get_fignums() == before
    short = teeth().report(format="pdf", pictures=False)
    assert isinstance(short, bytes)
    assert len(re.findall(rb"/Type /Page\b", short)) < pages


def test_pdf_of_wide_tables_and_what_cannot_be_drawn() -> None:
    data = load_orthodont()
    data["a factor with a long name"] = data["age"].map(
        {8: "the first of the visits", 10: "the second one", 12: "third", 14: "last"}
    )
    fit = mar.mixedlm(
        'distance ~ Q("a factor with a long name") * sex',
        data,
        groups="subject",
        time="occ",
    ).fit()
    assert fit.report(format="pdf", pictures=False).startswith(b"%PDF-")
    fit.remove_data()
    assert fit.report(format="pdf").startswith(b"%PDF-")


def test_formats_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"\.html, \.pdf or \.txt"):
        teeth().report(tmp_path / "teeth.docx")
    with pytest.raises(UnsupportedError, match=r"\.html, \.pdf or \.txt"):
        teeth().report(tmp_path / "teeth")
    with pytest.raises(UnsupportedError, match="contradict each other"):
        teeth().report(tmp_path / "teeth.pdf", format="html")
    with pytest.raises(UnsupportedError, match="format='docx'"):
        teeth().report(format="docx")
    with pytest.raises(UnsupportedError, match="progress"):
        teeth().report(progress="yes")
    assert not list(tmp_path.iterdir())


# -- the call -------------------------------------------------------------------------


def call_of(fit: Any) -> str:
    recipe = fit.model.recipe
    return call_text(fit.fit, fit.model.given, recipe and recipe.options)


def refit(fit: Any, **names: Any) -> Any:
    """Run the code of the call."""
    namespace: dict[str, Any] = dict(names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(call_of(fit), namespace)
    return namespace["fit"]


CALLS: dict[str, dict[str, Any]] = {
    "plain": {},
    "slope": {"re_formula": "~age", "time": "occ"},
    "diagonal": {"re_formula": "~age", "re_cov": "diagonal", "time": "occ"},
    "car1": {"time": "age", "residual": "car1"},
    "none": {"re_formula": "0", "residual": "independent"},
    "fixed": {"time": "occ", "residual": AR1(0.3, fixed=True)},
    "start": {"time": "occ", "residual": AR1(0.3)},
    "arma": {"time": "occ", "residual": ARMA(2, 0), "re_formula": "0"},
    "unstructured": {"time": "occ", "residual": "un", "re_formula": "0"},
    "strata": {"residual": "independent", "weights": VarIdent("sex")},
    "product": {
        "residual": "independent",
        "weights": VarComb(VarIdent("sex"), VarPower("age")),
    },
    "nested": {
        "groups": "sex",
        "re_formula": "0",
        "vc_formula": {"child": "0 + C(subject)"},
        "series": "subject",
        "time": "occ",
    },
}


@pytest.mark.parametrize("name", CALLS)
def test_the_call_makes_the_fit_again(name: str) -> None:
    reml = name != "slope"
    arguments = {"groups": "subject", **CALLS[name]}
    data = load_orthodont()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = mar.mixedlm("distance ~ age * sex", data, **arguments).fit(reml=reml)
    again = refit(fit, data=data)
    assert again.llf == fit.llf
    assert again.method == fit.method


@pytest.mark.parametrize(
    ("formula", "arguments", "absent"),
    [
        ("distance ~ age + (age | subject)", {"time": "occ"}, "re_formula"),
        ("distance ~ age + (age || subject)", {}, "re_cov"),
        ("distance ~ age + (1 | sex/subject)", {"time": "occ"}, "re_formula"),
        ("distance ~ sex + s(age, k=4) + (1 | subject)", {"time": "occ"}, "re_formula"),
        ("distance ~ sex + s(age, k=4)", {}, "groups"),
    ],
)
def test_the_call_of_bars_and_smooths_makes_the_fit_again(
    formula: str, arguments: dict[str, str], absent: str
) -> None:
    data = load_orthodont()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = mar.mixedlm(formula, data, **arguments).fit()
    assert f"{absent}=" not in call_of(fit)
    assert refit(fit, data=data).llf == pytest.approx(fit.llf, abs=1e-9)


def test_the_call_of_arrays_makes_the_fit_again() -> None:
    data = load_orthodont()
    names = {
        "endog": data["distance"],
        "exog": np.column_stack([np.ones(108), data["age"]]),
        "groups": data["subject"],
        "exog_re": np.column_stack([np.ones(108), data["age"]]),
        "time": data["occ"],
    }
    fit = MixedLMAR(**names, residual="independent").fit()
    assert refit(fit, **names).llf == fit.llf


def test_the_call_has_the_callers_own_words() -> None:
    data = load_orthodont()
    fit = mar.mixedlm("distance ~ age", data, groups="subject", time="occ").fit()
    words = {"residual": AR1(0.2), "weights": None, "subset": ..., "missing": "drop"}
    for written in (None, fit.model.recipe.options | words):
        text = call_text(fit.fit, words, written)
        assert "from mixedar.api import AR1" in text
        assert "residual=AR1(rho=0.2)" in text
        assert "subset=subset" in text
        assert 'missing="drop"' in text
        assert "weights" not in text


def test_values_are_written_as_they_are_given() -> None:
    objects: set[type] = set()
    assert value_text("car1", "residual", objects) == '"car1"'
    assert value_text('Q("a b")', "time", objects) == "'Q(\"a b\")'"
    assert value_text("it's", "time", objects) == '"it\'s"'
    assert value_text(AR1, "residual", objects) == "AR1"
    assert value_text({"a": (1, 2.5)}, "x", objects) == '{"a": (1, 2.5)}'
    assert value_text(["a", "b"], "groups", objects) == '["a", "b"]'
    assert value_text(np.ones(3), "subset", objects) == "subset"
    assert value_text(VarIdent("sex"), "weights", objects) == 'VarIdent(column="sex")'
    assert objects == {AR1, VarIdent}


def test_calls_are_laid_out_as_they_were_written() -> None:
    assert call_of(teeth()) == (
        "import mixedar.formula.api as mar\n\n"
        "model = mar.mixedlm(\n"
        '    "distance ~ age * sex",\n'
        "    data,\n"
        '    groups="subject",\n'
        '    re_formula="~age",\n'
        '    time="occ",\n'
        ")\n"
        "fit = model.fit()"
    )


def test_the_call_says_how_fixed_effects_are_tested() -> None:
    fit = teeth().with_df("kr", information="observed")
    last = 'fit = fit.with_df("kenward-roger", information="observed")'
    assert call_of(fit).splitlines()[-1] == last
    robust = teeth().get_robustcov_results("CR2")
    assert call_of(robust).splitlines()[-1] == 'fit = fit.get_robustcov_results("CR2")'
    assert refit(robust, data=load_orthodont()).bse_fe.tolist() == pytest.approx(
        robust.bse_fe.tolist()
    )
    assert call_of(teeth().with_df(12)).endswith("with_df(12)")


# -- the data -------------------------------------------------------------------------


def test_facts_of_the_data() -> None:
    facts = data_facts(teeth().fit.data)["value"]
    assert facts["Observations"] == "108"
    assert facts["Groups"] == "27"
    assert facts["Observations a group"] == "4"
    assert facts["Time"] == "occ: 1 to 4"
    assert facts["Distance of neighbours"] == "1, all equal"
    rats = load_bodyweight()
    rats["date"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(rats["time"], unit="D")
    model = mar.mixedlm(
        "weight ~ time",
        rats,
        groups="rat",
        re_formula="0",
        time="date",
        residual="car1",
    )
    fit = model.fit()
    facts = data_facts(fit.fit.data)["value"]
    assert facts["Time"] == "date: 2024-01-02 to 2024-03-05"
    assert facts["Unit of time"] == "1 day"
    assert facts["Distance of neighbours"] == "1 to 7, mostly 7"


def test_variables_of_the_model() -> None:
    numeric, factors = variables_used(teeth().fit.data)
    data = load_orthodont()
    assert list(numeric.index) == ["distance", "age", "occ"]
    assert numeric.loc["age", "Mean"] == pytest.approx(11.0)
    assert numeric.loc["distance", "Std.Dev."] == pytest.approx(data["distance"].std())
    assert numeric.loc["age", "Distinct"] == "4"
    assert set(numeric["Varies"]) == {"within groups"}
    assert factors.loc["sex", "Values"] == "Female (44), Male (64)"
    assert factors.loc["sex", "Varies"] == "between groups"
    rats = load_bodyweight()
    fit = mar.mixedlm(
        "weight ~ time + C(diet)", rats, groups="rat", residual="independent"
    ).fit()
    numeric, factors = variables_used(fit.fit.data)
    assert "diet" not in numeric.index
    assert factors.loc["diet", "Values"] == "1 (88), 2 (44), 3 (44)"


def test_the_factor_that_divides_the_pictures() -> None:
    assert main_factor(teeth().fit.data) == "sex"
    assert main_factor(shared("slope").fit.data) == "arm"
    data = load_orthodont()
    fit = mar.mixedlm("distance ~ C(age)", data, groups="subject", time="occ").fit()
    assert main_factor(fit.fit.data) is None
    assert re.search(r"<h1>.*</h1>", teeth().report(pictures=False))
