"""The advice as JSON values."""

from __future__ import annotations

from typing import Any

from llamacpp_tools.advise.advice import Advice, Choice, Curve, Option
from llamacpp_tools.advise.estimate import Estimate
from llamacpp_tools.advise.sentences import cautions, rule
from llamacpp_tools.advise.server import server_command
from llamacpp_tools.advise.settings import Recipe


def as_json(advice: Advice, model: str) -> dict[str, Any]:
    """All of it: rule, cautions, what steps cost, every option of every setting, the server's command lines."""
    return {
        "rule": rule(advice),
        "cautions": cautions(advice),
        "assumed_n_max": advice.assumed_n_max,
        "costs": [_curve(curve) for curve in advice.curves],
        "settings": [_choice(choice, model) for choice in advice.choices],
        "lines": [
            {"recipe": _recipe(recipe), "break_even": line.break_even, "pairs": [vars(p) for p in line.pairs]}
            for recipe, each in advice.lines.items()
            for line in each
        ],
    }


def _curve(curve: Curve) -> dict[str, Any]:
    costs = curve.costs
    return {
        "n_depth": curve.n_depth,
        "recipe": _recipe(curve.recipe),
        "source": costs.source,
        "depth_measured": curve.depth_measured,
        "steps": [
            {
                "n_max": n_max,
                "over_plain": _estimate(costs.ratio(n_max)),
                "break_even": _estimate(costs.break_even(n_max)) if n_max else None,
            }
            for n_max in sorted({*costs.ratios, *costs.lengths})
        ],
        "parts": [part.model_dump() for part in costs.parts],
    }


def _choice(choice: Choice, model: str) -> dict[str, Any]:
    return {
        "n_depth": choice.setting.n_depth,
        "workload": choice.setting.workload,
        "reference": _recipe(choice.reference),
        "best": _option(choice.best),
        "command": server_command(choice.best, choice.setting.any_cell, model),
        "options": [_option(option) for option in choice.options],
        "measured": [
            {
                "recipe": _recipe(check.recipe),
                "n_max": check.n_max,
                "measured": _estimate(check.measured),
                "predicted": _estimate(check.predicted),
            }
            for check in choice.checks
        ],
        "survival": [
            {
                "recipe": _recipe(recipe),
                "s": [float(share) for share in lasting.s],
                "intervals": lasting.intervals,
                "n_steps": lasting.n_steps,
            }
            for recipe, lasting in choice.survivals.items()
        ],
        "set_aside": [_recipe(recipe) for recipe in choice.set_aside],
    }


def _option(option: Option) -> dict[str, Any]:
    return {
        "recipe": _recipe(option.recipe),
        "n_max": option.n_max,
        "own": _estimate(option.own),
        "gain": _estimate(option.gain),
        "acceptance": option.acceptance,
        "break_even": _estimate(option.break_even) if option.break_even is not None else None,
        "extrapolated": option.extrapolated,
    }


def _recipe(recipe: Recipe) -> dict[str, Any]:
    return {"window": recipe.window, "full_layers": list(recipe.full_layers)}


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "interval": estimate.interval}
