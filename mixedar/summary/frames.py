"""
Frames of results: what is printed of them, nothing of it hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from mixedar.summary.text import format_values, kind_of


class ResultFrame(pd.DataFrame):
    """
    A DataFrame that prints all of its columns, texts in full, numbers as in summaries.

    Small p-values print as ``<0.001``, statistics without exponents; the values are
    what they were.  What is made of it (columns, copies, sums) is a DataFrame,
    but for its first and last rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from mixedar.summary import ResultFrame
    >>> frame = ResultFrame({f"column {k}": [0.5] for k in range(30)})
    >>> "..." in repr(frame)
    False
    >>> ResultFrame({"F": [212.3], "p": [1.2e-9]})
             F       p
    0  212.300  <0.001
    """

    _metadata: ClassVar[list[str]] = ["formats"]  # what pickles keep
    formats: str | Mapping[Any, str] = ""

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    @classmethod
    def of(
        cls, frame: pd.DataFrame, formats: str | Mapping[Any, str] = ""
    ) -> ResultFrame:
        """
        The same frame, printed in full.

        Parameters
        ----------
        frame : DataFrame
        formats : str or mapping of column name to str, optional
            Of all columns, or of those named, as
            :func:`mixedar.summary.format_values` takes them: ``"number"`` where
            users' variables name the columns, be it ``p`` or ``t``.  Others go by
            their names.
        """
        out = cls(frame)
        out.attrs, out.formats = dict(frame.attrs), formats
        return out

    def __repr__(self) -> str:
        with _in_full():
            return repr(self.as_printed())

    def _repr_html_(self) -> str | None:
        with _in_full():
            found = self.as_printed()._repr_html_()  # type: ignore[operator]
        return None if found is None else str(found)

    def head(self, n: int = 5) -> ResultFrame:  # type: ignore[misc]
        """The first rows, printed alike."""
        return self.of(super().head(n), self.formats)

    def tail(self, n: int = 5) -> ResultFrame:  # type: ignore[misc]
        """The last rows, printed alike."""
        return self.of(super().tail(n), self.formats)

    def as_printed(self) -> pd.DataFrame:
        """
        The frame with texts in place of real numbers.

        Of a frame with more rows than pandas prints only those that it may print.

        Examples
        --------
        >>> from mixedar.summary import ResultFrame
        >>> ResultFrame({"F": [212.3], "p": [1.2e-9]}).as_printed()["p"].tolist()
        ['<0.001']
        """
        shown = np.ones(len(self), dtype=bool)
        most = pd.get_option("display.max_rows")
        if most and len(self) > most:
            shown[most:-most] = False
        texts, given = {}, self.formats
        for j, column in enumerate(self.columns):
            values = self.iloc[:, j]
            if pd.api.types.is_float_dtype(values.dtype):
                own = given if isinstance(given, str) else given.get(column)
                cells = np.full(len(self), "", dtype=object)
                cells[shown] = format_values(
                    values[shown], own or kind_of(column), "NaN"
                )
                values = pd.Series(cells, index=self.index, dtype=object)
            texts[j] = values
        out = pd.DataFrame(texts, index=self.index)
        return out.set_axis(self.columns, axis=1)


def _in_full() -> pd.option_context:
    """Options by which no column and no text is cut."""
    return pd.option_context("display.max_columns", None, "display.max_colwidth", None)
