"""The documentation site and the notebooks: pages, links, reference, citation."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import mixedar

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from docs import build, notebooks, project, reference  # noqa: E402

PAGES = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"README"}


def test_contents_are_those_of_the_index() -> None:
    sections = build.section_pages()
    assert "models" in sections
    listed = [page for _, pages in sections.values() for page, _ in pages]
    assert len(listed) == len(set(listed))
    assert {*listed, *build.PROJECT} >= PAGES


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages as Sphinx reads them."""
    pytest.importorskip("PIL")
    folder = tmp_path_factory.mktemp("site")
    build.write_pages(folder)
    build.write_reference(folder)
    return folder


def test_links_hold_on_the_site(source: Path) -> None:
    for path in source.glob("*.md"):
        text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.M | re.S)
        assert "@" not in re.sub(r"`[^`]*`", "", text), path.name
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            name = target.partition("#")[0]
            if name and "://" not in name:
                assert (source / name).exists(), f"{path.name}: {target}"


def test_each_picture_of_the_gallery_has_a_thumbnail(source: Path) -> None:
    page = (source / "gallery.md").read_text("utf-8")
    small = {path.name for path in (source / "_static" / "thumbnails").iterdir()}
    assert small == {path.name for path in (ROOT / "docs/images").glob("gallery-*")}
    for anchor in re.findall(r'<a href="#([^"]+)"', page):
        assert f"](#{anchor})" in page


def test_every_public_name_is_in_the_reference(source: Path) -> None:
    pages = "".join(path.read_text("utf-8") for path in (source / "api").iterdir())
    for each in reference.everything():
        assert f"{each.path}\n" in pages
    import mixedar.api
    import mixedar.formula.api

    for name in {*mixedar.api.__all__, *mixedar.formula.api.__all__, *mixedar.__all__}:
        assert re.search(rf"~mixedar\.(formula\.)?api\.{name}\n", pages), name


def test_citation_names_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text("utf-8")
    version = re.search(r"^version: (.+)$", text, re.MULTILINE)
    date = re.search(r"^date-released: (.+)$", text, re.MULTILINE)
    assert version is not None
    assert date is not None
    assert version[1] == mixedar.__version__
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"## [{version[1]}] - {date[1]}" in changes
    assert project.url("Source") in text
    assert version[1] in project.citation()
    assert version[1] in project.bibtex()


@pytest.mark.parametrize("name", notebooks.TUTORIALS)
def test_notebooks_hold_code_and_outputs_of_the_page(name: str) -> None:
    pytest.importorskip("jupytext")
    page = (ROOT / "docs" / name).read_text("utf-8")
    book = notebooks.notebook_of(ROOT / "docs" / name)
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.source for cell in code] == [block.rstrip("\n") for block in blocks]
    assert any(cell.outputs for cell in code)
    for cell in book.cells:
        assert "](images/" not in cell.source
        assert not cell.source.startswith("```text")


def test_links_of_the_readme_hold_on_a_package_index() -> None:
    text = project.readme_elsewhere()
    shown = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    targets = re.findall(r"\]\(([^)\s]+)\)", shown)
    assert len(targets) > 20
    assert all(target.startswith("https://") for target in targets)
    page = (ROOT / "README.md").read_text("utf-8")
    assert text.count("```") == page.count("```")
