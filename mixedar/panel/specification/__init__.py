"""
Specification tests of panel fits, and all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from mixedar._lazy import with_near_names
from mixedar.exceptions import UnknownColumnError
from mixedar.hypotheses.result import TestResult, results_frame, results_table
from mixedar.panel.specification.effects import (
    breusch_pagan,
    cross_section_lm,
    f_test_effects,
    gourieroux_holly_monfort,
    honda,
    king_wu,
    mean_correlation,
    pesaran_cd,
    poolability,
    wooldridge_effects,
)
from mixedar.panel.specification.regressions import (
    PanelRegressions,
    Tested,
    regressions_of,
)
from mixedar.panel.specification.serial import (
    baltagi_li_conditional,
    baltagi_li_joint,
    baltagi_wu_lbi,
    bera_sosa_escudero_yoon,
    bhargava_durbin_watson,
    breusch_godfrey,
    wooldridge_ar,
    wooldridge_drukker,
    wooldridge_fd,
)
from mixedar.summary import Printed, ResultFrame, ResultsSummary

# Breusch-Godfrey with as many lags as periods is not of interest in long panels.
_MOST_LAGS = 4


@dataclass(frozen=True, repr=False)
class PanelTests(Printed):
    """
    Specification tests of one fit.

    Attributes
    ----------
    groups : dict of str to tuple of TestResult
        The tests by question: ``"effects"``, ``"poolability"``, ``"serial
        correlation"`` and ``"cross-section"``.

    Notes
    -----
    Iterating yields the tests; ``tests["Pesaran CD"]`` is the one of that
    name, or the first whose name begins so.

    Examples
    --------
    >>> from statsmodels.datasets import grunfeld
    >>> import mixedar.formula.api as mar
    >>> firms = grunfeld.load_pandas().data.astype({"year": int})
    >>> fit = mar.fixed_effects("invest ~ value + capital", firms, "firm", "year").fit()
    >>> tests = mar.panel_tests(fit)
    >>> list(tests.groups)
    ['effects', 'poolability', 'serial correlation', 'cross-section']
    """

    groups: dict[str, tuple[TestResult, ...]]

    def __iter__(self) -> Iterator[TestResult]:
        for group in self.groups.values():
            yield from group

    def __len__(self) -> int:
        return sum(map(len, self.groups.values()))

    def __getitem__(self, name: str) -> TestResult:
        tests = {test.name: test for test in reversed(list(self))}
        for known in [name, *reversed(tests)]:
            if known in tests and known.lower().startswith(name.lower()):
                return tests[known]
        raise UnknownColumnError(
            f"there is no test {name!r}; there are {[test.name for test in self]}"
        )

    def to_frame(self) -> pd.DataFrame:
        """
        Return one row a test.

        Returns
        -------
        DataFrame, shape (m, 10)
            Column ``group`` and those of :meth:`TestResult.to_frame`.

        Examples
        --------
        >>> from statsmodels.datasets import grunfeld
        >>> import mixedar.formula.api as mar
        >>> firms = grunfeld.load_pandas().data.astype({"year": int})
        >>> fit = mar.fixed_effects(
        ...     "invest ~ value + capital", firms, "firm", "year").fit(
        ... )
        >>> tests = mar.panel_tests(fit)
        >>> tests.to_frame()["group"].nunique()
        4
        """
        out = results_frame(list(self))
        counts = [len(tests) for tests in self.groups.values()]
        out.insert(0, "group", np.repeat(list(self.groups), counts))
        return ResultFrame.of(out)

    def summary(self) -> ResultsSummary:
        """
        Return the printed form.

        Returns
        -------
        ResultsSummary

        Examples
        --------
        >>> from statsmodels.datasets import grunfeld
        >>> import mixedar.formula.api as mar
        >>> firms = grunfeld.load_pandas().data.astype({"year": int})
        >>> fit = mar.fixed_effects(
        ...     "invest ~ value + capital", firms, "firm", "year").fit(
        ... )
        >>> tests = mar.panel_tests(fit)
        >>> page = tests.summary().as_text()
        """
        tables, notes = [], []
        for title, tests in self.groups.items():
            tables.append(results_table(tests, title.capitalize()))
            remarks = []
            for test in (test for test in tests if test.reason):
                what = "p-value" if np.isfinite(test.statistic) else "statistic"
                remarks.append((test.name, f"no {what}; {test.reason}."))
            remarks += [(test.name, test.note) for test in tests if test.note]
            notes += _gathered(remarks)
        notes.append(
            "Each test supposes that the rest of the model is right, and many tests at "
            "5 percent reject something by chance."
        )
        return ResultsSummary("Specification tests", tables=tables, notes=notes)


@with_near_names
def panel_tests(fit: Tested) -> PanelTests:
    """
    Run the specification tests of a panel fit.

    Parameters
    ----------
    fit : PanelResults or PanelData
        Any panel fit.  Tests for effects start from plain least squares, others
        from the residuals that their authors use, whatever the fit;
        Breusch-Godfrey's and Pesaran's use those of the kind of the fit.

    Returns
    -------
    PanelTests
        A test that does not apply has a reason in place of a number.

    Examples
    --------
    >>> from statsmodels.datasets import grunfeld
    >>> import mixedar.formula.api as mar
    >>> firms = grunfeld.load_pandas().data.astype({"year": int})
    >>> fit = mar.fixed_effects("invest ~ value + capital", firms, "firm", "year").fit()
    >>> tests = mar.panel_tests(fit)
    >>> tests.to_frame().columns.tolist()
    ['group', 'statistic', 'distribution', 'df', 'df_denom', 'pvalue', 'null',
     'alternative', 'reference', 'reason']
    """
    base = regressions_of(fit)
    return PanelTests(
        {name: tuple(run(base) for run in tests) for name, tests in _runs(base).items()}
    )


Run = Callable[[PanelRegressions], TestResult]


def _runs(base: PanelRegressions) -> dict[str, list[Run]]:
    """The tests that apply to a panel, by question."""
    effects: list[Run] = [
        f_test_effects,
        breusch_pagan,
        partial(breusch_pagan, one_sided=True),
        honda,
        wooldridge_effects,
    ]
    if base.panel.has_time:
        effects += [
            partial(f_test_effects, effects="twoways", against="entity"),
            partial(breusch_pagan, effects="time"),
            partial(honda, effects="time"),
            partial(breusch_pagan, effects="twoways"),
            partial(honda, effects="twoways"),
            partial(king_wu, effects="twoways"),
            gourieroux_holly_monfort,
        ]
    order = int(min(max(base.panel.sizes.min(), 1), _MOST_LAGS))
    serial: list[Run] = [
        wooldridge_ar,
        wooldridge_fd,
        partial(wooldridge_fd, null="fe"),
        wooldridge_drukker,
        partial(breusch_godfrey, order=order),
        baltagi_li_joint,
        baltagi_li_conditional,
        partial(baltagi_li_conditional, one_sided=True),
        bera_sosa_escudero_yoon,
        partial(bera_sosa_escudero_yoon, test="re"),
        bhargava_durbin_watson,
        baltagi_wu_lbi,
    ]
    across: list[Run] = [
        pesaran_cd,
        cross_section_lm,
        partial(cross_section_lm, form="scaled"),
    ]
    if base.kind.startswith("fe"):
        across.append(partial(cross_section_lm, form="bias_corrected"))
    return {
        "effects": effects,
        "poolability": [poolability, partial(poolability, against="within")],
        "serial correlation": serial,
        "cross-section": across,
    }


def _gathered(remarks: list[tuple[str, str]]) -> list[str]:
    """One line a remark, after the names of all tests that it is about."""
    names: dict[str, list[str]] = {}
    for name, remark in remarks:
        names.setdefault(remark, []).append(name)
    return [f"{'; '.join(who)}: {remark}" for remark, who in names.items()]


__all__ = [
    "PanelTests",
    "TestResult",
    "baltagi_li_conditional",
    "baltagi_li_joint",
    "baltagi_wu_lbi",
    "bera_sosa_escudero_yoon",
    "bhargava_durbin_watson",
    "breusch_godfrey",
    "breusch_pagan",
    "cross_section_lm",
    "f_test_effects",
    "gourieroux_holly_monfort",
    "honda",
    "king_wu",
    "mean_correlation",
    "panel_tests",
    "pesaran_cd",
    "poolability",
    "wooldridge_ar",
    "wooldridge_drukker",
    "wooldridge_effects",
    "wooldridge_fd",
]
