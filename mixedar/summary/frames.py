"""
Frames of results, of which nothing is hidden when they are printed.
"""

from __future__ import annotations

import pandas as pd


class ResultFrame(pd.DataFrame):
    """
    A DataFrame that prints all of its columns, and texts in full.

    What is made of it (columns, copies, sums) is a DataFrame.

    Examples
    --------
    >>> import pandas as pd
    >>> from mixedar.summary import ResultFrame
    >>> frame = ResultFrame({f"column {k}": [0.5] for k in range(30)})
    >>> "..." in repr(frame)
    False
    """

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    @classmethod
    def of(cls, frame: pd.DataFrame) -> ResultFrame:
        """The same frame, printed in full."""
        out = cls(frame)
        out.attrs = dict(frame.attrs)
        return out

    def __repr__(self) -> str:
        with _in_full():
            return str(super().__repr__())

    def _repr_html_(self) -> str | None:
        with _in_full():
            found = super()._repr_html_()  # type: ignore[misc]
        return None if found is None else str(found)


def _in_full() -> pd.option_context:
    """Options by which no column and no text is cut."""
    return pd.option_context("display.max_columns", None, "display.max_colwidth", None)
