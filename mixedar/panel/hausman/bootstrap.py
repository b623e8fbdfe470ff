"""
Bootstrap of the difference between fixed and random effects, by entity.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from mixedar._types import BoolArray, FloatArray, IntArray, Seed
from mixedar.exceptions import NotComputedError, UnsupportedError
from mixedar.inference.arguments import check_count, generator, progress_bar
from mixedar.numeric.linalg import r_factor
from mixedar.panel.algebra import RANK_TOLERANCE, independent_columns, wald
from mixedar.panel.data import PanelData
from mixedar.panel.hausman.comparison import HausmanResult, Pair, text_of

Components = Literal["baltagi-chang", "harmonic"]

_BLOCK = 5_000_000  # weights held at a time
_SINGULAR = 1e-11
_REFERENCE = "Cameron and Trivedi (2005), Microeconometrics, section 21.4.3"


def bootstrap(pair: Pair, n_sim: int, rng: Seed, progress: bool) -> HausmanResult:
    """The test with the covariance of the difference from drawn entities."""
    if check_count(n_sim, "n_sim") < 10:
        raise UnsupportedError(f"hausman: n_sim={n_sim}: a bootstrap needs hundreds")
    text = text_of("Hausman (bootstrap)", _REFERENCE)
    frame, notes = pair.frame(), pair.notes()
    unlike, positions = pair.unlike(), pair.identified
    if unlike is not None:
        missing = text.missing(unlike, "chi2")
        return pair.result("bootstrap", [missing], frame, notes)
    if pair.not_classical("bootstrap") is not None:
        # only the choice of coefficients rests on the covariances
        positions = np.arange(len(pair.names))
    if len(positions) == 0:
        missing = text.missing(pair.not_identified(), "chi2", 0)
        return pair.result("bootstrap", [missing], frame, notes)
    chosen = [pair.names[j] for j in positions]
    draws = _replicated(pair, positions, n_sim, rng, progress)
    centred = draws - draws.mean(axis=0)
    cov = centred.T @ centred / (len(draws) - 1)
    scale = np.sqrt(np.diag(cov))
    difference = pair.difference[positions]
    statistic, df = wald(difference, cov)
    inverse = np.linalg.pinv(cov / np.outer(scale, scale), hermitian=True)
    away = (draws - difference) / scale
    distances = np.einsum("bi,ij,bj->b", away, inverse, away)
    share = float((1.0 + (distances >= statistic).sum()) / (1.0 + len(draws)))
    note = f"{len(draws)} bootstrap replicates of {pair.re.panel.n_entities} entities."
    if len(draws) < n_sim:
        note += f" {n_sim - len(draws)} more could not be estimated and were left out."
    details = (("p-value from the replicates", share),)
    test = text.result(statistic, "chi2", df, note=note, details=details)
    frame.loc[chosen, "std_err"] = scale
    return pair.result(
        "bootstrap",
        [test],
        frame,
        notes,
        cov_difference=pd.DataFrame(cov, index=chosen, columns=chosen),
        identified=len(chosen),
        draws=pd.DataFrame(draws, columns=chosen),
    )


def _replicated(
    pair: Pair, positions: IntArray, n_sim: int, rng: Seed, progress: bool
) -> FloatArray:
    """The differences, by the variance components that the fit was estimated by."""
    panel, columns = pair.re.panel, pair.re.estimate.columns
    constant = next((j for j, c in enumerate(columns) if c == panel.constant), None)
    products = entity_products(panel, columns, constant)
    once = np.ones((1, panel.n_entities))
    names = [panel.names[c] for c in columns]
    chosen = [pair.names[j] for j in positions]
    where = np.array([names.index(name) for name in chosen])
    methods: tuple[Components, ...] = ("baltagi-chang", "harmonic")
    for components in methods:
        whole = estimates(products, once, components)
        if np.allclose(
            whole.re[0, where], pair.re.params[chosen], rtol=1e-6, atol=1e-12
        ):
            return drawn_differences(products, where, components, n_sim, rng, progress)
    raise NotComputedError(
        f"hausman: the bootstrap estimates variance components by Swamy and Arora anew "
        f"in each replicate, and the fit is another one ({pair.re.method}); refit "
        "random_effects with its default, or use method='mundlak-robust'"
    )


@dataclass(frozen=True)
class EntityProducts:
    """
    Cross-products of each entity.

    Attributes
    ----------
    within : ndarray, shape (N, q)
        Packed cross-products of the deviations of (x, y) from entity means.
    classes : tuple of (int, ndarray of int, ndarray)
        Ascending: a number of observations, the entities that have it and the
        packed outer products of their means of (x, y).
    scale : ndarray, shape (k + 1,)
        Columns were divided by this; the response is the last one.
    within_kept, between_kept, kept : ndarray of int
        Columns that are independent of earlier ones within entities, between
        entities, and at all.
    """

    within: FloatArray
    classes: tuple[tuple[int, IntArray, FloatArray], ...]
    scale: FloatArray
    within_kept: IntArray
    between_kept: IntArray
    kept: IntArray

    def sums(self, weights: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """
        Sums over entities, each counted `weights` times, shape (B, N).

        Cross-products within entities, shape (B, k + 1, k + 1); those of the means
        and numbers of entities by size, shapes (B, C, k + 1, k + 1) and (B, C).
        """
        width, single = len(self.scale), len(self.classes) == 1
        counts, between = [], []
        for _, entities, products in self.classes:
            part = weights if single else weights[:, entities]
            counts.append(part.sum(axis=1))
            between.append(_unpack(part @ products, width))
        within = _unpack(weights @ self.within, width)
        return within, np.stack(between, axis=1), np.stack(counts, axis=1)


def entity_products(
    panel: PanelData, columns: IntArray, constant: int | None
) -> EntityProducts:
    """
    Form the cross-products of a panel.

    Parameters
    ----------
    panel : PanelData
    columns : ndarray of int, shape (k,)
        Columns of ``panel.x`` to use.
    constant : int or None
        Position of the constant among them.  With one, the others are centred,
        which changes no slope and saves digits.

    Returns
    -------
    EntityProducts
    """
    data = np.column_stack([panel.x[:, columns], panel.y])
    if constant is not None:
        shift = data.mean(axis=0)
        shift[constant] = 0.0
        data -= shift
    scale = np.sqrt((data**2).mean(axis=0))
    scale = np.where(scale > 0.0, scale, 1.0)
    data /= scale
    means = panel.entity_means(data)
    data -= panel.per_row(means)
    rows, cols = np.triu_indices(data.shape[1])
    within = np.empty((panel.n_entities, len(rows)))
    for position, (i, j) in enumerate(zip(rows, cols, strict=True)):
        within[:, position] = panel.entity_sums(data[:, i] * data[:, j])
    sizes = panel.sizes
    classes = []
    for size in np.unique(sizes):
        members = np.flatnonzero(sizes == size)
        part = means[members]
        classes.append((int(size), members, part[:, rows] * part[:, cols]))
    root = np.sqrt(panel.nobs)
    inside = r_factor(data[:, :-1] / root)
    weights = np.sqrt(sizes / panel.nobs)[:, None]
    outside = r_factor(means[:, :-1] * weights)
    return EntityProducts(
        within=within,
        classes=tuple(classes),
        scale=scale,
        within_kept=_kept(inside),
        between_kept=_kept(outside),
        kept=_kept(np.concatenate([inside, outside])),
    )


def _kept(triangle: FloatArray) -> IntArray:
    return np.flatnonzero(independent_columns(triangle, RANK_TOLERANCE))


def _unpack(packed: FloatArray, width: int) -> FloatArray:
    """Symmetric matrices from their upper triangles, shape (B, width, width)."""
    rows, cols = np.triu_indices(width)
    out = np.empty((len(packed), width, width))
    out[:, rows, cols] = packed
    out[:, cols, rows] = packed
    return out


@dataclass(frozen=True)
class SwamyArora:
    """
    Fixed and random effects estimates of B replicates.

    Attributes
    ----------
    fe : ndarray, shape (B, k)
        Slopes of fixed effects; NaN where there is none.
    re : ndarray, shape (B, k)
        Coefficients of random effects.
    sigma2_u, sigma2_e : ndarray, shape (B,)
        Variances of effects and errors.
    failed : ndarray of bool, shape (B,)
        Replicates in which regressors are collinear or no degrees of freedom
        are left.
    """

    fe: FloatArray
    re: FloatArray
    sigma2_u: FloatArray
    sigma2_e: FloatArray
    failed: BoolArray


def estimates(
    products: EntityProducts, weights: FloatArray, components: Components
) -> SwamyArora:
    """
    Estimate both models in every replicate, variance components included.

    Parameters
    ----------
    products : EntityProducts
    weights : ndarray, shape (B, N)
        How often each entity counts, in each of B replicates.
    components : {"baltagi-chang", "harmonic"}
        Variance components of Swamy and Arora for entities of different
        lengths: Baltagi and Chang's, as plm's and Stata's ``sa``, or with the
        harmonic mean of the lengths, as Stata's default.  Equal for balanced
        panels.

    Returns
    -------
    SwamyArora
    """
    within, by_size, counts = products.sums(weights)
    sizes = np.array([size for size, _, _ in products.classes], dtype=np.float64)
    k = y = len(products.scale) - 1
    entities, nobs = counts.sum(axis=1), counts @ sizes
    failed = np.zeros(len(nobs), dtype=bool)

    inside = products.within_kept
    slopes, ssr_within = _solve(within, inside, y, failed)
    df_within = nobs - entities - len(inside)
    failed |= df_within <= 0
    sigma2_e = ssr_within / np.where(df_within > 0, df_within, 1.0)

    outside = products.between_kept
    power = 1.0 if components == "baltagi-chang" else 0.0
    between = np.einsum("c,bcij->bij", sizes**power, by_size)
    _, ssr_between = _solve(between, outside, y, failed)
    df_between = entities - len(outside)
    if components == "baltagi-chang":
        squares = np.einsum("c,bcij->bij", sizes**2, by_size)
        block = np.ix_(np.arange(len(nobs)), outside, outside)
        gram, size, singular = _scaled(between[block])
        inner = squares[block] / (size[:, :, None] * size[:, None, :])
        trace = np.trace(np.linalg.solve(gram, inner), axis1=1, axis2=2)
        trace[singular] = 0.0
        sigma2_u = (ssr_between - df_between * sigma2_e) / (nobs - trace)
    else:
        harmonic = entities / (counts @ (1.0 / sizes))
        failed |= df_between <= 0
        variance = ssr_between / np.where(df_between > 0, df_between, 1.0)
        sigma2_u = variance - sigma2_e / harmonic
    sigma2_u = np.maximum(sigma2_u, 0.0)

    positive = sigma2_e > 0.0
    failed |= ~positive
    ratio = (sigma2_u / np.where(positive, sigma2_e, 1.0))[:, None]
    # quasi-demeaning leaves (1 - theta)^2 T = T / (1 + T ratio) of the means
    share = sizes / (1.0 + sizes * ratio)
    quasi = within + np.einsum("bc,bcij->bij", share, by_size)
    both, _ = _solve(quasi, products.kept, y, failed)

    fe = np.full((len(nobs), k), np.nan)
    fe[:, inside] = slopes
    re = np.full((len(nobs), k), np.nan)
    re[:, products.kept] = both
    unit = products.scale[-1] / products.scale[:-1]
    square = products.scale[-1] ** 2
    return SwamyArora(
        fe * unit, re * unit, sigma2_u * square, sigma2_e * square, failed
    )


def drawn_differences(
    products: EntityProducts,
    positions: IntArray,
    components: Components,
    n_sim: int,
    rng: Seed,
    progress: bool,
) -> FloatArray:
    """
    Differences of the coefficients at `positions`, entities drawn with replacement.

    Replicates that cannot be estimated are left out.
    """
    rng = generator(rng)
    parts = []
    for weights in _draws(len(products.within), n_sim, rng, progress):
        found = estimates(products, weights, components)
        gap = (found.fe - found.re)[:, positions]
        bad = found.failed | ~np.isfinite(gap).all(axis=1)
        parts.append(gap[~bad])
    draws = np.concatenate(parts)
    least = max(10, 2 * len(positions))
    if len(draws) < least:
        raise NotComputedError(
            f"only {len(draws)} of {n_sim} bootstrap replicates could be estimated, "
            f"and {least} are needed: in the others regressors are collinear, because "
            "too few entities vary in them. Use method='mundlak-robust', or more draws"
        )
    return draws


def _draws(
    entities: int, n_sim: int, rng: np.random.Generator, progress: bool
) -> Iterator[FloatArray]:
    """Counts of each entity in the replicates, block by block."""
    block = max(1, _BLOCK // entities)
    rows: list[IntArray] = []
    for step in progress_bar(range(1, n_sim + 1), progress, "Bootstrap"):
        drawn = rng.integers(0, entities, entities)
        rows.append(np.bincount(drawn, minlength=entities))
        if len(rows) == block or step == n_sim:
            yield np.array(rows, dtype=np.float64)
            rows.clear()


def _solve(
    products: FloatArray, columns: IntArray, y: int, failed: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """Coefficients (B, q) and residual sums of squares (B,); marks failures."""
    total = products[:, y, y]
    if len(columns) == 0:
        return np.empty((len(products), 0)), total
    rows = np.arange(len(products))
    gram = products[np.ix_(rows, columns, columns)]
    right = products[:, columns, y]
    gram, size, singular = _scaled(gram)
    failed |= singular
    along = right / size
    scaled = np.linalg.solve(gram, along[:, :, None])[:, :, 0]
    ssr = total - np.einsum("bi,bi->b", scaled, along)
    return scaled / size, np.maximum(ssr, 0.0)


def _scaled(gram: FloatArray) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Matrices with ones on the diagonal, their scales, and which are singular."""
    size = np.sqrt(np.einsum("bii->bi", gram))
    size = np.where(size > 0.0, size, 1.0)
    scaled = gram / (size[:, :, None] * size[:, None, :])
    singular: BoolArray = np.linalg.eigvalsh(scaled)[:, 0] < _SINGULAR
    scaled[singular] = np.eye(gram.shape[1])
    return scaled, size, singular
