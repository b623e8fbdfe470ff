"""
The results summary: numeric frames in, text, HTML and LaTeX out.

:class:`ResultsSummary` serves every model of the package and knows none of
them.  A model hands over a title, header pairs and numeric frames; the cells
become strings once, here, and each printer only arranges those strings.
"""

from __future__ import annotations

import re
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from os import PathLike
from typing import TYPE_CHECKING, Any

import pandas as pd
from statsmodels.iolib.summary2 import Summary

from mixedar._lazy import NearNames
from mixedar.exceptions import (
    UnknownColumnError,
    UnsupportedError,
    check_flags,
    without_types,
)
from mixedar.summary.frames import ResultFrame
from mixedar.summary.text import (
    NARROWEST,
    Format,
    View,
    cell_text,
    format_values,
    kind_of,
    latex_text,
    markdown_text,
    pair_columns,
    pair_lines,
    plain,
    table_lines,
)

if TYPE_CHECKING:
    from great_tables import GT

_CSS = {"l": "left", "c": "center", "r": "right"}
_RULES = {"l": ":--", "c": ":-:", "r": "--:"}
_LACKS = "{0} needs the package {1}: pip install 'mixedar[tables]'"


class Summarised(NearNames):
    """Printed as its summary, in notebooks too; ``repr`` is a line of its own."""

    if TYPE_CHECKING:  # statsmodels' classes have metaclasses: no abstract method

        def summary(self) -> ResultsSummary:
            """The printed form."""

    def __str__(self) -> str:
        return self.summary().as_text()

    def _repr_html_(self) -> str:
        return self.summary().as_html()


class Printed(Summarised, ABC):
    """Shows its summary, as text and as HTML."""

    @abstractmethod
    def summary(self) -> ResultsSummary:
        """The printed form."""

    def __repr__(self) -> str:
        return self.summary().as_text()


class NamedInALine(NearNames):
    """In notebooks the line that ``repr`` gives."""

    def _repr_html_(self) -> str:
        return f"<code>{escape(repr(self))}</code>"


def in_a_line(what: object, formula: str | None, endog: str, *facts: str) -> str:
    """What an object is: its class, the model, and facts about it."""
    named = [formula or f"{endog} ~ ...", *facts]
    return f"<{type(what).__name__}: {'; '.join(named)}>"


@dataclass
class SummaryTable:
    """
    One numeric table of a summary.

    Parameters
    ----------
    frame : DataFrame, shape (rows, columns)
        The numbers in full precision; object columns may hold text.
    title : str, optional
        Printed at the top left of the table.
    formats : mapping of column name to format, optional
        See :func:`format_values`.  Columns left out are formatted by their
        names (``P>|t|``, ``DF``, ``t``) and otherwise as ``"number"``.
    index_header : str, optional
        Heading of the row names; without it the title stands there.
    note : str, optional
        Printed below the table, wrapped.
    name : str, optional
        Key in :meth:`ResultsSummary.to_frames`, default a slug of the title.
    lower_triangle : bool, optional
        Print a square frame (correlations) strictly below its diagonal, with
        3 decimals unless `formats` says otherwise.
    missing : str, optional
        Shown for missing values, by default nothing.

    Raises
    ------
    UnsupportedError
        `frame` is not a DataFrame, or not square with `lower_triangle`.
    UnknownColumnError
        `formats` names a column that `frame` lacks.
    """

    frame: pd.DataFrame
    title: str | None = None
    formats: Mapping[Any, Format] = field(default_factory=dict)
    index_header: str | None = None
    note: str | None = None
    name: str | None = None
    lower_triangle: bool = False
    missing: str = ""

    def __post_init__(self) -> None:
        where, frame = f"summary table {self.title or self.name!r}", self.frame
        if not isinstance(frame, pd.DataFrame):
            raise UnsupportedError(
                f"{where}: needs a DataFrame, not {type(frame).__name__}; "
                "use Series.to_frame() or pandas.DataFrame(...)"
            )
        unknown = [key for key in self.formats if key not in frame.columns]
        if unknown:
            raise UnknownColumnError(
                f"{where}: formats for {unknown}, which are not columns of the "
                f"frame; its columns are {list(frame.columns)}"
            )
        if self.lower_triangle and frame.shape[0] != frame.shape[1]:
            raise UnsupportedError(
                f"{where}: shape {frame.shape} is not square; lower_triangle=True "
                "is for correlation matrices"
            )

    def formatted(self) -> pd.DataFrame:
        """Return the cells as strings; of a triangle only the printed part."""
        frame, triangle = self.frame, self.lower_triangle
        cells = {}
        for j, column in enumerate(frame.columns):
            kind = "share" if triangle else kind_of(column)
            fmt = self.formats.get(column, kind)
            texts = format_values(frame.iloc[:, j], fmt, self.missing)
            cells[j] = ["" if triangle and i <= j else t for i, t in enumerate(texts)]
        out = pd.DataFrame(cells, index=frame.index, dtype=object)
        out.columns = frame.columns
        return out.iloc[1:, :-1] if triangle else out

    def aligns(self) -> str:
        """Return one letter a printed column: text left, numbers right."""
        count = self.frame.shape[1] - self.lower_triangle
        text = [
            all(isinstance(v, str) for v in self.frame.iloc[:, j].dropna())
            for j in range(count)
        ]
        return "".join("l" if t and len(self.frame) else "r" for t in text)


class ResultsSummary(Summary):
    """
    Summary of a fit or a test, built from plain frames.

    Parameters
    ----------
    title : str, optional
        Printed above everything.
    header : mapping of str to value, optional
        Facts about the fit, printed in two columns below the title.
    tables : sequence of SummaryTable, optional
        The numeric tables in the order of printing.
    notes : sequence of str, optional
        Sentences printed at the bottom, wrapped.
    header_formats : mapping of str to format, optional
        Formats of header values, as of the columns of a table.

    Attributes
    ----------
    tables : list of DataFrame
        What is printed, cells as strings: first the header (only if there is
        one; key, value, key, value), then one frame a table, indexed by the
        row names.  Changing them changes the printed summary.
    title, settings, extra_txt
        As in the parent; `extra_txt` holds the notes.

    Notes
    -----
    ``add_df``, ``add_array``, ``add_dict``, ``add_text`` and ``add_title`` work
    as in the parent; each added frame keeps its own ``float_format``.

    :func:`statsmodels.iolib.summary2.summary_col` never calls ``summary()``.
    It reads ``params``, ``bse``, ``tvalues``, ``pvalues``, ``conf_int(alpha)``
    and ``use_t`` of a results object, all of one length, then
    ``model.data.param_names`` (else ``model.exog_names``),
    ``model.endog_names`` and, if present, ``rsquared``, ``rsquared_adj`` and
    ``default_model_infos`` (dict of label to callable of the results).

    Examples
    --------
    >>> import pandas as pd
    >>> from mixedar.summary import ResultsSummary, SummaryTable
    >>> frame = pd.DataFrame({"estimate": [1.5, 2.0]}, index=["a", "b"])
    >>> summary = ResultsSummary("Two numbers", tables=[SummaryTable(frame, "Numbers")])
    >>> summary.to_frame(0)["estimate"].tolist()
    [1.5, 2.0]
    """

    def __init__(
        self,
        title: str | None = None,
        header: Mapping[str, Any] | None = None,
        tables: Iterable[SummaryTable] = (),
        notes: Iterable[str] = (),
        header_formats: Mapping[str, Format] | None = None,
    ) -> None:
        super().__init__()
        self.title = title
        if header:
            formats = header_formats or {}
            texts = [
                format_values([value], formats.get(key, "number"))[0]
                for key, value in header.items()
            ]
            pairs = list(zip(header, texts, strict=True))
            pairs += [("", "")] * (len(pairs) % 2)
            half = len(pairs) // 2
            sides = zip(pairs[:half], pairs[half:], strict=True)
            self.add_array([[*left, *right] for left, right in sides], align="lrlr")
            self.settings[-1]["pairs"] = True
        for table in tables:
            self.add_table(table)
        for note in notes:
            self.add_text(without_types(note))

    def add_table(self, table: SummaryTable) -> None:
        """
        Append a numeric table.

        Parameters
        ----------
        table : SummaryTable

        Examples
        --------
        >>> import pandas as pd
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> from mixedar.summary import SummaryTable
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> summary = fit.summary()
        >>> mine = pd.DataFrame({"value": [1.0]}, index=["my number"])
        >>> summary.add_table(SummaryTable(mine, "Mine"))
        >>> summary.to_frame("mine").shape
        (1, 1)
        """
        self.add_df(table.formatted(), align=table.aligns())
        self.settings[-1].update(
            frame=table.frame.copy(),
            formats={k: v for k, v in table.formats.items() if isinstance(v, str)},
            name=table.name,
            title=table.title,
            corner=table.index_header,
            note=table.note,
            triangle=table.lower_triangle,
        )

    def to_frames(self) -> dict[str, pd.DataFrame]:
        """
        Return the numeric tables in full precision.

        Returns
        -------
        dict of str to DataFrame
            Copies, in the order of printing.  A key is the name given, else a
            slug of the title (``"fixed_effects"``), else ``"table_<k>"``
            counted from 1; a repeated key gets ``_2``, ``_3``, ...

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> list(fit.summary().to_frames())
        ['parameters', 'random_effects', 'fixed_effects_correlation',
         'residual_quantiles']
        """
        frames: dict[str, pd.DataFrame] = {}
        for table, settings in zip(self.tables, self.settings, strict=True):
            if settings.get("pairs"):
                continue
            slug = re.sub(r"\W+", "_", settings.get("title") or "").strip("_").lower()
            name = base = settings.get("name") or slug or f"table_{len(frames) + 1}"
            count = 1
            while name in frames:
                count += 1
                name = f"{base}_{count}"
            frame = settings.get("frame", table).copy()
            frames[name] = ResultFrame.of(frame, settings.get("formats", ""))
        return frames

    def to_frame(self, name_or_position: str | int = 0) -> pd.DataFrame:
        """
        Return one numeric table in full precision.

        Parameters
        ----------
        name_or_position : str or int
            Key of :meth:`to_frames`, or position among the numeric tables.

        Returns
        -------
        DataFrame

        Raises
        ------
        UnknownColumnError
            There is no such table.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> fit.summary().to_frame("parameters").columns.tolist()
        ['Coef.', 'Std.Err.', 'DF', 't', 'P>|t|', '[0.025', '0.975]']
        """
        frames = self.to_frames()
        key: str | int = name_or_position
        if not isinstance(key, str) and -len(frames) <= key < len(frames):
            key = list(frames)[key]
        if key not in frames:
            raise UnknownColumnError(
                f"the summary has no table {name_or_position!r}; it has "
                f"{list(frames)}, in this order"
            )
        return frames[str(key)]

    def as_text(self, width: int = 80) -> str:
        """
        Return the summary as plain text.

        Parameters
        ----------
        width : int
            No line is longer, down to 40 characters.  Names that do not fit
            are cut in the middle and tables set in blocks of columns.

        Returns
        -------
        str

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> text = fit.summary().as_text(width=100)
        >>> text.splitlines()[0].strip()
        'Linear mixed model with AR(1) residuals'
        """
        width = max(int(width), NARROWEST)
        views = views_of(self)
        bodies = [[] if v.pairs else table_lines(v, width) for v in views]
        used = [len(line) for body in bodies for line in body if line is not None]
        for pairs in (v.items() for v in views if v.pairs):
            used.append(sum(pair_columns(pairs, width)[1]) + 3)
        frame = min(max([*used, NARROWEST]), width)
        lines = [t.center(frame) for t in textwrap.wrap(plain(self.title), frame)]
        for view, body in zip(views, bodies, strict=True):
            rows = pair_lines(view.items(), frame) if view.pairs else body
            lines += ["=" * frame, *("-" * frame if r is None else r for r in rows)]
        lines.append("=" * frame)
        for note in self.extra_txt:
            lines += textwrap.wrap(str(note), frame)
        return "\n".join(line.rstrip() for line in lines)

    def as_html(self) -> str:
        """
        Return the summary as HTML tables, names escaped, nothing external.

        Returns
        -------
        str

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> html = fit.summary().as_html()
        >>> html.count("<table")
        5
        """
        parts = ['<div class="results-summary">']
        if self.title:
            parts.append(f"<p><strong>{escape(self.title)}</strong></p>")
        for view in views_of(self):
            parts.append('<table class="simpletable">')
            if view.title:
                parts.append(f"<caption>{escape(view.title)}</caption>")
            if view.header:
                cells = f'<th scope="col">{escape(view.corner)}</th>' * view.index
                for head, how in zip(view.heads, view.aligns, strict=True):
                    style = f"text-align: {_CSS[how]}"
                    cells += f'<th scope="col" style="{style}">{escape(head)}</th>'
                parts.append(f"<thead><tr>{cells}</tr></thead>")
            parts.append("<tbody>")
            for label, *texts in view.rows():
                stub = f'<th scope="row">{escape(label)}</th>' if view.index else ""
                cells = "".join(
                    f'<th scope="row">{escape(text)}</th>'
                    if view.pairs and j % 2 == 0 and text
                    else f'<td data-label="{escape(head)}" '
                    f'style="text-align: {_CSS[how]}">{escape(text)}</td>'
                    for j, (text, how, head) in enumerate(
                        zip(texts, view.aligns, view.heads, strict=True)
                    )
                )
                parts.append(f"<tr>{stub}{cells}</tr>")
            parts.append("</tbody></table>")
            parts += [f"<p>{escape(view.note)}</p>"] * bool(view.note)
        parts += [f"<p>{escape(str(note))}</p>" for note in self.extra_txt]
        return "\n".join([*parts, "</div>"])

    def as_latex(
        self,
        label: str = "",
        *,
        caption: str | None = None,
        booktabs: bool = True,
        table: str | int | None = None,
    ) -> str:
        r"""
        Return the summary, or one of its tables, as a LaTeX ``table``.

        Parameters
        ----------
        label : str
            Argument of ``\label``, taken literally.
        caption : str, optional
            In place of the title.
        booktabs : bool
            Rules of the package booktabs, which the document has to load; False for
            ``\hline``, which needs none.
        table : str or int, optional
            Which table, as in :meth:`to_frame`, in a float of its own; all of them in
            one by default, below the facts about the fit.

        Returns
        -------
        str

        Raises
        ------
        UnknownColumnError
            There is no such table.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> latex = fit.summary().as_latex("tab:teeth", caption="Growth of teeth.")
        >>> r"\label{tab:teeth}" in latex and r"\toprule" in latex
        True
        >>> fit.summary().as_latex(table="parameters").count("tabular")
        2
        """
        check_flags(booktabs=booktabs)
        names = ("toprule", "midrule", "bottomrule") if booktabs else ("hline",) * 3
        top, middle, bottom = (rf"\{name}" for name in names)
        title = plain(self.title) if caption is None else caption
        parts = [r"\begin{table}", r"\centering"]
        parts += [rf"\caption{{{latex_text(title)}}}"] * bool(title)
        parts += [rf"\label{{{label}}}"] * bool(label)
        views = views_of(self) if table is None else [self._view(table)]
        for view in views:
            aligns = "l" * view.index + "".join(view.aligns)
            parts += [rf"\begin{{tabular}}{{{aligns}}}", top]
            if view.title:
                title = rf"\textit{{{latex_text(view.title)}}}"
                parts.append(rf"\multicolumn{{{len(aligns)}}}{{l}}{{{title}}} \\")
            heads, rows = view.printed()
            if view.header:
                parts += [" & ".join(map(latex_text, heads)) + r" \\", middle]
            for row in rows:
                parts.append(" & ".join(map(latex_text, row)) + r" \\")
            parts += [bottom, r"\end{tabular}", ""]
            parts += [rf"{{\footnotesize {latex_text(view.note)}\par}}"] * bool(
                view.note
            )
        for note in self.extra_txt:
            parts.append(rf"{{\footnotesize {latex_text(plain(note))}\par}}")
        return "\n".join([*parts, r"\end{table}"])

    def as_markdown(self) -> str:
        """
        Return the summary as pipe tables of Markdown (GitHub, Quarto, pandoc).

        Returns
        -------
        str

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> text = model.fit().summary().as_markdown()
        >>> text.splitlines()[0]
        '**Linear mixed model with AR(1) residuals**'
        """
        parts = []
        if self.title:
            parts.append(f"**{markdown_text(plain(self.title))}**")
        for view in views_of(self):
            if view.title:
                parts.append(f"*{markdown_text(view.title)}*")
            heads, rows = view.printed()
            rules = [":--"] * view.index + [_RULES[how] for how in view.aligns]
            cells = [[markdown_text(cell) for cell in row] for row in [heads, *rows]]
            cells.insert(1, rules)
            parts.append("\n".join(f"| {' | '.join(row)} |" for row in cells))
            parts += [markdown_text(view.note)] * bool(view.note)
        parts += [markdown_text(plain(note)) for note in self.extra_txt]
        return "\n\n".join(parts)

    def as_gt(self, name_or_position: str | int = 0) -> GT:
        """
        Return one table for the package great_tables.

        Parameters
        ----------
        name_or_position : str or int
            Which table, as in :meth:`to_frame`.

        Returns
        -------
        great_tables.GT
            With its title, the title of the summary and the notes; its methods
            style it further.

        Raises
        ------
        UnknownColumnError
            There is no such table.
        UnsupportedError
            If great_tables is not installed.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> summary = model.fit().summary()
        >>> table = summary.as_gt("parameters")  # doctest: +SKIP
        """
        view = self._view(name_or_position)
        try:
            from great_tables import GT
        except ImportError as error:
            raise UnsupportedError(_LACKS.format("as_gt", "great_tables")) from error
        columns = {f"column {j}": cells for j, cells in enumerate(view.columns)}
        table = GT(pd.DataFrame({"row": view.labels} | columns), rowname_col="row")
        heads: dict[str, Any] = dict(zip(columns, view.heads, strict=True))
        table = table.cols_label(**heads).tab_stubhead(view.corner)
        for name, how in zip(columns, view.aligns, strict=True):
            table = table.cols_align(_CSS[how], columns=name)
        if self.title or view.title:
            titles = [plain(text) for text in (self.title, view.title) if text]
            table = table.tab_header(*titles)
        for note in filter(None, [view.note, *map(plain, self.extra_txt)]):
            table = table.tab_source_note(note)
        return table

    def to_excel(self, path: str | PathLike[str]) -> None:
        """
        Write a workbook: a sheet for each table, numbers in full precision.

        Parameters
        ----------
        path : str or path
            Ends in ``.xlsx``.  A first sheet holds the title, what stands above the
            tables, and the notes.

        Raises
        ------
        UnsupportedError
            For another suffix, or if openpyxl is not installed.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> model.fit().summary().to_excel("teeth.xlsx")  # doctest: +SKIP
        """
        if not str(path).lower().endswith(".xlsx"):
            raise UnsupportedError(f"to_excel writes .xlsx files, not {str(path)!r}")
        facts = [pair for view in views_of(self) if view.pairs for pair in view.items()]
        about = [(plain(self.title), ""), *facts]
        about += [(plain(note), "") for note in self.extra_txt]
        try:
            import openpyxl  # noqa: F401
        except ImportError as error:
            raise UnsupportedError(_LACKS.format("to_excel", "openpyxl")) from error
        with pd.ExcelWriter(path, engine="openpyxl") as book:
            sheet = pd.DataFrame(about)
            sheet.to_excel(book, sheet_name="about", index=False, header=False)
            for name, frame in self.to_frames().items():
                frame.to_excel(book, sheet_name=re.sub(r"[\[\]:*?/\\]", "_", name)[:31])

    def __repr__(self) -> str:
        return self.as_text()

    def _view(self, name_or_position: str | int) -> View:
        """The strings of a numeric table."""
        k = self._place(name_or_position)
        return _view(self.tables[k], self.settings[k])

    def _place(self, name_or_position: str | int) -> int:
        """Position of a numeric table among all."""
        names = list(self.to_frames())
        self.to_frame(name_or_position)  # raises if there is none
        if isinstance(name_or_position, str):
            name_or_position = names.index(name_or_position)
        numeric = [k for k, one in enumerate(self.settings) if not one.get("pairs")]
        return numeric[name_or_position]


def views_of(summary: Summary) -> list[View]:
    """The strings of each table of a summary that has any, as printers take them."""
    pairs = zip(summary.tables, summary.settings, strict=True)
    views = [_view(table, settings) for table, settings in pairs]
    return [view for view in views if view.columns or view.labels]


def _view(table: pd.DataFrame, settings: Mapping[str, Any]) -> View:
    """The strings of one table."""
    size, how = table.shape[1], settings["align"] or "r"
    return View(
        labels=[plain(x) if settings["index"] else "" for x in table.index],
        heads=[plain(c) if settings["header"] else "" for c in table.columns],
        columns=[
            [cell_text(x, settings["float_format"]) for x in table.iloc[:, j]]
            for j in range(size)
        ],
        aligns=[how[min(j, len(how) - 1)] for j in range(size)],
        header=settings["header"],
        index=settings["index"],
        pairs=bool(settings.get("pairs")),
        triangle=bool(settings.get("triangle")),
        title=plain(settings.get("title")),
        corner=plain(settings.get("corner")),
        note=plain(settings.get("note")),
    )
