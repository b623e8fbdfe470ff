"""
Results of Wald tests: statsmodels' own, printed as everything else here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from statsmodels.stats.contrast import ContrastResults, WaldTestResults

from mixedar.summary import (
    ResultFrame,
    ResultsSummary,
    Summarised,
    SummaryTable,
    equation,
    format_values,
    in_words,
)


class WaldTest(Summarised, ContrastResults):
    """
    Test of hypotheses on coefficients: of each, by t or z, or of all, by F or chi2.

    Attributes
    ----------
    statistic, pvalue : float or ndarray
    effect, sd : ndarray
        Of single hypotheses: estimates and their standard errors.
    df_num, df_denom : float or ndarray
        Degrees of freedom; of a chi-squared test `df_denom` is its only one.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm("distance ~ age * sex", teeth, groups="subject").fit()
    >>> fit.f_test("age = 0, age:sex[T.Male] = 0")
    <F test: F = 64.376, p < 0.001, df_num = 2, df_denom = 79>
    """

    def __repr__(self) -> str:
        if self.effect is not None:
            return self.summary().as_text()
        symbol, value, df = self._joint()
        parts = [equation(symbol, format_values([value], "statistic")[0])]
        parts += [in_words("p", float(self.pvalue)), *df]
        name = "F test" if symbol == "F" else "Wald test"
        return f"<{name}: {', '.join(parts)}>"

    def __str__(self) -> str:
        return repr(self)

    def _joint(self) -> tuple[str, float, list[str]]:
        """Symbol, value and degrees of freedom of a joint test."""
        is_f = self.distribution == "F"
        df = {"df_num": self.df_num} if is_f else {}
        df |= {"df_denom" if is_f else "df": self.df_denom}
        texts = [f"{name} = {value:.4g}" for name, value in df.items()]
        return "F" if is_f else "chi2", float(np.squeeze(self.statistic)), texts

    def summary(
        self,
        xname: Sequence[str] | None = None,
        alpha: float = 0.05,
        title: str | None = None,
    ) -> ResultsSummary:
        """
        Return the printed form.

        Parameters
        ----------
        xname : sequence of str, optional
            Names of the hypotheses, ``c0``, ``c1``, ... by default.
        alpha : float
            1 - coverage of the intervals.
        title : str, optional

        Returns
        -------
        ResultsSummary

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> fit = mar.mixedlm("distance ~ age", teeth, groups="subject").fit()
        >>> fit.t_test("age = 0").summary(["age"]).to_frame().index.tolist()
        ['age']
        """
        if self.effect is None:
            symbol, value, _ = self._joint()
            columns = {symbol: value, "p": float(self.pvalue)}
            if symbol == "F":
                columns |= {"df_num": self.df_num}
            frame = pd.DataFrame(columns | {"df_denom": self.df_denom}, index=[""])
        else:
            frame = self.summary_frame(xname, alpha)
            ends = f"[{alpha / 2:.4g}", f"{1 - alpha / 2:.4g}]"
            frame = frame.set_axis([*frame.columns[:-2], *ends], axis=1)
        table = SummaryTable(frame, name="tests")
        return ResultsSummary(title or "Test for Constraints", tables=[table])

    def summary_frame(
        self, xname: Sequence[str] | None = None, alpha: float = 0.05
    ) -> ResultFrame:
        """
        Estimates with their tests and intervals, a row a hypothesis; of t and z tests.

        Parameters
        ----------
        xname : sequence of str, optional
            Names of the hypotheses.
        alpha : float
            1 - coverage of the intervals.

        Returns
        -------
        DataFrame

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> fit = mar.mixedlm("distance ~ age", teeth, groups="subject").fit()
        >>> fit.t_test("age = 0").summary_frame()["t"].round(1).tolist()
        [10.7]
        """
        names = None if xname is None else list(xname)
        return ResultFrame.of(super().summary_frame(names, alpha))


class WaldTestsOfTerms(WaldTestResults):
    """
    Joint Wald tests of terms, as statsmodels' ``wald_test_terms`` returns them.

    Attributes
    ----------
    table : DataFrame
        ``statistic``, ``pvalue``, ``df_constraint`` and ``df_denom``.
    """

    def summary_frame(self) -> ResultFrame:
        """The table under the names that are printed."""
        return ResultFrame.of(super().summary_frame())

    def __repr__(self) -> str:
        return repr(self.summary_frame())

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str | None:
        return self.summary_frame()._repr_html_()
