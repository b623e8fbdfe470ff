"""
Fits of imputed data sets taken together: estimates, joint tests, how they print.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixedar._lazy import load
from mixedar._types import FloatArray, unwrapped
from mixedar.compare.maketables import InMakeTables
from mixedar.compare.record import FitRecord
from mixedar.data.model_data import reads_fitted
from mixedar.exceptions import (
    LengthError,
    NotComputedError,
    UnsupportedError,
    check_choice,
    listing,
)
from mixedar.fit import Fit
from mixedar.hypotheses.df import ContrastMethod, t_sf
from mixedar.hypotheses.restrictions import covariance_of, restrictions
from mixedar.hypotheses.result import TestResult, TestText
from mixedar.inference.contrasts import (
    Combined,
    Estimates,
    MarginalMeans,
    MarginalSlopes,
)
from mixedar.inference.means import (
    Asked,
    common_matrix,
    grid_of,
    means_on,
    slopes_on,
)
from mixedar.inference.rubin import Joint, Rubin, d1_df, d2, large_df, solved
from mixedar.mixed import MixedLMARResults
from mixedar.numeric.linalg import dependent_columns
from mixedar.panel.results import PanelResults
from mixedar.summary import Printed, ResultFrame, ResultsSummary, SummaryTable

RULES = (
    "Rubin's rules, degrees of freedom by Barnard and Rubin (1999); riv: relative "
    "increase of the variance by what is missing; fmi: fraction of missing information."
)
_REFERENCES = {
    "D1": "Li, Raghunathan and Rubin (1991), Reiter (2007)",
    "D2": "Li, Meng, Raghunathan and Rubin (1991)",
    "D3": "Meng and Rubin (1992)",
}
_NONE = (np.nan, np.nan)
_TWICE = "fit it by maximum likelihood, fit(reml=False), as likelihoods are compared"


@dataclass(frozen=True, eq=False, repr=False)
class PooledResults(InMakeTables, Printed):
    """
    Fits of imputed data sets, pooled; made by :func:`pool`.

    Attributes
    ----------
    names : tuple of str
        The p coefficients.
    values : ndarray, shape (m, p)
        Estimates of each imputation.
    methods : tuple of ContrastMethod
        Covariances, and degrees of freedom without missing data, of each.
    df_method : str
        How the latter are computed.
    records : tuple of FitRecord
        Numbers of each fit; empty for one group of regressions by group.
    fits : tuple of Fit
        Of mixed models.
    title : str

    Examples
    --------
    >>> import numpy as np
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth, rng = load_orthodont(), np.random.default_rng(5)
    >>> fits = []
    >>> for _ in range(5):  # age known within three months only
    ...     drawn = teeth.assign(age=teeth["age"] + rng.normal(0, 0.1, len(teeth)))
    ...     model = mar.mixedlm("distance ~ age * sex", drawn, groups="subject")
    ...     fits.append(model.fit())
    >>> pooled = mar.pool(fits)
    >>> pooled.frame.columns.tolist()
    ['estimate', 'se', 'df', 't', 'p', 'lower', 'upper', 'riv', 'fmi']
    """

    names: tuple[str, ...]
    values: FloatArray
    methods: tuple[ContrastMethod, ...]
    df_method: str
    records: tuple[FitRecord, ...] = ()
    fits: tuple[Fit, ...] = ()
    title: str = "Pooled results"

    @property
    def n_imputations(self) -> int:
        """Number of imputations m."""
        return len(self.values)

    @property
    def frame(self) -> pd.DataFrame:
        """
        The coefficients.

        Returns
        -------
        DataFrame, shape (p, 9)
            ``estimate``, ``se``, ``df``, ``t``, ``p``, ``lower``, ``upper`` (95%),
            ``riv`` (relative increase of the variance by what is missing) and
            ``fmi`` (fraction of missing information).
        """
        return self.to_frame()

    def to_frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """
        The coefficients, as :attr:`frame`, with intervals of another coverage.

        Parameters
        ----------
        alpha : float
            1 - coverage of the intervals.

        Returns
        -------
        DataFrame, shape (p, 9)

        Examples
        --------
        >>> import numpy as np
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth, rng = load_orthodont(), np.random.default_rng(5)
        >>> fits = []
        >>> for _ in range(5):
        ...     drawn = teeth.assign(age=teeth["age"] + rng.normal(0, 0.1, len(teeth)))
        ...     model = mar.mixedlm("distance ~ age", drawn, groups="subject")
        ...     fits.append(model.fit())
        >>> mar.pool(fits).to_frame(alpha=0.1).index.tolist()
        ['Intercept', 'age']
        """
        found = self._rubin(np.eye(len(self.names)))
        return ResultFrame.of(found.frame(alpha).set_axis(list(self.names)))

    @property
    def params(self) -> pd.Series:
        """Pooled estimates."""
        return self.frame["estimate"].rename("params")

    @property
    def record(self) -> FitRecord:
        """The pooled numbers as those of one fit, for tables of several."""
        if not self.records:
            raise NotComputedError(
                "the pooled regression of one group has its numbers in `frame`"
            )
        frame, first = self.frame, self.records[0]
        means = self.components
        return replace(
            first,
            estimator=f"{first.estimator}, pooled",
            estimate=frame["estimate"].to_numpy(),
            std_error=frame["se"].to_numpy(),
            df=frame["df"].to_numpy(),
            components=tuple(
                replace(one, value=means[one.name], std_error=np.nan, interval=_NONE)
                for one in first.components
            ),
            scale=float(np.mean([record.scale for record in self.records])),
            likelihood=None,
            criteria=_NONE,
            theta=None,
            rsquared={},
            icc=np.nan,
            converged=None
            if first.converged is None
            else all(record.converged for record in self.records),
            notes=(f"{self.n_imputations} imputations, Rubin's rules.", *self.notes),
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What is suspicious about the imputations."""
        notes, rows = [], [record.nobs for record in self.records]
        spread = np.ptp(self.values, axis=0)
        if (spread <= 1e-12 * np.abs(self.values[0])).all():
            notes.append(
                "The estimates of all imputations are the same: where values are "
                "missing they have to be drawn anew for each, not predicted."
            )
        if rows and min(rows) < max(rows):
            notes.append(
                f"The imputations have between {min(rows)} and {max(rows)} rows."
            )
        return tuple(notes)

    @property
    def components(self) -> pd.Series:
        """Means of the covariance parameters over the imputations."""
        parts = [{c.name: c.value for c in r.components} for r in self.records]
        return pd.DataFrame(parts, dtype=float).mean()

    def cov_params(self) -> pd.DataFrame:
        """
        Total covariance of the estimates: within and between imputations.

        Returns
        -------
        DataFrame, shape (p, p)

        Examples
        --------
        >>> import numpy as np
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth, rng = load_orthodont(), np.random.default_rng(5)
        >>> fits = []
        >>> for _ in range(5):
        ...     drawn = teeth.assign(age=teeth["age"] + rng.normal(0, 0.1, len(teeth)))
        ...     model = mar.mixedlm("distance ~ age", drawn, groups="subject")
        ...     fits.append(model.fit())
        >>> pooled = mar.pool(fits)
        >>> bool(np.isclose(pooled.cov_params().loc["age", "age"],
        ...                 pooled.frame.loc["age", "se"] ** 2))
        True
        """
        within = np.mean([method.cov for method in self.methods], axis=0)
        between = np.atleast_2d(np.cov(self.values.T))
        total = within + (1.0 + 1.0 / self.n_imputations) * between
        frame = pd.DataFrame(total, list(self.names), list(self.names))
        return ResultFrame.of(frame, "number")

    def t_test(self, r_matrix: object, alpha: float = 0.05) -> pd.DataFrame:
        """
        Test linear combinations of the coefficients, one by one.

        Parameters
        ----------
        r_matrix : array_like, str or tuple
            Restrictions, as ``fit.t_test`` takes them.
        alpha : float
            1 - coverage of the intervals.

        Returns
        -------
        DataFrame
            Columns as in :attr:`frame`; t tests that the value is that of the
            hypothesis.

        Examples
        --------
        >>> import numpy as np
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth, rng = load_orthodont(), np.random.default_rng(5)
        >>> fits = []
        >>> for _ in range(5):
        ...     drawn = teeth.assign(age=teeth["age"] + rng.normal(0, 0.1, len(teeth)))
        ...     model = mar.mixedlm("distance ~ age", drawn, groups="subject")
        ...     fits.append(model.fit())
        >>> mar.pool(fits).t_test("age = 0.5")["p"].round(2).tolist()
        [0.01]
        """
        matrix, value = self._restrictions(r_matrix)
        found = self._rubin(matrix)
        out = found.frame(alpha)
        out["t"] = (found.estimate - value) / found.se
        out["p"] = 2.0 * t_sf(np.abs(out["t"].to_numpy()), found.df)
        return out

    def test(
        self, null: object, method: str = "D1", statistic: str = "wald"
    ) -> TestResult:
        """
        Test several coefficients jointly.

        Parameters
        ----------
        null : str, array_like, tuple, PooledResults or sequence of fits
            Restrictions, as ``fit.wald_test`` takes them; or the fits of the model
            without the coefficients, of the same imputations in the same order.
        method : {"D1", "D2", "D3"}
            Pooled moments; pooled statistics of the single fits, a rougher test; or
            likelihoods at the averaged parameters, which needs the fits of `null`.
        statistic : {"wald", "likelihood"}
            What D2 pools; likelihood-ratio statistics need the fits of `null`.

        Returns
        -------
        TestResult
            An F test; its details hold ``riv``, the average relative increase of
            the variance.

        Raises
        ------
        NotComputedError
            If the restrictions are zero, follow from one another, or have a
            singular covariance.
        UnsupportedError
            If likelihoods are asked for where there are none: of fits by REML, of
            other than mixed models (D3), or without fits of the null.

        Notes
        -----
        D1 takes Reiter's degrees of freedom where those of the complete data are
        finite, as they are by default; ``pool(fits, df="normal")`` gives those of Li,
        Raghunathan and Rubin.  For one restriction it is the square of the t test.
        Where Reiter's expansion does not exist, with few imputations or degrees of
        freedom, Li, Raghunathan and Rubin's are brought down as Barnard and Rubin do.
        Kenward and Roger's factor of F is averaged over the imputations.  D3
        averages fixed effects and covariance parameters on their natural scale.

        References
        ----------
        Li, K. H., Raghunathan, T. E. and Rubin, D. B. (1991), Journal of the American
        Statistical Association 86, 1065-1073.

        Li, K. H., Meng, X.-L., Raghunathan, T. E. and Rubin, D. B. (1991), Statistica
        Sinica 1, 65-92.

        Meng, X.-L. and Rubin, D. B. (1992), Biometrika 79, 103-111.

        Reiter, J. P. (2007), Biometrika 94, 502-508.

        Examples
        --------
        >>> import numpy as np
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth, rng = load_orthodont(), np.random.default_rng(5)
        >>> fits, null = [], []
        >>> for _ in range(5):
        ...     drawn = teeth.assign(age=teeth["age"] + rng.normal(0, 0.1, len(teeth)))
        ...     model = mar.mixedlm("distance ~ age * sex", drawn, groups="subject")
        ...     fits.append(model.fit(reml=False))
        ...     model = mar.mixedlm("distance ~ age", drawn, groups="subject")
        ...     null.append(model.fit(reml=False))
        >>> pooled = mar.pool(fits)
        >>> pooled.test("sex[T.Male] = 0, age:sex[T.Male] = 0").pvalue < 0.01
        True
        >>> pooled.test(null, "D3").pvalue < 0.01
        True
        """
        check_choice("method", method, tuple(_REFERENCES))
        check_choice("statistic", statistic, ("wald", "likelihood"))
        other = None
        if isinstance(null, PooledResults):
            other = null
        elif _are_fits(null):
            other = load("mixedar.compare.pool", "pool")(null)
        if other is not None:
            self._check_null(other)
            left_out = [k for k, n in enumerate(self.names) if n not in other.names]
            null = np.eye(len(self.names))[left_out]
        matrix, value = self._restrictions(null)
        if len(dependent_columns(matrix.T)):
            raise NotComputedError(
                "some restrictions follow from others: leave these out"
            )
        if method == "D1":
            found = self._d1(matrix, value)
        elif method == "D2" and statistic == "wald":
            found = d2(len(matrix), self._wald(matrix, value))
        elif other is None:
            raise UnsupportedError(
                f"{method} with likelihoods needs the fits of the null hypothesis: "
                "pass them, of the same imputations, as null="
            )
        elif method == "D2":
            found = d2(len(matrix), self._likelihood_ratios(other))
        else:
            found = self._d3(len(matrix), other)
        text = TestText(
            name=f"Test of pooled coefficients ({method})",
            null=null if isinstance(null, str) else _in_words(self.names, matrix),
            alternative="at least one of them is otherwise",
            reference=_REFERENCES[method],
        )
        return text.result(
            found.statistic, "F", (len(matrix), found.df), details=(("riv", found.riv),)
        )

    def marginal_means(
        self,
        variables: str | Sequence[str],
        *,
        at: Mapping[str, Any] | None = None,
        by: str | Sequence[str] | None = None,
        weights: str = "equal",
    ) -> MarginalMeans:
        """
        Marginal means of pooled mixed models, at one grid for all imputations.

        Other numeric variables are held at their mean over all imputations.

        Parameters
        ----------
        variables, at, by, weights
            As ``fit.marginal_means`` takes them.

        Returns
        -------
        MarginalMeans
            With its contrasts; standard errors and degrees of freedom by Rubin's
            rules.

        Raises
        ------
        NotComputedError
            Of other than mixed models, of models that are not from a formula, and
            where the columns of the design differ between the fits.

        Examples
        --------
        >>> import numpy as np
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth, rng = load_orthodont(), np.random.default_rng(5)
        >>> fits = []
        >>> for _ in range(5):
        ...     drawn = teeth.assign(age=teeth["age"] + rng.normal(0, 0.1, len(teeth)))
        ...     model = mar.mixedlm("distance ~ age * sex", drawn, groups="subject")
        ...     fits.append(model.fit())
        >>> means = mar.pool(fits).marginal_means("sex", at={"age": 14})
        >>> means.to_frame()["mean"].round(1).tolist()
        [24.1, 27.3]
        """
        asked = Asked.of(variables, by, at, weights)
        grid = grid_of(self._formula_fits, asked, asked.columns)
        matrix = common_matrix(self.fits, grid, None)
        return means_on(grid, self.fits, matrix, self._combined, asked.by)

    def marginal_slopes(
        self,
        x: str,
        by: str | Sequence[str] | None = None,
        *,
        at: Mapping[str, Any] | None = None,
        weights: str = "equal",
    ) -> MarginalSlopes:
        """
        Slopes of pooled mixed models along a numeric variable.

        Parameters
        ----------
        x, by, at, weights
            As ``fit.marginal_slopes`` takes them.

        Returns
        -------
        MarginalSlopes

        Raises
        ------
        NotComputedError
            As :meth:`marginal_means`.

        Examples
        --------
        >>> import numpy as np
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth, rng = load_orthodont(), np.random.default_rng(5)
        >>> fits = []
        >>> for _ in range(5):
        ...     drawn = teeth.assign(age=teeth["age"] + rng.normal(0, 0.1, len(teeth)))
        ...     model = mar.mixedlm("distance ~ age * sex", drawn, groups="subject")
        ...     fits.append(model.fit())
        >>> slopes = mar.pool(fits).marginal_slopes("age", by="sex")
        >>> slopes.to_frame()["slope"].round(1).tolist()
        [0.5, 0.8]
        """
        asked = Asked.of([] if by is None else by, None, at, weights)
        grid = grid_of(self._formula_fits, asked, asked.columns, slope=x)
        matrix = common_matrix(self.fits, grid, x)
        return slopes_on(grid, self.fits, matrix, self._combined, x)

    def summary(self, alpha: float = 0.05) -> ResultsSummary:
        """
        Return the printed form.

        Parameters
        ----------
        alpha : float
            1 - coverage of the intervals.

        Returns
        -------
        ResultsSummary

        Examples
        --------
        >>> import numpy as np
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth, rng = load_orthodont(), np.random.default_rng(5)
        >>> fits = []
        >>> for _ in range(5):
        ...     drawn = teeth.assign(age=teeth["age"] + rng.normal(0, 0.1, len(teeth)))
        ...     model = mar.mixedlm("distance ~ age", drawn, groups="subject")
        ...     fits.append(model.fit())
        >>> page = mar.pool(fits).summary().as_text()
        """
        header: dict[str, Any] = {"Imputations": self.n_imputations}
        if self.records:
            first = self.records[0]
            header["Dependent Variable"] = first.sample.name
            header["Estimator"] = first.estimator
            header["Observations"] = first.nobs
        header["Complete-data DF"] = self.df_method
        tables = [coefficients_table(self.to_frame(alpha))]
        means = self.components.rename("mean").to_frame()
        if len(means):
            tables.append(SummaryTable(means, "Means", name="components"))
        return ResultsSummary(
            title=self.title, header=header, tables=tables, notes=[RULES, *self.notes]
        )

    # -- what the tests are made of ----------------------------------------------

    @property
    def _formula_fits(self) -> tuple[Fit, ...]:
        if not self.fits:
            raise NotComputedError(
                "marginal means are those of mixed models from a formula; test "
                "combinations of coefficients by t_test"
            )
        return self.fits

    @property
    def _combined(self) -> Combined:
        robust = self.fits[0].robust
        kind = None if robust is None else robust.cov_type
        return Combined(self._estimates, self.fits[0].df_method.name, kind)

    def _estimates(self, matrix: FloatArray) -> Estimates:
        found = self._rubin(matrix)
        return Estimates(found.estimate, found.se, found.df)

    def _restrictions(self, hypothesis: object) -> tuple[FloatArray, FloatArray]:
        return restrictions(hypothesis, self.names, what="coefficient")

    def _rubin(self, matrix: FloatArray) -> Rubin:
        """Rubin's rules for combinations of the coefficients."""
        variances = [np.diag(covariance_of(matrix, o.cov)) for o in self.methods]
        df = np.mean([o.single(matrix) for o in self.methods], axis=0)
        return Rubin.of(self.values @ matrix.T, np.array(variances), df)

    def _wald(self, matrix: FloatArray, value: FloatArray) -> FloatArray:
        """Wald's chi-squared statistic of each imputation, shape (m,)."""
        distance = self.values @ matrix.T - value
        covs = [covariance_of(matrix, method.cov) for method in self.methods]
        return np.array([d @ solved(c, d) for d, c in zip(distance, covs, strict=True)])

    def _d1(self, matrix: FloatArray, value: FloatArray) -> Joint:
        k, m = len(matrix), self.n_imputations
        within = np.mean([covariance_of(matrix, o.cov) for o in self.methods], axis=0)
        distances = self.values @ matrix.T - value
        between = np.atleast_2d(np.cov(distances.T))
        riv = (1.0 + 1.0 / m) * float(np.trace(solved(within, between))) / k
        mean = distances.mean(axis=0)
        reference = [method.joint(matrix, k) for method in self.methods]
        df = float(np.mean([one.df for one in reference]))
        scaling = float(np.mean([one.scaling for one in reference]))
        f = scaling * float(mean @ solved(within, mean)) / (k * (1.0 + riv))
        if k == 1:
            return Joint(f, float(self._rubin(matrix).df[0]), riv)
        return Joint(f, d1_df(k, m, riv, df), riv)

    def _likelihood_ratios(self, null: PooledResults) -> FloatArray:
        """Likelihood-ratio statistics of each imputation, shape (m,)."""
        found = []
        for record, other in zip(self.records, null.records, strict=True):
            for one in (record, other):
                if one.likelihood is None or one.likelihood.kind != "ML":
                    raise UnsupportedError(
                        f"a fit is by {one.estimator}, without a likelihood that may "
                        f"be compared: {_TWICE}"
                    )
            assert record.likelihood is not None
            assert other.likelihood is not None
            found.append(2.0 * (record.likelihood.llf - other.likelihood.llf))
        return np.array(found)

    def _d3(self, k: int, null: PooledResults) -> Joint:
        ratios = self._likelihood_ratios(null)
        if not self.fits:
            raise UnsupportedError(
                "D3 evaluates likelihoods of mixed models at averaged parameters; "
                "choose D1 or D2"
            )
        at_means = 2.0 * (_at_means(self.fits) - _at_means(null.fits)).mean()
        m = self.n_imputations
        t = k * (m - 1)
        riv = (m + 1) / t * float(ratios.mean() - at_means)
        # an estimate of a share that is not negative
        riv = max(riv, 0.0)
        return Joint(float(at_means) / (k * (1.0 + riv)), large_df(k, m, riv), riv)

    def _check_null(self, null: PooledResults) -> None:
        """Raise unless the model of `null` is a case of this one, of the same rows."""
        if null.n_imputations != self.n_imputations:
            raise LengthError(
                f"{self.n_imputations} fits and {null.n_imputations} of the null "
                "hypothesis: pass one for each imputation"
            )
        extra = [name for name in null.names if name not in self.names]
        if extra or len(null.names) == len(self.names):
            what = f"has {listing(extra)}, which the other has not"
            raise UnsupportedError(
                "the model of the null hypothesis "
                f"{what if extra else 'has the same coefficients'}: leave out the "
                "coefficients that are tested, and no others"
            )
        pairs = zip(self.records, null.records, strict=True)
        for k, (here, there) in enumerate(pairs):
            one, other = here.sample.y, there.sample.y
            if here.estimator != there.estimator:
                raise UnsupportedError(
                    f"fits {k} are by {here.estimator} and {there.estimator}; fit "
                    "both alike"
                )
            if not (one is None or other is None or np.array_equal(one, other)):
                raise UnsupportedError(
                    f"fits {k} (counted from 0) are of different rows: pass the fits "
                    "of the null hypothesis in the order of the imputations"
                )
            parts = [[c.name for c in record.components] for record in (here, there)]
            if parts[0] != parts[1]:
                raise UnsupportedError(
                    f"fits {k} differ in their covariance parameters, "
                    f"{', '.join(parts[0])} and {', '.join(parts[1])}: the tests are "
                    "of coefficients"
                )


def coefficients_table(frame: pd.DataFrame) -> SummaryTable:
    """Pooled coefficients as they are printed."""
    formats = {"riv": "share", "fmi": "share"}
    return SummaryTable(frame, formats=formats, name="coefficients")


def _at_means(fits: Sequence[Fit]) -> FloatArray:
    """Log-likelihood of each imputation at the mean of all parameters, shape (m,)."""
    if any(reads_fitted(fit.data.residual) for fit in fits):
        raise UnsupportedError(
            "D3 needs likelihoods at averaged parameters, and here the residual "
            "variance depends on fitted values; choose D1 or D2"
        )
    found = [fit.estimate for fit in fits]
    beta, values, residual, scale = (
        np.mean(part, axis=0)
        for part in zip(
            *((e.beta, e.cov_values, e.residual_params, e.scale) for e in found),
            strict=True,
        )
    )
    return np.array(
        [
            fit.problem.loglike_at(beta, values / scale, residual, float(scale))
            for fit in fits
        ]
    )


def _in_words(names: Sequence[str], matrix: FloatArray) -> str:
    """Coefficients that are tested."""
    used = [name for name, x in zip(names, matrix.T, strict=True) if x.any()]
    alone = (np.count_nonzero(matrix, axis=1) == 1).all()
    return f"{', '.join(used)} {'are zero' if alone else 'as stated'}"


def _are_fits(null: object) -> bool:
    """Whether these are fits, and no restrictions."""
    if isinstance(null, (str, dict, np.ndarray, pd.DataFrame, pd.Series)):
        return False
    if not isinstance(null, Sequence) or not len(null):
        return False
    kinds = MixedLMARResults, PanelResults
    return all(isinstance(unwrapped(one), kinds) for one in null)
