"""Every example in README.md and docs/ runs and prints what the page shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from doc_pages import PAGES, ROOT, blocks, difference, run

IDS = [path.relative_to(ROOT).as_posix() for path in PAGES]


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_examples(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = [
        f"{path.name}, line {output.line}: {found}\n{output.found}"
        for output in run(path)
        if (found := difference(output.shown, output.found)) is not None
    ]
    assert not wrong, "\n".join(wrong)


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
        "math",
    }


def test_readme_sets_up_in_two_commands() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    set_up, then = (b.text.splitlines() for b in blocks(page) if b.language == "sh")
    assert len(set_up) == 2
    assert 'pip install ".[tests]"' in set_up[1]
    assert [line.partition("#")[0].strip() for line in then] == [
        "python -m mixedar",
        "python -m pytest",
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
