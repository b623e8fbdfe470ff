"""
Fits of several imputed data sets, pooled by Rubin's rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixedar._lazy import with_near_names
from mixedar._types import FloatArray, unwrapped
from mixedar.by_group import ByGroupResults
from mixedar.compare.frames import read
from mixedar.compare.pooled import RULES, PooledResults, coefficients_table
from mixedar.compare.record import FitRecord
from mixedar.exceptions import (
    GroupError,
    LengthError,
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
    listing,
    shown,
)
from mixedar.hypotheses.df import ColumnDF, ContrastMethod, DFMethod, resolve_df
from mixedar.inference.df import contrast_method
from mixedar.inference.rubin import Rubin
from mixedar.mixed import MixedLMARResults
from mixedar.panel.results import PanelResults
from mixedar.summary import Printed, ResultFrame, ResultsSummary


@dataclass(frozen=True, eq=False, repr=False)
class PooledByGroup(Printed):
    """
    Regressions by group of imputed data sets, pooled group by group.

    Made by :func:`pool`.

    Attributes
    ----------
    fits : tuple of ByGroupResults
    df_method : str
        Degrees of freedom without missing data.

    Examples
    --------
    >>> import numpy as np
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth, rng = load_orthodont(), np.random.default_rng(5)
    >>> fits = []
    >>> for _ in range(5):
    ...     drawn = teeth.assign(age=teeth["age"] + rng.normal(0, 0.1, len(teeth)))
    ...     fits.append(mar.by_group("distance ~ age", drawn, groups="subject"))
    >>> print(mar.pool(fits).frame.loc[("M01", "age"), "estimate"].round(2))
    0.94
    """

    fits: tuple[ByGroupResults, ...]
    given: DFMethod | None = None

    @property
    def df_method(self) -> str:
        """How degrees of freedom without missing data are computed."""
        return _label(self.given)

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each group and coefficient; columns of :class:`PooledResults`."""
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
        DataFrame, shape (groups p, 9)

        Examples
        --------
        >>> import numpy as np
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth, rng = load_orthodont(), np.random.default_rng(5)
        >>> fits = []
        >>> for _ in range(5):
        ...     drawn = teeth.assign(age=teeth["age"] + rng.normal(0, 0.1, len(teeth)))
        ...     fits.append(mar.by_group("distance ~ age", drawn, groups="subject"))
        >>> mar.pool(fits).to_frame(alpha=0.1).shape
        (54, 9)
        """
        parts = [fit.conf_int() for fit in self.fits]
        index = parts[0].index
        parts = [part.reindex(index) for part in parts]
        values = np.array([part["estimate"].to_numpy(float) for part in parts])
        variances = np.array([part["std_error"].to_numpy(float) ** 2 for part in parts])
        df = self._df(np.array([part["df"].to_numpy(float) for part in parts]))
        frame = Rubin.of(values, variances, df.mean(axis=0)).frame(alpha)
        return ResultFrame.of(frame.set_axis(index))

    def group(self, label: object) -> PooledResults:
        """
        The pooled regression of one group, with its tests.

        Parameters
        ----------
        label : label

        Returns
        -------
        PooledResults

        Raises
        ------
        GroupError
            If there is no such group.
        NotComputedError
            If the group does not determine its coefficients.

        Examples
        --------
        >>> import numpy as np
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth, rng = load_orthodont(), np.random.default_rng(5)
        >>> fits = []
        >>> for _ in range(5):
        ...     drawn = teeth.assign(age=teeth["age"] + rng.normal(0, 0.1, len(teeth)))
        ...     fits.append(mar.by_group("distance ~ age", drawn, groups="subject"))
        >>> test = mar.pool(fits).group("M01").test("age = 0")
        >>> test.pvalue < 0.05
        True
        """
        covs = [fit.cov_params(label).to_numpy() for fit in self.fits]
        rows = [int(np.flatnonzero(fit.params.index == label)[0]) for fit in self.fits]
        pairs = list(zip(self.fits, rows, strict=True))
        values = np.array([fit.params.to_numpy()[row] for fit, row in pairs])
        if np.isnan(values).any():
            raise NotComputedError(
                f"group {shown(label)} does not determine its coefficients in all "
                "imputations; `problems` of the fits says why"
            )
        df = [
            fit.conf_int()["df"].to_numpy(float).reshape(fit.params.shape)[row]
            for fit, row in pairs
        ]
        own = self._df(np.array(df))
        return PooledResults(
            names=tuple(map(str, self.fits[0].params.columns)),
            values=values,
            methods=tuple(ColumnDF(c, df) for c, df in zip(covs, own, strict=True)),
            df_method=self.df_method,
            title=f"Pooled regression of {label}",
        )

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
        ...     fits.append(mar.by_group("distance ~ age", drawn, groups="subject"))
        >>> page = mar.pool(fits).summary().as_text()
        """
        table = coefficients_table(self.to_frame(alpha))
        header = {
            "Imputations": len(self.fits),
            "Groups": self.fits[0].n_groups,
            "Complete-data DF": self.df_method,
        }
        title = "Pooled regressions by group"
        return ResultsSummary(title=title, header=header, tables=[table], notes=[RULES])

    def _df(self, own: FloatArray) -> FloatArray:
        """Degrees of freedom without missing data: those given, or the fits' own."""
        given = self.given
        return own if given is None else np.full_like(own, _given(given, np.nan))


@with_near_names
def pool(
    fits: Iterable[object], df: str | float | DFMethod | None = None
) -> PooledResults | PooledByGroup:
    """
    Pool the fits of several imputed data sets by Rubin's rules.

    Parameters
    ----------
    fits : iterable of results
        One fit for each imputation, two at least, of one model: mixed models, panel
        estimators, or regressions by group.  Robust and clustered standard errors
        count as they are in the fits.
    df : str, float or DFMethod, optional
        Degrees of freedom that the complete data would have, which Barnard and
        Rubin's formula brings down: those of the fits by default; of mixed models any
        method (``"satterthwaite"``, ...); ``"residual"``, a number, or ``"normal"``
        for Rubin's of large samples.  Where imputations differ in them, their mean
        counts.

    Returns
    -------
    PooledResults
        Its ``frame`` holds estimates, tests, intervals and the share of what is
        missing; ``test`` tests several coefficients jointly, and
        ``marginal_means`` and their contrasts are pooled too.  Of regressions by group
        a :class:`PooledByGroup`.

    Raises
    ------
    LengthError
        If there are fewer than two fits.
    UnsupportedError
        If they are of different kinds, or of one that cannot be pooled.
    UnknownColumnError
        If they have different coefficients.
    GroupError
        If regressions by group have different groups.

    References
    ----------
    Rubin, D. B. (1987), Multiple Imputation for Nonresponse in Surveys, Wiley.

    Barnard, J. and Rubin, D. B. (1999), Small-sample degrees of freedom with multiple
    imputation, Biometrika 86, 948-955.

    Examples
    --------
    >>> import numpy as np
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth, rng = load_orthodont(), np.random.default_rng(5)
    >>> fits = []
    >>> for _ in range(5):  # age known within three months only
    ...     drawn = teeth.assign(age=teeth["age"] + rng.normal(0, 0.1, len(teeth)))
    ...     model = mar.mixedlm("distance ~ age", drawn, groups="subject")
    ...     fits.append(model.fit())
    >>> pooled = mar.pool(fits)
    >>> pooled.frame["estimate"].round(1).to_dict()
    {'Intercept': 16.8, 'age': 0.7}
    >>> bool((pooled.frame["df"] < fits[0].df).all())
    True
    """
    if not isinstance(fits, Iterable):
        raise UnsupportedError(
            "pool: pass a list of fits, one for each imputation, such as "
            "[model.fit() for model in models]"
        )
    found = [unwrapped(fit) for fit in fits]
    if len(found) < 2:
        raise LengthError(
            f"pool: {len(found)} fit{'s' * (not found)}: pass one for each of two "
            "imputations at least"
        )
    given = None if df is None else resolve_df(df)
    kinds = sorted({type(fit).__name__ for fit in found})
    if len(kinds) > 1:
        raise UnsupportedError(f"pool: fits of different kinds, {', '.join(kinds)}")
    if isinstance(found[0], ByGroupResults):
        return _pool_groups(found, given)
    records = tuple(read(fit, f"pool: fit {k}") for k, fit in enumerate(found))
    _check_alike(records)
    own = found[0]
    if isinstance(own, MixedLMARResults):
        used = [fit.fit for fit in found]
        if given is not None:
            used = [fit.with_tests(given, fit.robust) for fit in used]
        return PooledResults(
            names=records[0].terms,
            values=np.array([record.estimate for record in records]),
            methods=tuple(contrast_method(fit) for fit in used),
            df_method=used[0].df_method.label,
            records=records,
            fits=tuple(used),
            title="Pooled mixed model",
        )
    if not isinstance(own, PanelResults):
        raise UnsupportedError(
            f"pool: fits are of type {kinds[0]}; pass mixed models, panel estimators "
            "or regressions by group of this package"
        )
    return PooledResults(
        names=records[0].terms,
        values=np.array([record.estimate for record in records]),
        methods=tuple(_panel_method(fit, given) for fit in found),
        df_method=_label(given),
        records=records,
        title="Pooled panel estimates",
    )


def _label(given: DFMethod | None) -> str:
    """How summaries call degrees of freedom without missing data."""
    return "those of the fits" if given is None else given.label


def _given(method: DFMethod, residual: float) -> float:
    """Degrees of freedom of a method that needs no model."""
    known = {"normal": np.inf, "given": method.value, "residual": residual}
    value = known.get(method.name, np.nan)
    if np.isnan(value):
        raise UnsupportedError(
            f"pool: df={method.name!r} is for mixed models; leave df= out, or give a "
            "number or 'normal'"
        )
    return value


def _panel_method(fit: PanelResults, given: DFMethod | None) -> ContrastMethod:
    """Covariance and degrees of freedom of a panel estimator."""
    info, cov = fit.estimate.info, fit.estimate.cov
    if given is None and info.method is not None:
        return info.method
    df = info.df if given is None else _given(given, float(fit.df_resid))
    return ColumnDF(cov, np.full(len(cov), float(df)))


def _pool_groups(
    fits: Sequence[ByGroupResults], given: DFMethod | None
) -> PooledByGroup:
    """Regressions by group, pooled."""
    first = fits[0].params
    for k, fit in enumerate(fits[1:], 1):
        if list(fit.params.columns) != list(first.columns):
            raise UnknownColumnError(
                f"pool: fit {k} has the coefficients {listing(list(fit.params))}, and "
                f"fit 0 has {listing(list(first))}"
            )
        if set(fit.params.index) != set(first.index):
            odd = set(fit.params.index) ^ set(first.index)
            raise GroupError(
                f"pool: group {shown(next(iter(odd)))} is not in all fits (fit {k} and "
                "fit 0 differ); fit the same groups in all imputations"
            )
    if given is not None:
        _given(given, np.nan)
    return PooledByGroup(tuple(fits), given)


def _check_alike(records: Sequence[FitRecord]) -> None:
    """Raise unless the fits are of one model."""
    first = records[0]
    for k, record in enumerate(records[1:], 1):
        if record.terms != first.terms:
            odd = sorted({*record.terms} ^ {*first.terms}) or list(record.terms)
            raise UnknownColumnError(
                f"pool: fit {k} (counted from 0) has other coefficients than fit 0: "
                f"{listing(odd)}; fit one model to all imputations, with the same "
                "levels of its factors"
            )
        for what in ("estimator", "cov_type"):
            one, other = getattr(first, what), getattr(record, what)
            if one != other:
                raise UnsupportedError(
                    f"pool: fit {k} (counted from 0) has {other!r} where fit 0 has "
                    f"{one!r}; fit and test all imputations alike"
                )
