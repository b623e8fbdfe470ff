"""
The same model as a latent growth curve: moments of the waves, and lavaan's syntax.

Random effects are latent variables whose loadings are the columns of ``Z``; fixed
effects are their means, and their regressions on covariates (Curran, P. J., 2003, Have
multilevel models been structural equation models all along?, Multivariate Behavioral
Research 38, 529-569).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.by_group.factors import group_covariance
from mixedar.engine.search import Optimum
from mixedar.exceptions import UnsupportedError, listing
from mixedar.fit import Fit
from mixedar.summary import Printed, ResultsSummary, SummaryTable

_SAME = 1e-9
_STEP = 1e-5
_MOST_WAVES = 60


@dataclass(frozen=True, eq=False, repr=False)
class ImpliedMoments(Printed):
    """
    Means and covariances of the waves: the model's, and the sample's.

    Attributes
    ----------
    mean : DataFrame
        By wave: ``implied``, ``std_error``, ``sample``.
    covariance, covariance_se, sample_covariance : DataFrame, waves x waves
        The sample's with the divisor of the number of groups.
    n_groups : int
        Groups with all waves, of which sample and covariates are.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm("distance ~ age", teeth, groups="subject", time="age").fit()
    >>> fit.implied_moments().covariance.shape
    (4, 4)
    """

    mean: pd.DataFrame
    covariance: pd.DataFrame
    covariance_se: pd.DataFrame
    sample_covariance: pd.DataFrame
    n_groups: int

    def summary(self) -> ResultsSummary:
        """
        All of them.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="age")
        >>> page = model.fit().implied_moments().summary().as_text()
        """
        tables = [
            SummaryTable(self.mean, "Mean", name="mean"),
            SummaryTable(self.covariance, "Implied covariance", name="covariance"),
            SummaryTable(self.covariance_se, "Std.Err.", name="covariance_se"),
            SummaryTable(self.sample_covariance, "Sample covariance", name="sample"),
        ]
        header = {"No. groups:": self.n_groups, "No. waves:": len(self.mean)}
        return ResultsSummary("Moments of the waves", header, tables)


@dataclass(frozen=True)
class _Waves:
    """Rows of the groups that have all waves, (groups, waves), and their first."""

    times: list[Any]
    rows: IntArray
    group: int

    @classmethod
    def of(cls, fit: Fit, times: Iterable[Any] | None) -> _Waves:
        """The waves of a fit, or raise."""
        data = fit.data
        if data.time is None:
            raise UnsupportedError(
                "waves: the model has no time; name its column, time='...'"
            )
        if data.terms or fit.k_vc:
            raise UnsupportedError(
                "waves: random effects of several factors, smooths and variance "
                "components are no latent variables of one group's waves; they are of "
                "models with groups= and re_formula= alone"
            )
        time = pd.Series(data.time).reset_index(drop=True)
        wanted = sorted(time.unique()) if times is None else list(times)
        unknown = [value for value in wanted if value not in set(time)]
        if unknown or not 1 <= len(wanted) <= _MOST_WAVES:
            raise UnsupportedError(
                f"times: {listing(list(map(str, unknown[:5])))} is no time of the data"
                if unknown
                else f"times: {len(wanted)} waves, where there may be 1 to "
                f"{_MOST_WAVES}; name some"
            )
        frame = pd.DataFrame({"g": data.codes, "t": time, "row": range(data.nobs)})
        frame = frame[frame["t"].isin(wanted)]
        if frame.duplicated(["g", "t"]).any():
            raise UnsupportedError("waves: a group has several rows of one time")
        wide = frame.pivot(index="g", columns="t", values="row")[wanted].dropna()
        if len(wide) < 2:
            raise UnsupportedError(
                "waves: fewer than two groups have all of these times; name others, "
                "times=[...], that groups share"
            )
        found = wide.to_numpy().astype(np.intp)
        waves = cls(wanted, found, int(wide.index[0]))
        marks = data.grouped.marks
        parts = [] if data.exog_re is None else [("random effects", data.exog_re)]
        if marks is not None:
            parts.append(("residual variances", data.grouped.unsort(marks)))
        for what, columns in parts:
            own = columns[found]
            if not np.allclose(own, own[:1], rtol=_SAME, atol=_SAME):
                raise UnsupportedError(
                    f"waves: the columns of the {what} differ between groups at one "
                    "time; moments of waves, and latent variables, are of groups "
                    "observed at the same times"
                )
        return waves

    def covariance(self, fit: Fit) -> FloatArray:
        """Of the waves given the covariates, shape (waves, waves)."""
        label = fit.data.group_labels[self.group]
        frame = group_covariance(fit, label)
        return np.asarray(frame.loc[self.times, self.times].to_numpy())


def implied_moments(
    fit: Fit, times: Iterable[Any] | None = None, *, covariates: str = "sample"
) -> ImpliedMoments:
    """
    Means and covariances of the waves, with standard errors, beside the sample's.

    Parameters
    ----------
    fit : Fit
    times : sequence, optional
        Times that are waves; all of the data by default.
    covariates : {"sample", "given"}
        The covariance with what the covariates' variation between groups adds, as of
        lavaan's ``fitted``, or given the covariates.

    Returns
    -------
    ImpliedMoments

    Raises
    ------
    UnsupportedError
        If groups are not observed in waves.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm("distance ~ age", teeth, groups="subject", time="age").fit()
    >>> fit.implied_moments().mean.round(1)["implied"].tolist()
    [22.0, 23.4, 24.7, 26.0]
    """
    if covariates not in ("sample", "given"):
        raise UnsupportedError(
            f"covariates={covariates!r}: there are 'sample' and 'given'"
        )
    waves, data = _Waves.of(fit, times), fit.data
    x = data.exog[waves.rows]  # (groups, waves, p)
    offset = 0.0 if data.offset is None else np.asarray(data.offset)[waves.rows]
    mean_x = x.mean(axis=0)
    beta, best = fit.fe_params, fit.estimate
    y = data.endog[waves.rows]

    def between(beta: FloatArray) -> FloatArray:
        fitted = x @ beta + offset
        if covariates == "given":
            return np.zeros((len(waves.times),) * 2)
        apart = fitted - fitted.mean(axis=0)
        return np.asarray(apart.T @ apart / len(fitted))

    whole = waves.covariance(fit) + between(beta)
    slopes = _slopes(fit, waves)
    variance = np.einsum("aij,ab,bij->ij", slopes, best.cov_theta, slopes)
    if covariates == "sample":
        steps = _STEP * np.maximum(1.0, np.abs(beta))
        units = np.diag(steps)
        by_beta = np.stack(
            [
                (between(beta + unit) - between(beta - unit)) / (2.0 * step)
                for unit, step in zip(units, steps, strict=True)
            ]
        )
        variance += np.einsum("aij,ab,bij->ij", by_beta, fit.cov_beta, by_beta)
    names = pd.Index(waves.times, name=data.time_name or "time")
    mean_variance = np.einsum("ta,ab,tb->t", mean_x, fit.cov_beta, mean_x)
    mean = pd.DataFrame(
        {
            "implied": (x @ beta + offset).mean(axis=0),
            "std_error": np.sqrt(mean_variance),
            "sample": y.mean(axis=0),
        },
        index=names,
    )
    centred = y - y.mean(axis=0)

    def square(values: FloatArray) -> pd.DataFrame:
        return pd.DataFrame(values, index=names, columns=names)

    return ImpliedMoments(
        mean,
        square(whole),
        square(np.sqrt(variance)),
        square(centred.T @ centred / len(y)),
        len(y),
    )


def _slopes(fit: Fit, waves: _Waves) -> FloatArray:
    """Derivatives of the waves' covariance by variances, residual parameters, scale."""
    best, k = fit.estimate, fit.layout.k_cov
    values = np.concatenate([best.cov_values, best.residual_params, [best.scale]])
    out = np.zeros((len(values), len(waves.times), len(waves.times)))
    for j, value in enumerate(values):
        step = _STEP * max(abs(value), 1e-3)
        ends = []
        for sign in (-1.0, 1.0):
            moved = values.copy()
            moved[j] += sign * step
            cov, scale = fit.layout.matrix(moved[:k]), moved[-1]
            estimate = replace(
                best,
                cov_values=moved[:k],
                psi=cov / scale,
                residual_params=moved[k:-1],
                scale=scale,
            )
            modes = (Optimum(estimate, fit.modes[0].search),)
            ends.append(waves.covariance(replace(fit, modes=modes)))
        out[j] = (ends[1] - ends[0]) / (2.0 * step)
    return out


@dataclass(frozen=True)
class LatentGrowth:
    """
    A model in lavaan's syntax, and the data in its form.

    Attributes
    ----------
    syntax : str
        For ``lavaan::growth``, or semopy where residuals are not correlated.
    data : DataFrame, a row a group
        Waves and covariates by the names of the syntax.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     *("distance ~ age", teeth), groups="subject", re_formula="~age", time="age",
    ...     residual="independent",
    ... )
    >>> curve = model.fit(reml=False).to_lavaan()
    >>> curve.data.shape
    (27, 4)
    """

    syntax: str
    data: pd.DataFrame

    def __str__(self) -> str:
        return self.syntax


def to_lavaan(fit: Fit, times: Iterable[Any] | None = None) -> LatentGrowth:
    """
    The model in lavaan's syntax, if its design allows.

    Parameters
    ----------
    fit : Fit
    times : sequence, optional
        Times that are waves; all of the data by default.

    Returns
    -------
    LatentGrowth
        ``print(...)`` shows the syntax.

    Raises
    ------
    UnsupportedError
        If groups are not observed in waves; a fixed effect is neither a column of the
        random effects nor a product of one with a covariate that is constant within
        groups; or residuals are neither independent nor AR(1).

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     *("distance ~ age", teeth), groups="subject", re_formula="~age", time="age",
    ...     residual="independent",
    ... )
    >>> print(str(model.fit(reml=False).to_lavaan()).splitlines()[0])
    i =~ 1*y1 + 1*y2 + 1*y3 + 1*y4
    """
    waves, data = _Waves.of(fit, times), fit.data
    if data.exog_re is None:
        raise UnsupportedError("to_lavaan(): the model has no random effects")
    z = data.exog_re[waves.rows[0]]  # (waves, q)
    x, names = data.exog[waves.rows], list(fit.exog_names)
    latent = _latent_names(z)
    y = [f"y{k + 1}" for k in range(len(z))]
    wide = pd.DataFrame(data.endog[waves.rows], columns=y)
    means, regressions = set[str](), dict[str, list[str]]()
    for k, name in enumerate(names):
        target, covariate = _path(z, x[:, :, k], name)
        if covariate is None:
            means.add(latent[target])
            continue
        parts = [p for p in name.split(":") if p != data.random_names[target]]
        label = re.sub(r"\W+", "_", "_".join(parts)).strip("_")
        label = _known(wide, label, covariate)
        wide[label] = covariate
        regressions.setdefault(latent[target], []).append(label)
    lines = []
    for j, name in enumerate(latent):
        loadings = zip(z[:, j], y, strict=True)
        terms = " + ".join(f"{value:.15g}*{wave}" for value, wave in loadings)
        lines.append(f"{name} =~ {terms}")
    lines += [f"{name} ~ " + " + ".join(on) for name, on in regressions.items()]
    lines += [f"{name} ~ 1" if name in means else f"{name} ~ 0*1" for name in latent]
    for i, name in enumerate(latent):
        for j in range(i + 1):
            free = fit.layout.is_free[fit.layout.entry(i, j)]
            lines.append(f"{name} ~~ {'' if free else '0*'}{latent[j]}")
    lines += _residual_lines(fit, waves, y)
    return LatentGrowth("\n".join(lines), wide)


def _latent_names(z: FloatArray) -> list[str]:
    """Names of latent variables: i and s, as lavaan's manual, or f1, f2, ..."""
    if z.shape[1] <= 2 and np.ptp(z[:, 0]) == 0.0:
        return ["i", "s"][: z.shape[1]]
    return [f"f{j + 1}" for j in range(z.shape[1])]


def _path(z: FloatArray, x: FloatArray, name: str) -> tuple[int, FloatArray | None]:
    """
    Which latent variable a fixed effect is of, and the covariate, if it is no mean.

    `x` has the column's values, shape (groups, waves).
    """
    for j in range(z.shape[1]):
        if np.allclose(x, z[:, j], rtol=_SAME, atol=_SAME):
            return j, None
    for j in range(z.shape[1]):
        size = float(z[:, j] @ z[:, j])
        covariate = x @ z[:, j] / size
        if np.allclose(x, covariate[:, None] * z[:, j], rtol=_SAME, atol=_SAME):
            return j, covariate
    raise UnsupportedError(
        f"to_lavaan(): {name!r} is neither a column of the random effects nor a "
        "product of one with a covariate that is constant within groups, so that it is "
        "no mean and no regression of a latent variable; give its time course a random "
        "effect, or leave it out"
    )


def _known(wide: pd.DataFrame, label: str, covariate: FloatArray) -> str:
    """A name for a covariate: the one that it has already, or a new one."""
    for name in wide:
        if np.allclose(wide[name], covariate, rtol=_SAME, atol=_SAME):
            return str(name)
    label = label or "x"
    while label in wide or label in ("i", "s"):
        label += "_"
    return label


def _residual_lines(fit: Fit, waves: _Waves, y: list[str]) -> list[str]:
    """Variances and covariances of the residuals, with their constraints."""
    label = fit.data.group_labels[waves.group]
    cov = group_covariance(fit, label, part="residual").loc[waves.times, waves.times]
    variances = np.diag(cov)
    equal = np.allclose(variances, variances[0], rtol=1e-8)
    steps = np.diff(np.asarray(waves.times, dtype=float)) if len(y) > 1 else np.ones(0)
    even = np.allclose(steps, steps[0]) if len(steps) else True
    apart = cov.to_numpy() - np.diag(variances)
    correlated = bool(np.abs(apart).max(initial=0.0) > 0.0)
    if correlated and (list(fit.structure.param_names) != ["rho"] or not even):
        raise UnsupportedError(
            f"to_lavaan(): residuals are {fit.structure.label}; it writes independent "
            "ones, with equal or unequal variances, and AR(1) at even times"
        )
    if not correlated:
        return [f"{w} ~~ {'c0*' if equal else ''}{w}" for w in y]
    decay = cov.iloc[0].to_numpy() / variances[0]
    if not np.allclose(decay, decay[1] ** np.arange(len(y))):
        raise UnsupportedError(
            f"to_lavaan(): residuals are {fit.structure.label}, whose correlation is "
            "no power of the lag; it writes independent ones and AR(1)"
        )
    lines = [f"{w} ~~ c0*{w}" for w in y]
    for lag in range(1, len(y)):
        lines += [f"{y[k]} ~~ c{lag}*{y[k + lag]}" for k in range(len(y) - lag)]
    powers = [f"c{lag} == c1^{lag} / c0^{lag - 1}" for lag in range(2, len(y))]
    return [*lines, "c0 > 0", *powers]
