"""
The documentation site: ``python docs/build.py`` writes ``docs/_build/html``.

The pages are those of the repository; links between them are turned into links of the
site, and links to other files into links to the repository.  The API reference, the
contents, the thumbnails and the notebooks are made here.  Warnings are errors.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from docs import notebooks, project, reference  # noqa: E402

DOCS, SITE = ROOT / "docs", ROOT / "docs" / "site"
BUILD = DOCS / "_build"
# Pages outside of docs/, and their names on the site.
PAGES = {
    ROOT / "README.md": "overview.md",
    ROOT / "CHANGELOG.md": "changelog.md",
    ROOT / "CONTRIBUTING.md": "contributing.md",
    ROOT / "benchmarks" / "README.md": "benchmarks.md",
    ROOT / "benchmarks" / "calibration" / "README.md": "calibration-study.md",
    DOCS / "README.md": "index.md",
    SITE / "citation.md": "citation.md",
    SITE / "index.md": "index.md",
    **{page: page.name for page in DOCS.glob("*.md") if page.name != "README.md"},
}
PROJECT = ("how-it-is-built", "contributing", "benchmarks", "calibration-study")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^)\s]+)\)")
_IMAGE = re.compile(r"!\[([^\]]*)\]\(images/([\w.-]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def section_pages() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Return title, and pages with what they are about, of each table of the index."""
    sections: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    pages: list[tuple[str, str]] = []
    for line in (DOCS / "README.md").read_text(encoding="utf-8").splitlines():
        row = re.match(r"\| \[[^\]]+\]\(([\w-]+)\.md\) \| (.+) \|$", line)
        title = re.match(r"\| (\w[^|]*) \| \|$", line)
        if title:
            pages = []
            name = title[1].replace(" ", "-")
            sections[name] = (title[1][0].upper() + title[1][1:], pages)
        elif row:
            pages.append((row[1], row[2]))
    return sections


def linked(text: str, path: Path, target: Path, source: Path) -> str:
    """Return a page whose links hold on the site."""

    def replace(match: re.Match[str]) -> str:
        label, link = match.groups()
        if "://" in link or link.startswith("#"):
            return match[0]
        name, hash_, anchor = link.partition("#")
        file = (path.parent / name).resolve()
        if file in PAGES:
            name = PAGES[file]
        elif file.is_relative_to(DOCS / "images"):
            name = f"images/{file.name}"
        elif label.startswith("!"):
            shutil.copyfile(file, source / "images" / file.name)
            name = f"images/{file.name}"
        elif file.exists():
            name = project.address_of(file)
        return f"{label}({name}{hash_}{anchor})"

    kept = _FENCE.findall(text)
    parts = [_LINK.sub(replace, part) for part in _FENCE.split(text)]
    fences = iter([*kept, ""])
    return "".join(part + next(fences) for part in parts)


def thumbnails(page: str, source: Path) -> str:
    """Return the gallery with small pictures above, each a link to its section."""
    from PIL import Image

    folder = source / "_static" / "thumbnails"
    folder.mkdir(parents=True)
    cells = []
    for match in _IMAGE.finditer(page):
        heading = _HEADING.findall(_FENCE.sub("", page[: match.start()]))[-1]
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        with Image.open(DOCS / "images" / match[2]) as image:
            image.thumbnail((320, 280))
            image.save(folder / match[2])
        text = " ".join(match[1].split()).replace('"', "&quot;")
        cells.append(
            f'<a href="#{anchor}"><img alt="{text}" loading="lazy" '
            f'src="_static/thumbnails/{match[2]}"><span>{heading}</span></a>'
        )
    start = page.index("\n- [")
    rows = "\n".join(cells)
    return f'{page[:start]}\n<div class="thumbnails">\n{rows}\n</div>\n{page[start:]}'


def write_pages(source: Path) -> None:
    """Write all pages but the reference."""
    sections = section_pages()
    shutil.copytree(DOCS / "images", source / "images")
    (source / "_static").mkdir()
    shutil.copyfile(SITE / "site.css", source / "_static" / "site.css")
    for path, name in PAGES.items():
        if path == DOCS / "README.md":
            continue
        text = path.read_text(encoding="utf-8")
        if name == "gallery.md":
            text = thumbnails(text, source)
        if name == "index.md":
            text = text.replace("@SECTIONS@", "\n".join(sections))
        if name == "citation.md":
            text = text.replace("@CITATION@", project.citation())
            text = text.replace("@BIBTEX@", project.bibtex())
        text = linked(text, path, source / name, source)
        if name in notebooks.TUTORIALS:
            notebook = name.replace(".md", ".ipynb")
            text += (
                f"\n\nThis page as a {{download}}`notebook <notebooks/{notebook}>`.\n"
            )
        (source / name).write_text(text, encoding="utf-8")
    for name, (title, pages) in sections.items():
        # the first row of a group of pages says which they are
        lines = [f"- [](./{page}.md): {about}" for page, about in pages]
        _write_contents(source / f"{name}.md", title, lines, [p for p, _ in pages])
    lines = ["- [Overview](./overview.md)"]
    lines += [f"- [](./{page}.md)" for page in (*PROJECT, "changelog", "citation")]
    names = ["Overview <overview>", *PROJECT, "changelog", "citation"]
    _write_contents(source / "project.md", "The project", lines, names)


def _write_contents(path: Path, title: str, lines: list[str], pages: list[str]) -> None:
    inside = "\n".join(lines)
    tree = "\n".join(pages)
    path.write_text(
        f"# {title}\n\n{inside}\n\n```{{toctree}}\n:hidden:\n\n{tree}\n```\n",
        encoding="utf-8",
    )


def write_reference(source: Path) -> None:
    """Write the API reference; autosummary makes a page of each name."""
    folder = source / "api"
    folder.mkdir()
    text = _title("API reference", "=")
    text += dedent(
        """
        ``import mixedar.formula.api as mar`` has functions that take a formula and a
        data frame, ``import mixedar.api as ma`` the classes behind them, for arrays,
        and residual structures. What they return is below. Most calls go to
        :doc:`MixedLMARResults <mixedar.api.MixedLMARResults>`.

        """
    )
    titles = {
        "mixedar.formula.api": "Functions for formulas",
        "mixedar.api": "Functions for fits and structures",
        "mixedar.datasets": "Data sets",
    }
    for module, title in titles.items():
        text += _section(title, reference.functions(module))
    classes: list[reference.Public] = []
    for module, title in {
        "mixedar.api": "Models, results, structures",
        "mixedar.priors": "Priors",
        "mixedar.sklearn": "For scikit-learn",
    }.items():
        if module in reference.MODULES:
            found = reference.classes(module)
            classes += found
            text += _section(title, found, "", own=True)
    text += _section("What is returned", reference.returned(), "", own=True)
    text += _section("Errors and warnings", reference.exceptions())
    (folder / "index.rst").write_text(text, encoding="utf-8")
    for cls in (*classes, *reference.returned()):
        _write_class(folder / f"{cls.path}.rst", cls)


def _title(text: str, line: str = "-") -> str:
    return f"{text}\n{line * len(text)}\n"


def _section(
    title: str, names: list[reference.Public], toctree: str = ".", own: bool = False
) -> str:
    """A table of names; with pages of their `own` they stand in a hidden toctree."""
    if not names:
        return ""
    lines = [_title(title), ".. autosummary::"]
    lines += [f"   :toctree: {toctree}"] if toctree else []
    lines += ["", *(f"   ~{each.path}" for each in names), ""]
    if own:
        lines += [".. toctree::", "   :hidden:", ""]
        lines += [*(f"   {each.name} <{each.path}>" for each in names), ""]
    return "\n".join(lines) + "\n"


def _write_class(path: Path, cls: reference.Public) -> None:
    text = _title(f"{cls.name}", "=")
    text += f"\n.. autoclass:: {cls.path}\n\n"
    purposes: dict[str, list[reference.Public]] = {}
    for each in reference.members(cls):
        purposes.setdefault(reference.purpose(cls, each), []).append(each)
    for purpose, each in purposes.items():
        text += _section("Methods" if len(purposes) == 1 else purpose, each)
    attributes = reference.attributes(cls)
    if attributes:
        text += _title("Attributes that are computed") + "\n"
        text += "".join(f".. autoattribute:: {each.path}\n\n" for each in attributes)
    inherited = reference.inherited(cls)
    if inherited:
        text += _title("From statsmodels") + "\nAs in the parent class: "
        text += ", ".join(f"``{each.name}``" for each in inherited) + ".\n"
    path.write_text(text, encoding="utf-8")


def build(output: Path) -> int:
    """Build the site; return Sphinx's code of exit."""
    from sphinx.cmd.build import main as sphinx

    shutil.rmtree(BUILD, ignore_errors=True)
    source = BUILD / "source"
    source.mkdir(parents=True)
    write_pages(source)
    write_reference(source)
    notebooks.write(source / "notebooks")
    os.environ["MPLBACKEND"] = "Agg"
    options = ["-W", "--keep-going", "-q", "-T", "-b", "html", "-c", str(SITE)]
    folders = ["-d", str(BUILD / "doctrees"), str(source), str(output)]
    return int(sphinx([*options, *folders]))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", nargs="?", type=Path, default=BUILD / "html")
    sys.exit(build(parser.parse_args().output))


if __name__ == "__main__":
    main()
