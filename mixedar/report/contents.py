"""
What stands in which section of a report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from mixedar.by_group.factors import drawn_effects
from mixedar.data.formula.terms import levels_of_formula
from mixedar.data.variables import main_factor
from mixedar.diagnostics.checkup import Diagnosis, diagnosis_of
from mixedar.diagnostics.checkup.finding import sentence_case
from mixedar.diagnostics.influence.results import GroupInfluence, without_each
from mixedar.fit.boundary import boundary_notes
from mixedar.inference.anova import anova_terms
from mixedar.inference.contrasts import MarginalMeans
from mixedar.inference.intervals import conf_int_re, profile_intervals
from mixedar.inference.means import marginal_means, marginal_slopes
from mixedar.inference.profile import ProfileEngine, all_profiles
from mixedar.inference.smooths import fitted_smooths
from mixedar.plotting import coefficients, panel_grid, trajectories
from mixedar.plotting.groups import plot_index
from mixedar.report import pictures
from mixedar.report.blocks import (
    Block,
    MixedResults,
    Picture,
    Section,
    Tables,
    Words,
    table,
)
from mixedar.report.facts import call_text, data_facts, variables_used, versions
from mixedar.report.words import methods, results_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Panels of single groups; rows of tables of groups.
_PANELS, _ROWS = 9, 10
# Levels of a factor whose means are shown.
_LEVELS = 7
# More random effects than this have no pictures of their own.
_EFFECTS = 6
# Nodes of profiles that are only drawn.
_NODES = 4
# More covariance parameters than this are not profiled.
_PROFILED = 12
# Height of a panel, and what titles and labels add to them, in inches.
_PANEL, _AROUND = 2.4, 0.9


class Contents:
    """
    What a report says of a fit; what several parts need is computed once.

    Parameters
    ----------
    results : MixedLMARResults
    alpha : float
        1 - coverage of the intervals.
    draw : bool
        Whether there are pictures.
    """

    def __init__(self, results: MixedResults, alpha: float, draw: bool) -> None:
        self.results, self.fit = results, results.fit
        self.alpha, self.draw = alpha, draw

    @cached_property
    def engine(self) -> ProfileEngine:
        """Profiles of the covariance parameters."""
        return ProfileEngine(self.fit, _NODES)

    @cached_property
    def covariances(self) -> pd.DataFrame:
        """Their intervals: by profiles, or Wald's of many or without the data."""
        if not self.profiled:
            return conf_int_re(self.fit, "wald", self.alpha)
        return profile_intervals(self.engine, self.alpha)

    @cached_property
    def profiled(self) -> bool:
        """Whether the data are there, and the covariance parameters few."""
        return self.fit.has_data and self._free <= _PROFILED

    @property
    def _free(self) -> int:
        """Number of the covariance parameters that were estimated."""
        return int(self.fit.layout.is_free.sum()) + self.fit.structure.k_free

    @cached_property
    def influence(self) -> GroupInfluence:
        """What each group does to the estimates."""
        return without_each(self.fit)

    @cached_property
    def diagnosis(self) -> Diagnosis:
        """What may be wrong with the fit."""
        return diagnosis_of(self.fit, lambda: self.influence)

    @cached_property
    def smooths(self) -> set[str]:
        """Labels of the smooths; none without the data."""
        if not self.fit.has_data:
            return set()
        return {one.smooth.label for one in fitted_smooths(self.fit)}

    def paragraphs(self) -> list[str]:
        """Methods and results."""
        alarms = [one.name for one in self.diagnosis.alarms]
        found = results_of(self.fit, self.covariances, alarms, self.alpha)
        return [f"Methods. {methods(self.fit, self.alpha)}", f"Results. {found}"]

    def sections(self) -> list[Section]:
        """All of them, in order."""
        data = (self._facts, self._data_picture, self._groups_picture)
        estimates = (self._summary, self._terms, self._intervals, self._profiles)
        effects = (self._effects, self._caterpillars, self._effect_quantiles)
        parts = {
            "verdict": ("Verdict", (self._verdict,)),
            "text": ("Methods and results", (self._text,)),
            "data": ("Data", data),
            "estimates": ("Estimates", (*estimates, self._coefficients)),
            "means": ("Means, slopes and smooths", (self._means, self._smooths)),
            "effects": ("Random effects", effects),
            "influence": ("Influence of groups", (self._influence,)),
            "diagnosis": ("Diagnosis", (self._residuals, self._checks)),
            "call": ("Call and versions", (self._call, self._versions)),
        }
        if set(self.fit.effect_names) <= self.smooths:
            del parts["effects"]
        return [Section(name, *part) for name, part in parts.items()]

    def _picture(
        self, title: str, height: float, words: str, draw: Callable[..., Any]
    ) -> Iterator[Picture]:
        """A picture, if there are any."""
        if self.draw:
            yield Picture(title, words, height, draw)

    def _verdict(self) -> Iterator[Block]:
        """Whether the numbers can be used, first of all."""
        fit = self.fit
        if not fit.converged:
            text = "The search for the maximum did not converge; do not rely on these "
            yield Words(f"{text}numbers.", "warning")
        notes = boundary_notes(fit)
        for note in notes:
            yield Words(f"{sentence_case(note)}.", "warning")
        for one in self.diagnosis.alarms:
            yield Words(f"{one.name.capitalize()}: {one.sentence}", "warning")
        if fit.converged and not (notes or self.diagnosis.alarms):
            yield Words("No check raised an alarm.")

    def _text(self) -> Iterator[Block]:
        yield from map(Words, self.paragraphs())

    def _facts(self) -> Iterator[Block]:
        data = self.fit.data
        yield table(data_facts(data), "Rows and groups", heads=False)
        numeric, factors = variables_used(data)
        if len(numeric):
            yield table(numeric, "Numeric variables", corner="Variable")
        if len(factors):
            yield table(factors, "Factors and dates", corner="Variable")

    def _data_picture(self) -> Iterator[Block]:
        data = self.fit.data
        by = main_factor(data)
        count = 1
        if by is not None and data.frame is not None:
            count = data.frame[by].nunique()
        down = -(-count // (2 if count == 4 else 3))
        yield from self._picture(
            "The data" + (f" by {by}" if by is not None else ""),
            4.6 if count <= 2 else 0.7 + _PANEL * down,
            "Groups as thin lines, and the mean of the population.",
            lambda figure: pictures.plot_spaghetti(
                self.fit, by, figure=figure, alpha=self.alpha
            ),
        )

    def _groups_picture(self) -> Iterator[Block]:
        drawn = min(_PANELS, self.fit.n_groups)
        if 1 < self.fit.n_groups < self.fit.nobs:
            yield from self._picture(
                "Single groups",
                1.1 + 1.6 * -(-drawn // 3),
                "Observations with the curves of the population and of the group.",
                lambda figure: pictures.plot_trajectories(
                    self.fit, n_groups=_PANELS, n_columns=3, figure=figure
                ),
            )

    def _summary(self) -> Iterator[Block]:
        summary = self.results.summary(title="Summary", alpha=self.alpha)
        yield Tables(summary)
        count = len(self.fit.modes)
        if count > 1:
            title = f"{count} maxima of the likelihood were found, the best first"
            yield table(self.results.modes.round(6), title)

    def _terms(self) -> Iterator[Block]:
        columns = {"num_df": "DF", "den_df": "Den. DF", "F": "F", "p": "P>F"}
        frame = anova_terms(self.fit, 3)[list(columns)].rename(columns=columns)
        yield table(frame, "Tests of terms, each after all others", corner="Term")

    def _intervals(self) -> Iterator[Block]:
        frame, alpha = self.covariances, self.alpha
        kinds = {"profile": "profile likelihood", "wald": "Wald"}
        kind = kinds[frame["method"].iloc[0]] if len(frame) else "no"
        shown = pd.DataFrame(frame[["estimate", "lower", "upper"]])
        ends = [f"[{alpha / 2:.4g}", f"{1 - alpha / 2:.4g}]"]
        shown.columns = pd.Index(["Estimate", *ends])
        yield table(
            shown, f"Covariance parameters, {kind} intervals", corner="Parameter"
        )
        if kind == "Wald" and self.fit.has_data and not self.profiled:
            yield Words("conf_int_re() has profile intervals.", "note")
        for name, note in frame["note"].dropna().items():
            if note:
                yield Words(f"{name}: {note}", "note")

    def _profiles(self) -> Iterator[Block]:
        if not (self.draw and self.profiled and self._free):
            return
        found = all_profiles(self.engine)
        yield from self._picture(
            "Profile likelihoods",
            0.7 + 2.2 * -(-len(found) // 3),
            "The signed root of twice the fall of the log-likelihood. A straight line "
            "means that Wald intervals will do; a flat one, that the data say little.",
            lambda figure: coefficients.plot_profiles(found, self.alpha, figure=figure),
        )

    def _coefficients(self) -> Iterator[Block]:
        if self.fit.k_fe > 1:
            yield from self._picture(
                "Fixed effects",
                min(1.2 + 0.35 * self.fit.k_fe, 9.0),
                f"Estimates with {100 * (1 - self.alpha):g}% intervals; the intercept "
                "is left out.",
                lambda figure: pictures.plot_coefficients(
                    self.fit, figure.subplots(), alpha=self.alpha
                ),
            )

    def _means(self) -> Iterator[Block]:
        """Marginal means of factors, slopes of numbers."""
        means, slopes = self._marginal()
        for name, one in [*means.items(), *slopes.items()]:
            frame = pd.DataFrame(one.to_frame(self.alpha))
            by = list(frame.columns[: list(frame.columns).index(one.what)])
            labels = [", ".join(map(str, row)) for row in frame[by].to_numpy()]
            shown = frame.drop(columns=by).set_axis(labels if by else [name])
            title = {"mean": "Means of the population by", "slope": "Slopes along"}
            yield table(shown, f"{title[one.what]} {name}", corner=", ".join(by))
            yield from (Words(note, "note") for note in one.notes)
        if means:
            down = -(-len(means) // 2)
            yield from self._picture(
                "Marginal means",
                _AROUND + _PANEL * down,
                "Means of the population with their intervals, averaged over the "
                "other factors.",
                lambda figure: trajectories.plot_overview(
                    [one.plot for one in means.values()], figure
                ),
            )

    def _marginal(self) -> tuple[dict[str, MarginalMeans], dict[str, MarginalMeans]]:
        """Means by the factors, and slopes along the numbers, of the formula."""
        spec, frame = self.fit.data.formula_spec, self.fit.data.frame
        if spec is None or frame is None:
            return {}, {}
        labels, by = levels_of_formula(spec), main_factor(self.fit.data)
        smooths = fitted_smooths(self.fit)
        curved = {name for one in smooths for name in one.smooth.call.covariates}
        means: dict[str, MarginalMeans] = {}
        slopes: dict[str, MarginalMeans] = {}
        for name in spec.variables:
            if name in labels:
                if frame[name].nunique() <= _LEVELS:
                    means[name] = marginal_means(self.fit, name)
                continue
            number = pd.api.types.is_numeric_dtype(frame[name].dtype)
            if number and name not in curved:
                slopes[name] = marginal_slopes(self.fit, name, by)
        return means, slopes

    def _smooths(self) -> Iterator[Block]:
        labels = self.smooths
        if labels:
            yield from self._picture(
                "Smooths",
                0.4 + 2.6 * -(-len(labels) // 3),
                f"Curves with their {100 * (1 - self.alpha):g}% bands: the inner one "
                "point by point, the outer one for the whole curve.",
                lambda figure: pictures.plot_smooths(
                    self.fit, alpha=self.alpha, figure=figure
                ),
            )

    @cached_property
    def predicted(self) -> pd.DataFrame:
        """Predicted random effects with their intervals."""
        return drawn_effects(self.fit, "caterpillar", self.alpha, "known")

    def _effects(self) -> Iterator[Block]:
        """The levels whose random effects are the farthest from zero."""
        frame = self.predicted
        spread = frame.groupby("effect")["predicted"].transform("std")
        far = (frame["predicted"] / spread).abs().sort_values(ascending=False)
        some = len(frame) > _ROWS + 2
        shown = frame.loc[far.index[:_ROWS]] if some else frame
        shown = shown[["effect", "label", "predicted", "lower", "upper"]]
        columns = ["Effect", "Level", "Predicted", "Lower", "Upper"]
        of = f"The {_ROWS} largest of {len(frame):,} predicted" if some else "Predicted"
        shown = shown.set_axis(columns, axis=1).astype({"Level": str})
        yield table(shown.set_index("Effect"), f"{of} random effects", corner="Effect")

    def _caterpillars(self) -> Iterator[Block]:
        frame = self.predicted
        sizes = frame.groupby("effect", sort=False).size()
        if len(sizes) > _EFFECTS:
            yield Words(f"Pictures of {len(sizes)} effects are left out.", "note")
            return
        named = sizes[sizes <= coefficients.LABELLED].max()
        yield from self._picture(
            "Predicted random effects",
            max(3.4, 1.1 + 0.17 * named if named > 0 else 0.0) * -(-len(sizes) // 3),
            f"In order, with {100 * (1 - self.alpha):g}% intervals.",
            lambda figure: coefficients.plot_random_effects(
                frame, alpha=self.alpha, ax=_in_rows(figure, len(sizes))
            ),
        )

    def _effect_quantiles(self) -> Iterator[Block]:
        count = self.predicted["effect"].nunique()
        if count <= _EFFECTS:
            yield from self._picture(
                "Quantiles of the random effects",
                3.0 * -(-count // 3),
                "Standardized predictions against normal quantiles.",
                lambda figure: pictures.plot_random_effects(
                    self.fit,
                    "qq",
                    alpha=self.alpha,
                    ax=_in_rows(figure, count),
                ),
            )

    def _influence(self) -> Iterator[Block]:
        frame = self.influence.summary_frame()
        columns = {
            "nobs": "Rows",
            "cooks_d": "Cook's D",
            "cooks_d_theta": "of covariances",
            "covratio": "Cov. ratio",
            "leverage": "Leverage",
        }
        columns = {old: new for old, new in columns.items() if old in frame}
        largest = frame.sort_values("cooks_d", ascending=False).head(_ROWS)
        shown = pd.DataFrame(largest[list(columns)]).rename(columns=columns)
        corner = str(frame.index.name or "group")
        yield table(shown, "The most influential groups", corner=corner)
        yield from self._picture(
            "Cook's distances",
            3.4,
            "How far the fixed effects move if a group is left out.",
            lambda figure: plot_index(frame, ax=figure.subplots()),
        )

    def _residuals(self) -> Iterator[Block]:
        fit = self.fit
        draws: list[Callable[[Axes], Any]] = [
            lambda ax: pictures.plot_residuals(fit, ax=ax),
            lambda ax: pictures.qqplot(fit, ax=ax),
            lambda ax: pictures.plot_acf(fit, ax=ax),
            lambda ax: pictures.plot_variogram(fit, ax=ax),
        ]
        if not fit.structure.k_params:
            del draws[3]
        words = (
            "Against fitted values, against normal quantiles, and their "
            "autocorrelation. If the model is right they show no pattern"
        )
        if fit.structure.k_params:
            words += "; the semivariogram shows what the model expects of it"
        yield from self._picture(
            "Residuals",
            6.0,
            f"{words}.",
            lambda figure: trajectories.plot_overview(draws, figure),
        )

    def _checks(self) -> Iterator[Block]:
        found = self.diagnosis
        for one in found.findings:
            if one.severity not in ("ok", "serious", "warning"):
                yield Words(f"{one.name.capitalize()}: {one.sentence}")
        checks = pd.DataFrame(found.frame[["verdict", "value", "measure"]])
        checks["value"] = [found[name].value_text for name in checks.index]
        checks.columns = pd.Index(["Verdict", "Value", "Measure"])
        yield table(checks, "Checks", corner="Check")

    def _call(self) -> Iterator[Block]:
        model = self.results.model
        written = None if model.recipe is None else model.recipe.options
        yield Words(call_text(self.fit, model.given, written), "code")

    def _versions(self) -> Iterator[Block]:
        yield table(versions(self.fit), "Versions", corner="Package")


def _in_rows(figure: Figure | SubFigure, count: int) -> list[Axes]:
    """Panels of a figure that has its size already, three in a row."""
    return panel_grid(figure, count, min(count, 3), (0.0, 0.0))[1]
