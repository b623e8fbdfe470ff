"""Every example in README.md and docs/ runs and prints what the page shows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from helpers.doc_pages import (
    DRAWN,
    IMAGES,
    PAGES,
    ROOT,
    blocks,
    difference,
    image_difference,
    images,
    run,
)

# Pages that use a package which the other tests do without.
NEEDS = {
    "inference.md": "marginaleffects",
    "latent-growth.md": "semopy",
    "scikit-learn.md": "sklearn",
    "streams.md": "dask.dataframe",
}
IDS = [path.relative_to(ROOT).as_posix() for path in PAGES]


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_examples(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if path.name in NEEDS:
        pytest.importorskip(NEEDS[path.name])
    monkeypatch.chdir(tmp_path)
    spread = DRAWN.get(path.name, 0.0)
    wrong = [
        f"{path.name}, line {output.line}: {found}\n{output.found}"
        for output in run(path)
        if (found := difference(output.shown, output.found, spread)) is not None
    ]
    wrong += [
        f"{path.name}: {found}"
        for name in images(path)
        if (found := image_difference(IMAGES / name, tmp_path / name)) is not None
    ]
    assert not wrong, "\n".join(wrong)


def test_every_image_is_shown_and_described() -> None:
    found = [pair for path in PAGES for pair in images(path).items()]
    shown = dict(found)
    # a second page of the same name would take the first one's place
    assert len(shown) == len(found)
    assert set(shown) == {path.name for path in IMAGES.iterdir()}
    assert all(len(text) > 20 for text in shown.values())


def test_images_are_compared_by_what_they_show(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    def draw(name: str, height: float, **options: float) -> Path:
        figure = Figure(figsize=(4.0, 3.0), **options)
        figure.subplots().bar([0, 1], [1.0, height])
        figure.savefig(tmp_path / name)
        return tmp_path / name

    one, same = draw("one.png", 2.0), draw("same.png", 2.0)
    assert image_difference(one, same) is None
    assert "differ" in str(image_difference(one, draw("other.png", 0.5)))
    assert "pixels" in str(image_difference(one, draw("large.png", 2.0, dpi=150)))
    assert "does not make" in str(image_difference(one, tmp_path / "none.png"))


def test_images_of_one_matplotlib_are_compared_more_closely(tmp_path: Path) -> None:
    from matplotlib.image import imsave

    def save(name: str, grey: int, version: str) -> Path:
        pixels = np.full((48, 48, 3), grey, dtype=np.uint8)
        imsave(tmp_path / name, pixels, metadata={"Software": version})
        return tmp_path / name

    one = save("one.png", 100, "3.11")
    assert "differ" in str(image_difference(one, save("same.png", 103, "3.11")))
    assert image_difference(one, save("other.png", 103, "3.8")) is None


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(
        r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S
    )
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        page = (path.parent / name).resolve() if name else path
        assert page.exists(), target
        if anchor:
            assert anchor in anchors(page.read_text(encoding="utf-8")), target


def anchors(page: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page, flags=re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_languages_of_blocks(path: Path) -> None:
    # a misspelt language would be a block that nobody runs
    page = blocks(path.read_text(encoding="utf-8"))
    fences = re.findall(r"^```", path.read_text(encoding="utf-8"), flags=re.M)
    assert len(fences) == 2 * len(page)
    assert {b.language for b in page} <= {
        "python",
        "text",
        "console",
        "sh",
        "r",
        "stata",
        "sas",
        "math",
    }


def test_readme_sets_up_in_two_commands() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    set_up, then = (b.text.splitlines() for b in blocks(page) if b.language == "sh")
    assert len(set_up) == 2
    assert 'pip install ".[tests]"' in set_up[1]
    assert [line.partition("#")[0].strip() for line in then] == [
        "python -m mixedar",
        "python -m pytest -n auto",
    ]


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "docs").glob("*.md"):
        assert path.name == "README.md" or f"]({path.name})" in index


@pytest.mark.parametrize(
    ("shown", "found", "same"),
    [
        ("a  1.25 ==\n", "a 1.26 ====\n", True),
        ("1.25", "1.27", False),
        ("-0.000", "0.000", True),
        ("12", "13", False),
        ("1.2e-05", "1.3e-05", True),
        ("a 1.0", "b 1.0", False),
        ("1.0 2.0", "1.0", False),
    ],
)
def test_outputs_are_compared_by_their_digits(
    shown: str, found: str, same: bool
) -> None:
    assert (difference(shown, found) is None) is same


def test_draws_may_differ_by_their_spread() -> None:
    assert difference("p  <0.001 of 400\n", "p 0.004 of 390", 0.15) is None
    assert difference("p  <0.001\n", "p 0.004") == "the texts differ"
    assert difference("1.0", "1.5", 0.15) is not None
