"""The rule in plain sentences, and what speaks against relying on it; all made from the advice's figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

from llamacpp_tools.advise.advice import Advice, Choice, Curve, Option, window_gains, window_pays
from llamacpp_tools.advise.costs import of_break_evens
from llamacpp_tools.advise.estimate import Estimate
from llamacpp_tools.advise.settings import Recipe

# A prediction further than this from its measurement is said to be off.
OFF = 0.1
VERDICTS = {1: "add MTP for", -1: "leave it off for", 0: "no gain is shown for"}


def rule(advice: Advice) -> list[str]:
    """What to do, one sentence each: the window by depth, then the draft by depth, recipe and text."""
    found: list[str] = []
    recipes = dict.fromkeys(
        o.recipe for c in advice.choices for o in c.options if o.recipe.window is not None
    )
    for recipe in recipes:
        found += _window(recipe, advice.choices)
    for recipe in dict.fromkeys(option.recipe for choice in advice.choices for option in choice.options):
        for depth in sorted({choice.setting.n_depth for choice in advice.choices}):
            found += _draft(recipe, [c for c in advice.choices if c.setting.n_depth == depth])
    for depth in sorted({choice.setting.n_depth for choice in advice.choices}):
        found += _one_for_all([c for c in advice.choices if c.setting.n_depth == depth])
    if found and advice.steered:
        found.append(
            "All this is about fixed lengths; how the automatic one did is in the table and the findings."
        )
    return found + _idle(advice) + _line(advice)


def cautions(advice: Advice) -> list[str]:
    """How far the figures carry."""
    found: list[str] = []
    sources = {curve.costs.source for curve in advice.curves}
    if "published" in sources:
        found.append(
            "Published figures: one number each, so nothing has an interval, and what a step costs is worked back from "
            "speed and acceptance instead of measured; lengths other than the published one cannot be judged."
        )
    if advice.assumed_n_max is not None:
        found.append(
            f"How long the drafts were is not published; {advice.assumed_n_max} is what drafted tokens over steps give."
        )
    if "measured" in sources:
        found.append(
            "What a step costs comes from the drafts that were run, so shorter and longer ones are not judged; "
            "`llt advise RESULT --measure` measures every length."
        )
    evens = [o.break_even.value for c in advice.choices for o in c.options if o.break_even is not None]
    found += of_break_evens(evens)
    elsewhere = [c for c in advice.curves if c.depth_measured != c.n_depth]
    found += [
        f"At depth {c.n_depth} the costs of depth {c.depth_measured} stand in ({c.recipe.label})."
        for c in elsewhere
    ]
    found += [
        f"{choice.setting.label}: the draft with {recipe.label} wrote another kind of text, so it is set aside."
        for choice in advice.choices
        for recipe in choice.set_aside
    ]
    if any(choice.best.extrapolated for choice in advice.choices):
        found.append(
            "A draft longer than those whose survival was measured is judged by the last position's chance."
        )
    found += _off(advice)
    if any(choice.best.recipe.window is not None for choice in advice.choices):
        found.append(
            "This is about speed: what a window makes the model forget is not measured here. Try it on your own texts."
        )
    return found


def percent(estimate: Estimate) -> str:
    """A gain as a signed percentage, with its interval."""
    low, high = estimate.interval or (None, None)
    span = f" ({low - 1:+.0%} to {high - 1:+.0%})" if low is not None and high is not None else ""
    return f"{estimate.value - 1:+.1%}{span}"


def _window(recipe: Recipe, choices: Sequence[Choice]) -> list[str]:
    depths = dict.fromkeys(choice.setting.n_depth for choice in choices)
    each = {
        depth: window_gains(recipe, [c for c in choices if c.setting.n_depth == depth]) for depth in depths
    }
    told = {depth: gains for depth, gains in each.items() if gains}
    pays = [depth for depth, gains in told.items() if window_pays(gains)]
    found = []
    if pays:
        gains = [gain.value - 1 for depth in pays for gain in told[depth]]
        span = f"{min(gains):+.1%}" + (f" to {max(gains):+.1%}" if len(gains) > 1 else "")
        where = "Take" if len(pays) == len(told) else f"At depth {_and(sorted(pays))} take"
        found.append(f"{where} the {recipe.label}: it decodes faster whatever the text ({span}).")
    for depth in sorted(told.keys() - set(pays)):
        lost = all(gain.shown < 0 for gain in told[depth])
        said = "makes decoding slower" if lost else "is not shown to gain"
        found.append(f"At depth {depth} the {recipe.label} {said} ({_and(map(percent, told[depth]))}).")
    return found


def _draft(recipe: Recipe, choices: Sequence[Choice]) -> list[str]:
    told: dict[int, list[str]] = {}
    for choice in choices:
        best = choice.best_draft(recipe)
        if best is not None:
            told.setdefault(best.own.shown, []).append(_told(choice, best))
    parts = [f"{VERDICTS[shown]} {_and(told[shown])}" for shown in VERDICTS if shown in told]
    return [f"At depth {choices[0].setting.n_depth}, {recipe.label}: {'; '.join(parts)}."] if parts else []


def _one_for_all(choices: Sequence[Choice]) -> list[str]:
    """The option with the best geometric mean over the texts, where these want different ones."""
    if len({(choice.best.recipe, choice.best.n_max) for choice in choices}) < 2:
        return []
    gains = [{(o.recipe, o.n_max): o.gain.value for o in choice.options} for choice in choices]
    common = set.intersection(*(set(each) for each in gains))
    if not common:
        return []
    recipe, n_max = max(sorted(common, key=str), key=lambda key: prod(each[key] for each in gains))
    each = [found[recipe, n_max] for found in gains]
    what = f"{recipe.label} with MTP of {n_max}" if n_max else f"{recipe.label} without MTP"
    return [
        f"One setting for all these texts at depth {choices[0].setting.n_depth}: {what}, "
        f"{prod(each) ** (1 / len(each)) - 1:+.1%} in the geometric mean, {min(each) - 1:+.1%} at worst."
    ]


def _idle(advice: Advice) -> list[str]:
    return [
        f"At {curve_label(curve)}: MTP loaded and drafting nothing costs {percent(curve.costs.idle)} a token."
        for curve in advice.curves
        if curve.costs.idle is not None
    ]


def _told(choice: Choice, best: Option) -> str:
    accepted = f"acceptance {best.acceptance:.2f}" if best.acceptance is not None else ""
    even = f", break-even {best.break_even.value:.2f}" if best.break_even is not None else ""
    return f"{choice.setting.workload} (n_max {best.n_max}, {percent(best.own)}; {accepted}{even})"


def _line(advice: Advice) -> list[str]:
    found = []
    for recipe, each in sorted(advice.lines.items(), key=lambda item: item[0].window or 0):
        for line in each:
            depths = _and(dict.fromkeys(str(pair.n_depth) for pair in line.pairs))
            pairs = f"{len(line.pairs)} published pairs of acceptance and gain"
            found.append(
                f"A straight line through the {pairs} ({recipe.label}, depth {depths}) puts the break-even at an "
                f"acceptance of {line.break_even:.2f}."
            )
    return found


def _off(advice: Advice) -> list[str]:
    off = []
    for choice in advice.choices:
        for check in choice.checks:
            error = check.predicted.value / check.measured.value - 1
            if abs(error) > OFF:
                off.append(f"{choice.setting.label}, {check.recipe.label}, n_max {check.n_max}: {error:+.0%}")
    return [f"The model is off from what was measured: {'; '.join(off)}."] if off else []


def curve_label(curve: Curve) -> str:
    """Depth and recipe of a curve."""
    return f"depth {curve.n_depth}, {curve.recipe.label}"


def _and(words: Iterable[object]) -> str:
    said = [str(word) for word in words]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
