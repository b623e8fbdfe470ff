"""
The report of a fit, as HTML, PDF or text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

from mixedar.exceptions import (
    MixedARError,
    UnsupportedError,
    check_alpha,
    check_choice,
    check_flags,
)
from mixedar.fit import Fit
from mixedar.inference.arguments import progress_bar
from mixedar.report.blocks import Block, MixedResults, Section, Words, Writer
from mixedar.report.contents import Contents
from mixedar.report.html import HtmlPage
from mixedar.report.pdf import PdfPages
from mixedar.report.words import pasted

_SUFFIXES = {".html": "html", ".htm": "html", ".pdf": "pdf", ".txt": "text"}


def report(
    results: MixedResults,
    path: str | Path | None = None,
    title: str | None = None,
    *,
    format: str | None = None,  # noqa: A002
    alpha: float = 0.05,
    pictures: bool = True,
    progress: bool = False,
) -> Path | str | bytes:
    """
    Write what a fit says: two paragraphs to paste, or a page with everything.

    Pages have warnings and the verdict of the diagnosis first, then methods and
    results in words, the data, estimates with tests and intervals, marginal means
    and slopes, random effects, influence of groups, diagnosis, the call as it was
    written, and versions, with numbered pictures.  What cannot be computed for a fit
    says why in its place.

    Parameters
    ----------
    results : MixedLMARResults
    path : str or Path, optional
        Where to write; ends in ``.html``, ``.pdf`` or ``.txt``.
    title : str, optional
        Heading of the page.
    format : {"html", "pdf", "text"}, optional
        By default that of the suffix of `path`, and HTML without one.  HTML is one
        file that needs no other; text is a paragraph on methods and one on results.
    alpha : float
        1 - coverage of the intervals.
    pictures : bool
        Whether to draw (matplotlib is needed, for PDF in any case).
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path, str or bytes
        The file that was written; without a `path` the HTML or the text, and of PDF
        the bytes.

    Raises
    ------
    UnsupportedError
        For another suffix or format, or a suffix of another format.
    FileNotFoundError
        If the folder is not there.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> print(fit.report(format="text")[:84])
    Methods. distance was analysed with a linear mixed model, fitted to 108 observations
    >>> path = fit.report("teeth.html", pictures=False)
    >>> path.name
    'teeth.html'
    """
    alpha = check_alpha(alpha)
    check_flags(pictures=pictures, progress=progress)
    kind = _format(path, format)
    if path is not None and not Path(path).parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(Path(path).parent)!r}")
    contents = Contents(results, alpha, pictures)
    written = _written(contents, kind, title, progress)
    if path is None:
        return written
    where = Path(path)
    where.write_bytes(written if isinstance(written, bytes) else written.encode())
    return where


def _format(path: str | Path | None, asked: str | None) -> str:
    """Which format is meant by a path, an argument, or both."""
    if asked is not None:
        check_choice("format", asked, ("html", "pdf", "text"))
    if path is None:
        return asked or "html"
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        raise UnsupportedError(
            f"report writes .html, .pdf or .txt, and {str(path)!r} ends otherwise; "
            "summary().as_latex() and as_markdown() have tables in other formats"
        )
    if asked not in (None, _SUFFIXES[suffix]):
        raise UnsupportedError(
            f"format={asked!r} and the suffix of {str(path)!r} contradict each other: "
            "leave format= out, or change the suffix"
        )
    return _SUFFIXES[suffix]


def _written(
    contents: Contents, kind: str, title: str | None, progress: bool
) -> str | bytes:
    """The content of the file."""
    if kind == "text":
        found = [f"{title}"] if title else []
        for _ in progress_bar(range(1), progress, "report"):
            found += contents.paragraphs()
        return pasted(found)
    fit, sections = contents.fit, contents.sections()
    heading = str(contents.results.summary(title=title, alpha=contents.alpha).title)
    lead = _lead(fit)
    writer: Writer = (
        HtmlPage(heading, lead, sections) if kind == "html" else PdfPages(heading, lead)
    )
    steps = [(one, maker) for one in sections for maker in one.makers]
    last: Section | None = None
    for k in progress_bar(range(len(steps)), progress, "report"):
        section, maker = steps[k]
        if section is not last:
            writer.begin(section)
        last = section
        for block in _guarded(maker):
            writer.add(block)
    return writer.finish()


def _guarded(make: Callable[[], Iterable[Block]]) -> list[Block]:
    """Blocks, or the reason why there are none."""
    try:
        return list(make())
    except MixedARError as error:
        return [Words(f"Not available: {error}", "note")]


def _lead(fit: Fit) -> str:
    """What was fitted, in one line."""
    structure = fit.structure.label
    now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    return (
        f"{fit.endog_name}: {fit.nobs:,} observations of {fit.n_groups:,} groups, "
        f"{structure.lower() if structure.islower() else structure} residuals, "
        f"{fit.method}. Made on {now}."
    )
