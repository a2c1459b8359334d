"""Which levers to use: for each setting the gain of every draft length, and the best of them.

S(n) = (1 + s_1 + … + s_n) T(1) / T_step(n): what a step with a draft of n gives over what it costs
(`survival`, `costs`). The gain of the window comes on top, measured.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from llamacpp_tools.advise.costs import StepCosts, from_cells, from_forced
from llamacpp_tools.advise.estimate import Estimate, of_ratios, product
from llamacpp_tools.advise.pairs import Line, Pair, lines
from llamacpp_tools.advise.settings import Branch, Recipe, Setting, nearest, settings
from llamacpp_tools.advise.survival import Survival, survival
from llamacpp_tools.results.compare import by_round, confounded
from llamacpp_tools.results.schema import Cell, Document

DENSE = Recipe()


@dataclass(frozen=True)
class Option:
    """One way to run a setting.

    Attributes:
        recipe: dense or a window.
        n_max: the draft's length, 0 for no MTP.
        own: decode speed over the same recipe without MTP; measured where that length was run, else foretold.
        gain: decode speed over the setting's reference (see `Choice.reference`).
        acceptance: accepted over drafted that is expected, None without MTP.
        break_even: the acceptance from which this length pays, None without MTP.
        extrapolated: the draft is longer than those whose survival was measured.
    """

    recipe: Recipe
    n_max: int
    own: Estimate
    gain: Estimate
    acceptance: float | None = None
    break_even: Estimate | None = None
    extrapolated: bool = False


@dataclass(frozen=True)
class Measured:
    """A cell with MTP, against what the model gives for it."""

    recipe: Recipe
    n_max: int
    measured: Estimate
    predicted: Estimate


@dataclass(frozen=True)
class Choice:
    """What is known of one setting.

    Attributes:
        setting: depth, text and context.
        reference: the recipe without MTP that gains are told against: dense where that was measured.
        options: every recipe without MTP and with each draft length.
        best: the option to use: of the recipes that pay at this depth the fastest, with MTP only where that is shown
            to gain.
        checks: the cells that were measured beside what the model gives for them.
        survivals: how long drafts survive, by recipe.
        set_aside: recipes whose draft was measured on another text than the plain cell wrote.
    """

    setting: Setting
    reference: Recipe
    options: tuple[Option, ...]
    best: Option
    checks: tuple[Measured, ...]
    survivals: dict[Recipe, Survival]
    set_aside: tuple[Recipe, ...]

    def of(self, recipe: Recipe) -> list[Option]:
        """The options of a recipe, no MTP first."""
        return [option for option in self.options if option.recipe == recipe]

    def best_draft(self, recipe: Recipe) -> Option | None:
        """The draft length of a recipe with the greatest gain, whether it pays or not."""
        return max((o for o in self.of(recipe) if o.n_max), key=lambda o: o.own.value, default=None)


@dataclass(frozen=True)
class Curve:
    """What steps cost at one depth with one recipe; `depth_measured` differs where another depth had to do."""

    n_depth: int
    recipe: Recipe
    costs: StepCosts
    depth_measured: int


@dataclass(frozen=True)
class Advice:
    """All that follows from the results.

    Attributes:
        choices: one for each setting.
        curves: what steps cost, by depth and recipe.
        lines: break-evens by recipe from (acceptance, gain) pairs alone, for published figures.
        assumed_n_max: the draft's length that published rows were taken to have, None where they say.
        steered: the result has rows whose draft length was automatic; they are in no choice.
    """

    choices: tuple[Choice, ...]
    curves: tuple[Curve, ...]
    lines: dict[Recipe, list[Line]] = field(default_factory=dict)
    assumed_n_max: int | None = None
    steered: bool = False


def advise(result: Document, costs: Sequence[Document] = ()) -> Advice:
    """What `result` says about its settings.

    Args:
        result: a sweep's result, or published figures.
        costs: results with forced cells on the same model and machine; those of `result` itself count as well.
    """
    own = settings(result.cells)
    forced = [*own, *(found for document in costs for found in settings(document.cells))]
    assumed = _published_length(result.cells)
    choices: list[Choice] = []
    curves: dict[tuple[object, ...], Curve] = {}
    for setting in own:
        found = {
            recipe: _curve(branch, setting, own, forced, assumed)
            for recipe, branch in setting.branches.items()
        }
        curves |= {(c.n_depth, c.recipe, setting.context): c for c in found.values() if c is not None}
        choice = _choice(setting, found, assumed)
        if choice is not None:
            choices.append(choice)
    choices = [replace(choice, best=_best(choice, choices)) for choice in choices]
    published = result.provenance.source == "published"
    lines = _lines(own) if published else {}
    return Advice(
        tuple(choices), tuple(curves.values()), lines, assumed, any(cell.auto for cell in result.cells)
    )


def _published_length(cells: Sequence[Cell]) -> int | None:
    """The length that rows without `n_max` drafted: their drafted tokens over their steps, rounded up."""
    lengths = []
    for cell in cells:
        if cell.drafted and cell.n_max is None and cell.n_gen and cell.accepted is not None:
            lengths.append(cell.drafted / (cell.n_gen - cell.accepted))
    return int(np.ceil(round(float(np.median(lengths)), 6))) if lengths else None


def _curve(
    branch: Branch, setting: Setting, own: Sequence[Setting], forced: Sequence[Setting], assumed: int | None
) -> Curve | None:
    stream = _stream("costs", setting, branch.recipe)
    other = nearest(forced, setting, branch.recipe)
    if other is not None:
        there = other.branches[branch.recipe]
        if there.forced is not None and there.plain is not None:
            costs = from_forced(there.forced, there.plain, stream)
            if costs is not None:
                return Curve(setting.n_depth, branch.recipe, costs, other.n_depth)
    # What a step costs does not depend on the text, so all texts of a depth tell of it.
    same = [each for each in own if (each.n_depth, each.context) == (setting.n_depth, setting.context)]
    pairs = [
        (drafting, here.plain)
        for each in same
        if (here := each.branches.get(branch.recipe)) is not None and here.plain is not None
        for drafting in here.drafting
    ]
    costs = from_cells(pairs, assumed, stream)
    return Curve(setting.n_depth, branch.recipe, costs, setting.n_depth) if costs is not None else None


def _choice(setting: Setting, curves: dict[Recipe, Curve | None], assumed: int | None) -> Choice | None:
    plain = {recipe: branch.plain for recipe, branch in setting.branches.items() if branch.plain is not None}
    if not plain:
        return None
    reference = DENSE if DENSE in plain else next(iter(plain))
    options: list[Option] = []
    checks: list[Measured] = []
    set_aside: list[Recipe] = []
    survivals: dict[Recipe, Survival] = {}
    for recipe, cell in plain.items():
        stream = _stream("gain", setting, recipe)
        gain = Estimate(1.0) if recipe == reference else _speeds(cell, plain[reference], stream)
        options.append(Option(recipe, 0, Estimate(1.0), gain))
        branch, curve = setting.branches[recipe], curves[recipe]
        if _differs(branch, setting):
            set_aside.append(recipe)
            continue
        # A draft that ended early by its own doubt does not tell how long drafts survive.
        whole = (other for other in branch.drafting if not other.p_min)
        tells = max(whole, key=lambda other: other.n_max or 0, default=None)
        lasting = (
            survival(tells, assumed, _stream("survival", setting, recipe)) if tells is not None else None
        )
        if lasting is None or curve is None:
            continue
        survivals[recipe] = lasting
        known = {}
        for drafting in branch.drafting:
            length = drafting.n_max or assumed
            if (
                length is not None
                and length in curve.costs.lengths
                and drafting.decode_tps
                and not drafting.p_min
            ):
                known[length] = _speeds(drafting, cell, stream + length)
                checks.append(Measured(recipe, length, known[length], foretold(lasting, curve.costs, length)))
        options += _drafts(recipe, gain, lasting, curve.costs, known)
    return Choice(setting, reference, tuple(options), options[0], tuple(checks), survivals, tuple(set_aside))


def _drafts(
    recipe: Recipe, gain: Estimate, lasting: Survival, costs: StepCosts, known: dict[int, Estimate]
) -> list[Option]:
    found = []
    for length in costs.lengths:
        own = known.get(length) or foretold(lasting, costs, length)
        found.append(
            Option(
                recipe, length, own, product(gain, own), lasting.acceptance(length), costs.break_even(length),
                extrapolated=length > lasting.measured,
            )
        )  # fmt: skip
    return found


def foretold(lasting: Survival, costs: StepCosts, length: int) -> Estimate:
    """S(n), decode speed with drafts of `length` over that without."""
    tokens, token_draws = lasting.expected(length)
    ratio = costs.ratio(length)
    # Rounds that differ by orders of magnitude have an interval from nothing to everything.
    with np.errstate(divide="ignore", over="ignore"):
        inverse = Estimate(1 / ratio.value, None if ratio.draws is None else 1 / ratio.draws)
    return product(Estimate(tokens, token_draws), inverse)


def window_pays(gains: Sequence[Estimate]) -> bool:
    """Whether a window pays at a depth, where it costs and saves the same whatever the text.

    Args:
        gains: decode speed with it over that without, of each text.
    """
    return any(gain.shown > 0 for gain in gains) and all(gain.value > 1 for gain in gains)


def window_gains(recipe: Recipe, choices: Sequence[Choice]) -> list[Estimate]:
    """What `recipe` gains without MTP in each of `choices` that has something to compare with."""
    return [
        option.gain
        for choice in choices
        if choice.reference != recipe
        for option in choice.of(recipe)
        if not option.n_max
    ]


def _best(choice: Choice, choices: Sequence[Choice]) -> Option:
    here = choice.setting
    same = [c for c in choices if (c.setting.n_depth, c.setting.context) == (here.n_depth, here.context)]
    usable = [
        option
        for option in choice.options
        if (option.recipe == choice.reference or window_pays(window_gains(option.recipe, same)))
        and (not option.n_max or option.own.shown > 0)
    ]
    return max(usable, key=lambda option: option.gain.value)


def _differs(branch: Branch, setting: Setting) -> bool:
    """Whether the drafting cell wrote another kind of text than the same mode of another recipe did."""
    return any(
        confounded(cell, other)
        for cell in branch.drafting
        for each in setting.branches.values()
        if each is not branch
        for other in each.drafting
    )


def _speeds(cell: Cell, to: Cell, stream: int) -> Estimate:
    """The ratio of two cells' decode speeds, paired by round where there are rounds."""
    ours, theirs = by_round(cell, "decode_tps"), by_round(to, "decode_tps")
    both = sorted(ours.keys() & theirs.keys())
    if both:
        return of_ratios([ours[at] for at in both], [theirs[at] for at in both], stream)
    return Estimate((cell.decode_tps or 0.0) / (to.decode_tps or 1.0))


def _lines(own: Sequence[Setting]) -> dict[Recipe, list[Line]]:
    pairs: dict[Recipe, list[Pair]] = {}
    for setting in own:
        for recipe, branch in setting.branches.items():
            for cell in branch.drafting:
                if branch.plain is None or not cell.acceptance or _differs(branch, setting):
                    continue
                gain = (cell.decode_tps or 0.0) / (branch.plain.decode_tps or 1.0)
                pairs.setdefault(recipe, []).append(Pair(setting.n_depth, cell.acceptance, gain))
    found = {recipe: lines(each) for recipe, each in pairs.items()}
    return {recipe: each for recipe, each in found.items() if each}


def _stream(*parts: object) -> int:
    """A number for the random draws of one figure, the same in each run."""
    words = [f"{p.n_depth} {p.workload} {p.context}" if isinstance(p, Setting) else str(p) for p in parts]
    return zlib.crc32(" | ".join(words).encode())
