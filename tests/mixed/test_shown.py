"""What models and fits print as, what dir() lists, and fits read from files."""

from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import mixedar.api
import mixedar.formula.api as mar
from mixedar.datasets import load_bodyweight, load_orthodont
from mixedar.exceptions import UnsupportedError


@cache
def shown() -> dict[str, Any]:
    teeth, rats = load_orthodont(), load_bodyweight()
    mixed = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    plain = mar.mixedlm(
        "distance ~ age", teeth, groups="subject", residual="independent"
    )
    panel = mar.random_effects("distance ~ age", teeth, "subject", "occ")
    groups = mar.by_group("distance ~ age", teeth, groups="subject")
    return {
        "mixed": mixed.fit(),
        "plain": plain.fit(),
        "panel": panel.fit(),
        "groups": groups,
        "smooth": mar.mixedlm("weight ~ s(time) + (1 + time | rat)", rats).fit(),
        "mixed model": mixed,
        "panel model": panel,
        "groups' model": groups.model,
    }


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("mixed", ["MixedLMARResults", "108 rows, 27 groups", "REML", "AR(1)"]),
        ("panel", ["PanelResults", "27 entities", "GLS"]),
        ("groups", ["ByGroupResults", "27 groups", "pooled sd"]),
        ("mixed model", ["MixedLMAR", "108 rows", "AR(1)"]),
        ("panel model", ["RandomEffects", "108 rows, 27 entities"]),
        ("groups' model", ["ByGroupOLS", "108 rows, 27 groups"]),
    ],
)
def test_repr_is_a_line_that_says_what_it_is(key: str, words: list[str]) -> None:
    text = repr(shown()[key])
    assert "\n" not in text
    assert text.startswith(f"<{words[0]}: distance ~ age; ")
    assert text.endswith(">")
    for word in words:
        assert word in text


@pytest.mark.parametrize("key", ["mixed", "panel", "groups"])
def test_fits_print_as_their_summary(key: str) -> None:
    fit = shown()[key]
    assert str(fit) == fit.summary().as_text()
    assert fit._repr_html_() == fit.summary().as_html()
    assert isinstance(fit.__dir__(), list)


@pytest.mark.parametrize("key", ["mixed model", "panel model", "groups' model"])
def test_models_in_notebooks_are_a_line(key: str) -> None:
    html = shown()[key]._repr_html_()
    assert html.startswith("<code>&lt;")
    assert "~ age" in html


def test_models_from_arrays_have_no_formula() -> None:
    teeth = load_orthodont()
    exog = pd.DataFrame({"const": 1.0, "age": teeth["age"]})
    model = mixedar.api.MixedLMAR(
        teeth["distance"], exog, teeth["subject"], residual="independent"
    )
    assert "distance ~ ...; 108 rows" in repr(model)
    assert "distance ~ ..." in repr(model.fit())


def test_fits_without_data_are_shown() -> None:
    fit = pickle.loads(pickle.dumps(shown()["plain"]))
    fit.remove_data()
    assert "108 rows" in repr(fit)
    assert "Linear mixed model" in str(fit)


@pytest.mark.parametrize("key", list(shown()))
def test_what_dir_lists_can_be_had(key: str) -> None:
    one = shown()[key]
    names = [name for name in dir(one) if not name.startswith("_")]
    lacking = [name for name in names if not hasattr(one, name)]
    assert not lacking
    if key in ("mixed", "plain"):
        assert ("rho" in names) == (key == "mixed")
        assert "marginal_means" in names


def test_what_holds_arrays_is_a_line() -> None:
    fit, panel = shown()["mixed"], shown()["panel"]
    drawn = fit.get_distribution()
    for one in (fit.fit, drawn, panel.panel, panel.estimate, fit.influence()):
        assert repr(one).startswith(f"<{type(one).__name__}")
        assert "\n" not in repr(one)
        assert "array" not in repr(one)
        assert one._repr_html_().startswith("<code>&lt;")


def test_other_results_are_shown() -> None:
    fit = shown()["plain"]
    draws = fit.bootstrap(3, rng=1)
    assert repr(draws) == "<BootstrapDraws: 3 of 4 parameters>"
    assert draws._repr_html_().startswith("<code>")
    assert repr(fit.shrinkage()) == fit.shrinkage().summary().as_text()
    means = fit.marginal_means("age", at={"age": [8, 14]})
    check = fit.predictive_check("lag1", n_sim=20, rng=1)
    for one in (means, check):
        assert "<table" in one._repr_html_()


def test_saved_fits_are_loaded(tmp_path: Path) -> None:
    path = tmp_path / "fit.pickle"
    shown()["mixed"].save(path)
    again = mar.load(path)
    assert again.llf == shown()["mixed"].llf
    path.write_bytes(pickle.dumps(shown()["panel"]))
    assert mixedar.api.load(str(path)).params.equals(shown()["panel"].params)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pickle"
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(UnsupportedError, match="type dict"):
        mar.load(path)
    path.write_text("no pickle")
    with pytest.raises(UnsupportedError, match="cannot be read"):
        mar.load(path)
    with pytest.raises(FileNotFoundError):
        mar.load(tmp_path / "nothing.pickle")


def test_reports_are_html_files(tmp_path: Path) -> None:
    for name in ("fit.odt", "fit", "fit.md"):
        with pytest.raises(UnsupportedError, match=r"\.html"):
            shown()["plain"].report(tmp_path / name, pictures=False)
        assert not (tmp_path / name).exists()
    path = shown()["plain"].report(tmp_path / "fit.HTML", pictures=False)
    assert path.exists()
