"""
Cluster-robust covariance of the fixed effects.

With clusters ``i``, the model's covariances ``H_i``, ``M = (X'H^-1 X)^-1`` and
residuals ``e = y - X b``, the estimators are

    sum_i v_i v_i',    v_i = M X_i' H_i^-1 A_i e_i,

with ``A_i = I`` (CR0, CR1 up to a factor), ``A_i`` such that the variance is
unbiased if the model's covariance is right (CR2), or ``(I - Hat_ii)^-1`` (CR3,
the jackknife).  What degrees of freedom need of a cluster are two p x p
matrices, so nothing grows faster than the number of clusters.

References
----------
Liang, K.-Y. and Zeger, S. L. (1986), Longitudinal data analysis using
generalized linear models, Biometrika 73, 13-22.

Bell, R. M. and McCaffrey, D. F. (2002), Bias reduction in standard errors for
linear regression with multi-stage samples, Survey Methodology 28, 169-181.

Pustejovsky, J. E. and Tipton, E. (2018), Small-sample methods for
cluster-robust variance estimation and hypothesis testing in fixed effects
models, Journal of Business and Economic Statistics 36, 672-683.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.data.streamed import StreamedData
from mixedar.engine.groups import group_products
from mixedar.engine.level import Apart, eliminate
from mixedar.engine.residuals import correlated_residuals
from mixedar.exceptions import NotComputedError, UnsupportedError, listing
from mixedar.fit import Fit
from mixedar.fit.beside import beside
from mixedar.fit.linked import Clusters, exog_left, linked_rows
from mixedar.hypotheses.df import JointDF, RobustMethod
from mixedar.inference.cluster_sums import (
    EachCluster,
    OfClusters,
    SummedClusters,
    adjusted_products,
    equal_sizes,
)

#: The estimators and their factors, of m clusters, n rows and p columns.
COV_TYPES = {
    "CR0": "no correction",
    "CR1": "CR0 times m / (m - 1)",
    "CR1p": "CR0 times m / (m - p)",
    "CR1S": "CR0 times m (n - 1) / ((m - 1) (n - p)), Stata's",
    "CR2": "unbiased under the model's covariance",
    "CR3": "jackknife",
}
# Fixed effects up to which sums over clusters, p^4 numbers, are kept.
_MOST_SUMMED = 40
# Rows of a group up to which its dense matrices are reasonable.
_LARGEST = 5000


class Sandwich(RobustMethod):
    """
    A cluster-robust covariance, and Satterthwaite's approximation to its distribution.

    Single contrasts have Bell and McCaffrey's degrees of freedom, joint tests
    Hotelling's T-squared with Pustejovsky and Tipton's (HTZ).

    Parameters
    ----------
    cov_type : str
    cov : ndarray, shape (p, p)
    bread : ndarray, shape (p, p)
        ``M``, without the residual variance.  With smooths this and what follows have
        rows and columns of their coefficients after those of the fixed effects.
    matrices : EachCluster or SummedClusters
        What the distribution of `cov` takes of the clusters.
    clusters : str
        What the clusters are, in words.
    """

    def __init__(
        self,
        cov_type: str,
        cov: FloatArray,
        bread: FloatArray,
        matrices: OfClusters,
        clusters: str = "groups",
    ) -> None:
        self.cov_type, self.clusters = cov_type, f"{len(matrices)} {clusters}"
        self.cov, self.bread, self.matrices = cov, bread, matrices
        self.notes = [
            f"{cov_type}: {COV_TYPES[cov_type]}; degrees of freedom are "
            "Satterthwaite's for the robust variance."
        ]
        self.lost = np.empty(0, dtype=np.intp)

    def give_no_error(self, alone: Mapping[int, str], names: Sequence[str]) -> None:
        """
        Leave out coefficients that one cluster alone determines, given its name.

        The residuals of such a cluster are zero in that direction, and do not show
        the error.
        """
        self.lost = np.array(sorted(alone), dtype=np.intp)
        self.cov[self.lost] = self.cov[:, self.lost] = np.nan
        for cluster in dict.fromkeys(alone.values()):
            found = [names[k] for k in sorted(alone) if alone[k] == cluster]
            one = "group" if cluster.startswith("group ") else "cluster"
            self.notes.append(
                f"No robust standard error for {listing(found)}: without {cluster} "
                f"it cannot be estimated, and the residuals of one {one} do not show "
                "its error. Use the model's standard errors, or leave it out."
            )

    def single(self, matrix: FloatArray) -> FloatArray:
        """See :meth:`ContrastMethod.single`."""
        out = np.empty(len(matrix))
        for k, row in enumerate(self._padded(matrix) @ self.bread):
            found = self.matrices.contrasts(row[None], self.bread)
            mean, variance = found.expected[0, 0], found.variance[0, 0] / 2.0
            out[k] = mean**2 / variance if variance > 0.0 else np.nan
        return np.where((matrix[:, self.lost] != 0.0).any(axis=1), np.nan, out)

    def _padded(self, matrix: FloatArray) -> FloatArray:
        """Rows of contrasts with columns of smooths, which they do not involve."""
        rest = np.zeros((len(matrix), len(self.bread) - matrix.shape[1]))
        return np.hstack([matrix, rest])

    def joint(self, matrix: FloatArray, rank: int) -> JointDF:
        """
        See :meth:`ContrastMethod.joint`.

        Raises
        ------
        NotComputedError
            If there are too few groups for so many restrictions.
        """
        matrix = self._padded(matrix)
        lengths = np.sqrt(np.einsum("cx,xy,cy->c", matrix, self.bread, matrix))
        _, _, rows = np.linalg.svd(matrix / lengths[:, None], full_matrices=False)
        eta = self._wishart_df(rows[:rank])
        if not eta > rank - 1:
            raise NotComputedError(
                f"{rank} restrictions leave no degrees of freedom with "
                f"{self.clusters} ({eta:.3g} for the covariance); "
                "test fewer at a time"
            )
        df = eta - rank + 1.0
        return JointDF(df, df / eta)

    def _wishart_df(self, matrix: FloatArray) -> float:
        """Degrees of freedom of the covariance of rows that are independent (HTZ)."""
        q, weights = len(matrix), matrix @ self.bread
        expected = self.matrices.contrasts(weights, self.bread).expected
        values, vectors = np.linalg.eigh(expected)
        root = (vectors / np.sqrt(values)) @ vectors.T
        found = self.matrices.contrasts(root.T @ weights, self.bread)
        return float(q * (q + 1) / found.variance.sum())


def sandwich(fit: Fit, cov_type: str = "CR2") -> Sandwich:
    """
    Cluster-robust covariance of a fit.

    Clusters are its groups; with random effects of several factors the levels of the
    outermost, or what else no random effect links.  Smooths link no rows: their
    coefficients are part of the mean, with a penalty.  What the penalty adds to the
    covariance (mgcv's ``Vp - Ve``) is the model's.

    Parameters
    ----------
    fit : Fit
    cov_type : {"CR0", "CR1", "CR1p", "CR1S", "CR2", "CR3"}

    Returns
    -------
    Sandwich

    Raises
    ------
    UnsupportedError
        For another type.
    NotComputedError
        With too few groups, with crossed factors, which make all rows one cluster,
        without data, or if a group determines a
        coefficient alone (CR3; others give it no standard error, and a note).
    """
    known = {name.lower(): name for name in COV_TYPES}
    name = known.get(str(cov_type).lower())
    if name is None:
        raise UnsupportedError(
            f"cov_type={cov_type!r}: choose {', '.join(map(repr, COV_TYPES))}"
        )
    found = _scores(fit, name) if fit.data.has_rows else _summed_scores(fit, name)
    m, n, p, bread = len(found.matrices), fit.nobs, fit.k_fe, found.mean.bread
    factor = {
        "CR1": m / (m - 1),
        "CR1p": m / max(m - p, 1),
        "CR1S": m * (n - 1) / ((m - 1) * (n - p)),
    }.get(name, 1.0)
    cov = factor * (bread @ found.meat @ bread)
    if len(cov) > p:  # the penalty's part
        cov += fit.scale * (bread - bread @ found.weight @ bread)
    own = cov[:p, :p].copy()
    out = Sandwich(name, own, bread, found.matrices, found.plural)
    if len(cov) > p:
        out.shared = found.mean.whole(cov)
    out.give_no_error(found.alone, fit.exog_names)
    return out


@dataclass(frozen=True)
class _Scores:
    """
    What a robust covariance takes of clusters.

    Attributes
    ----------
    mean : _Mean
    matrices : EachCluster or SummedClusters
    meat, weight : ndarray, shape (p, p)
        Sums of outer products of adjusted scores, and of ``X'H^-1 X``.
    alone : mapping of int to str
        Coefficients that one cluster alone determines, and its name.
    plural : str
        What the clusters are.
    """

    mean: _Mean
    matrices: OfClusters
    meat: FloatArray
    weight: FloatArray
    alone: Mapping[int, str]
    plural: str

    def summed(self) -> _Scores:
        """With sums over clusters in the place of their matrices."""
        assert isinstance(self.matrices, EachCluster)
        sums = SummedClusters.of(self.matrices, self.mean.bread)
        return replace(self, matrices=sums, mean=self.mean.without_rows())

    @classmethod
    def merged(cls, parts: Sequence[_Scores]) -> _Scores:
        """Of the clusters of all parts."""
        sums = [p.matrices for p in parts if isinstance(p.matrices, SummedClusters)]
        alone = {k: name for part in reversed(parts) for k, name in part.alone.items()}
        return replace(
            parts[0],
            matrices=SummedClusters.merged(sums),
            meat=np.sum([part.meat for part in parts], axis=0),
            weight=np.sum([part.weight for part in parts], axis=0),
            alone=alone,
        )


def _summed_scores(fit: Fit, name: str) -> _Scores:
    """Of the groups of a source, which is read once more."""
    data = fit.data
    assert isinstance(data, StreamedData)
    if fit.k_fe > _MOST_SUMMED:
        raise NotComputedError(
            f"cluster-robust standard errors of a source: with {fit.k_fe} fixed "
            f"effects, more than {_MOST_SUMMED}, their sums take too much memory; fit "
            "a frame, or use the model's standard errors"
        )
    _check_number(fit, fit.n_groups, "groups", name)
    return data.again(
        lambda rows: _scores(beside(fit, rows), name, True).summed(), _Scores.merged
    )


def _scores(fit: Fit, name: str, part: bool = False) -> _Scores:
    """Of the rows of a fit; of `part` of the clusters, or all."""
    clusters = linked_rows(fit)
    if not part:
        _check_number(fit, len(clusters), clusters.plural, name)
    mean = _mean_of(fit)
    bread = mean.bread
    weight, scores = _cluster_sums(fit, clusters, mean)
    alone = _alone(clusters, bread, weight)
    quadratic = linear = weight
    if name == "CR2":
        scores, quadratic, linear = _bias_reduced(fit, clusters, mean)
    elif name == "CR3":
        if alone:
            one, coefficient = next(iter(alone.values())), fit.exog_names[min(alone)]
            raise NotComputedError(
                f"CR3: without {one} the coefficient of {coefficient!r} cannot "
                "be estimated; use the model's standard errors, or drop the coefficient"
            )
        jump = _left_out(bread, weight)
        scores = np.einsum("bam,bm->am", jump, scores)
        linear = np.einsum("abm,bcm->acm", weight, jump)
        quadratic = np.einsum("bam,bcm->acm", jump, linear)
    matrices = EachCluster(quadratic, linear)
    meat, total = scores @ scores.T, weight.sum(axis=2)
    return _Scores(mean, matrices, meat, total, alone, clusters.plural)


@dataclass(frozen=True)
class _Mean:
    """
    The part of a fit that all rows share.

    Attributes
    ----------
    design : ndarray, shape (n, p + k)
        Of the fixed effects, and of those coefficients of smooths that vary.
    resid : ndarray, shape (n,)
        What it leaves of the response.
    bread : ndarray, shape (p + k, p + k)
        Covariance of these coefficients under the model, relative to ``scale``.
    kept : ndarray of int, shape (p + k,)
        Their numbers among all p + q.
    order : int
        p + q.
    """

    design: FloatArray
    resid: FloatArray
    bread: FloatArray
    kept: IntArray
    order: int

    def without_rows(self) -> _Mean:
        """The same without what has one value a row."""
        return replace(self, design=self.design[:0], resid=self.resid[:0])

    def whole(self, cov: FloatArray) -> FloatArray:
        """With zeros for the other coefficients."""
        out = np.zeros((self.order, self.order))
        out[np.ix_(self.kept, self.kept)] = cov
        return out


def _mean_of(fit: Fit) -> _Mean:
    """
    The mean of a fit and its covariance.

    Raises
    ------
    NotComputedError
        With smooths beside random effects of several factors.
    """
    data = fit.data
    if data.has_shared_smooths and data.factor_terms:
        raise NotComputedError(
            "cluster-robust standard errors: not known for smooths beside random "
            "effects of several factors; use with_df('satterthwaite')"
        )
    if not data.has_shared_smooths:
        bread = fit.cov_beta / fit.scale
        every = np.arange(fit.k_fe)
        resid = data.endog - fit.fitted_fixed
        return _Mean(data.exog, resid, (bread + bread.T) / 2.0, every, fit.k_fe)
    bread = fit.population.covariance(fit.cov_beta) / fit.scale
    vary = np.diag(fit.population.spread) > 0.0
    kept = np.flatnonzero(np.concatenate([np.ones(fit.k_fe, dtype=bool), vary]))
    design = np.hstack([data.exog, data.smooth_design])[:, kept]
    inner = bread[np.ix_(kept, kept)]
    resid = data.endog - fit.fitted_marginal
    return _Mean(design, resid, (inner + inner.T) / 2.0, kept, len(bread))


def _check_number(fit: Fit, m: int, plural: str, name: str) -> None:
    """Raise if there are too few clusters."""
    p, terms = fit.k_fe, fit.data.factor_terms
    if m == 1 and terms:
        factors = dict.fromkeys([fit.data.groups_name, *(t.factor for t in terms)])
        which = f"random effects of crossed factors ({listing(list(factors))})"
        related = [
            term.factor
            for term, between in zip(terms, fit.related.of_levels, strict=True)
            if between is not None
        ]
        if related:
            which = f"related levels of {listing(related)}"
        raise NotComputedError(
            f"cluster-robust standard errors: {which} "
            "link all rows, which makes them one cluster; "
            "use with_df('satterthwaite') or with_df('kenward-roger')"
        )
    if m < 2 or (name == "CR1p" and m <= p):
        needed = 2 if m < 2 else p + 1
        raise NotComputedError(
            f"{name} needs at least {needed} {plural} to cluster by; there "
            f"{'is' if m == 1 else 'are'} {m}"
        )


def _cluster_sums(
    fit: Fit, clusters: Clusters, mean: _Mean
) -> tuple[FloatArray, FloatArray]:
    """``X'H^-1 X``, shape (p, p, m), and ``X'H^-1 e``, shape (p, m)."""
    data, p = fit.data, mean.design.shape[1]
    grouped = data.grouped
    design = grouped.sort(data.random_design) @ fit.z_map
    fixed = np.column_stack([mean.design, mean.resid])
    columns = np.column_stack([design, grouped.sort(fixed)])
    if data.factor_terms:  # V^-1 W = H^-1 (W - Z B)
        rest = grouped.sort(data.endog - fit.fitted_terms)
        columns = np.column_stack([columns, grouped.sort(exog_left(fit)), rest])
    products = group_products(columns, grouped, fit.structure, fit.u)
    q = design.shape[1]
    level = eliminate(products[:q, :q], products[q:, :q], fit.factor)
    left = products[q:, q:] - Apart(data.n_groups).pairs(level.reduced, level.reduced)
    if not data.factor_terms:
        return left[:p, :p], left[:p, p]
    total = np.zeros((len(clusters), p, p + 1))
    np.add.at(total, clusters.of_groups, left[:p, p + 1 :].transpose(2, 0, 1))
    weight, scores = total[:, :, :p], total[:, :, p]
    weight = (weight + weight.swapaxes(1, 2)) / 2.0
    return weight.transpose(1, 2, 0), scores.T


def _alone(clusters: Clusters, bread: FloatArray, weight: FloatArray) -> dict[int, str]:
    """Coefficients that one cluster alone determines, and its name."""
    rest, scale = _without_each(bread, weight)
    # the share of a cluster in all information is one in such a direction
    share = np.einsum("ab,abm->m", bread, weight)
    out: dict[int, str] = {}
    for k in np.flatnonzero(share > 1.0 - 1e-6):
        values, vectors = np.linalg.eigh(rest[k])
        directions = np.abs(vectors[:, values < 1e-10]) / scale[:, None]
        moved = directions / np.sqrt(np.diag(bread))[:, None]
        for j in np.flatnonzero((moved > 1e-6 * moved.max(axis=0)).any(axis=1)):
            out.setdefault(int(j), clusters.name(int(k)))
    return out


def _without_each(
    bread: FloatArray, weight: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """``M^-1 - S_i`` of each cluster, shape (m, p, p), by scales of the columns."""
    precision = np.linalg.inv(bread)
    scale = np.sqrt(np.diag(precision))
    rest = (precision[:, :, None] - weight) / np.outer(scale, scale)[:, :, None]
    return rest.transpose(2, 0, 1), scale


def _left_out(bread: FloatArray, weight: FloatArray) -> FloatArray:
    """``(M^-1 - S_i)^-1 M^-1`` of each cluster, shape (p, p, m)."""
    rest, scale = _without_each(bread, weight)
    right = np.linalg.inv(bread) / scale[:, None]
    jump = np.linalg.solve(rest, np.broadcast_to(right, rest.shape))
    return (jump / scale[:, None]).transpose(1, 2, 0)


def _bias_reduced(
    fit: Fit, clusters: Clusters, mean: _Mean
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Scores ``X'W A e`` and the matrices of :class:`Sandwich` for CR2."""
    p, grouped = mean.design.shape[1], fit.data.grouped
    sizes = np.bincount(clusters.codes)
    m, largest = len(sizes), int(sizes.max())
    if largest > _LARGEST:
        word = "group" if clusters.word == "group" else "cluster"
        raise NotComputedError(
            f"CR2 needs matrices of order {largest}, the size of the largest {word}; "
            "use CR1 or CR3"
        )
    x, e = grouped.sort(mean.design), grouped.sort(mean.resid)
    scores = np.empty((p, m))
    quadratic, linear = np.empty((p, p, m)), np.empty((p, p, m))
    covariances = _Covariances(fit)
    order = np.argsort(clusters.codes, kind="stable")
    for at, places in equal_sizes(np.concatenate([[0], np.cumsum(sizes)])):
        rows = order[places]
        h = covariances.of(rows)
        found = adjusted_products(x[rows], e[rows], h, mean.bread)
        scores[:, at], quadratic[:, :, at], linear[:, :, at] = found
    return scores, quadratic, linear


class _Covariances:
    """
    Covariances of sorted rows, relative to the residual variance.

    Parameters
    ----------
    fit : Fit
    """

    def __init__(self, fit: Fit) -> None:
        data, grouped = fit.data, fit.data.grouped
        self._fit = fit
        self._groups = np.repeat(np.arange(data.n_groups), grouped.sizes)
        design = grouped.sort(data.random_design) @ fit.z_map
        #: levels of each factor, designs that have independent effects, and what
        #: relates the levels
        self._effects: list[tuple[IntArray, FloatArray, FloatArray | None]] = [
            (self._groups, design @ fit.factor, None)
        ]
        for term, root, between in zip(
            data.terms,
            fit.problem.level_factors(fit.theta),
            fit.related.levels,
            strict=True,
        ):
            if term.shared:
                continue  # part of the mean
            z = grouped.sort(term.design) @ root
            self._effects.append((grouped.sort(term.codes), z, between))

    def of(self, rows: IntArray) -> FloatArray:
        """Those of m clusters, whose rows have the shape (m, n); (m, n, n)."""
        roots = self._roots(rows)
        out = roots @ roots.transpose(0, 2, 1)
        for levels, z, between in self._effects:
            own, level = z[rows], levels[rows]
            part = own @ own.transpose(0, 2, 1)
            if between is not None:
                part *= between[level[:, :, None], level[:, None, :]]
            elif len(self._effects) > 1:
                part *= level[:, :, None] == level[:, None, :]
            out += part
        return out

    def _roots(self, rows: IntArray) -> FloatArray:
        """Cholesky factors of the residual correlation, shape (m, n, n)."""
        fit, (m, n) = self._fit, rows.shape
        changes = np.flatnonzero(np.diff(self._groups[rows.ravel()])) + 1
        offsets = np.concatenate([[0], changes, [m * n]])
        part = fit.data.grouped.part(rows.ravel(), offsets)
        noise = np.tile(np.eye(n), (m, 1))
        root = correlated_residuals(noise, part, fit.structure, fit.residual_params)
        return root.reshape(m, n, n)
