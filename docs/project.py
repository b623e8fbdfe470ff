"""What is known of the project: its address, its citation."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"\]\((?!\w+:)([^)\s]+)\)")


def url(name: str) -> str:
    """Return one of the addresses of pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table = text.partition("[project.urls]")[2].partition("\n[")[0]
    found = re.search(rf'^"?{re.escape(name)}"? = "([^"]+)"', table, re.MULTILINE)
    if found is None:
        raise LookupError(f"pyproject.toml has no address called {name}")
    return found[1]


def address_of(file: Path) -> str:
    """Return where a file or folder of the repository is shown."""
    kind = "tree" if file.is_dir() else "blob"
    return f"{url('Source')}/{kind}/main/{file.relative_to(ROOT).as_posix()}"


def readme_elsewhere() -> str:
    """Return README.md with links that hold outside of the repository."""
    fence = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return "".join(
        part if part.startswith("```") else _LINK.sub(_absolute, part)
        for part in fence.split(text)
    )


def _absolute(match: re.Match[str]) -> str:
    target, hash_, anchor = match[1].partition("#")
    if not target:
        return f"]({address_of(ROOT / 'README.md')}#{anchor})"
    return f"]({address_of(ROOT / target)}{hash_}{anchor})"


def _cited(key: str) -> str:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    found = re.search(rf'^{key}: "?([^"\n]+)"?$', text, re.MULTILINE)
    if found is None:
        raise LookupError(f"CITATION.cff has no {key}")
    return found[1]


def citation() -> str:
    """Return the citation as text."""
    year = _cited("date-released")[:4]
    return (
        f"mixedar developers ({year}). {_cited('title')}.\n"
        f"Version {_cited('version')}. {_cited('repository-code')}"
    )


def bibtex() -> str:
    """Return the citation for BibTeX."""
    return "\n".join(
        [
            "@software{mixedar,",
            "  author = {{mixedar developers}},",
            f"  title = {{{_cited('title')}}},",
            f"  version = {{{_cited('version')}}},",
            f"  year = {{{_cited('date-released')[:4]}}},",
            f"  url = {{{_cited('repository-code')}}},",
            "}",
        ]
    )
