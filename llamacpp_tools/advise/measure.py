"""The sweep that measures what a step costs for a result that lacks it: the same model, build, depths and recipes."""

from __future__ import annotations

from pathlib import Path

from llamacpp_tools.advise.settings import settings
from llamacpp_tools.errors import BadInput
from llamacpp_tools.results.asked import asked
from llamacpp_tools.results.document import read
from llamacpp_tools.results.measure import Ready
from llamacpp_tools.results.provenance import provenance
from llamacpp_tools.results.schema import Document
from llamacpp_tools.sweep.cell import uses_mtp
from llamacpp_tools.sweep.config import DraftConfig, GenerateConfig, SweepConfig
from llamacpp_tools.sweep.forced import BLOCK

LONGEST = 8
SUFFIX = ".costs.json"
# Times that a round goes through all lengths.
TURNS = 2


def costs_path(result: Path, box: str | None = None) -> Path:
    """Where the costs that belong to the result at `result` are kept: beside it, for each box that measured it."""
    return result.with_name(result.name.removesuffix(".json") + (f".{box}" if box else "") + SUFFIX)


def costs_beside(path: Path, result: Document, box: str | None = None) -> Document | None:
    """The costs that were measured for the result at `path`, None if there are none.

    Raises:
        BadInput: they are there, but of another model, library or device.
    """
    there = costs_path(path, box)
    if not there.is_file():
        return None
    costs = read(there)
    check_same(result, costs, there)
    return costs


def check_same(result: Document, costs: Document, where: Path) -> None:
    """Refuse costs that say nothing about `result`.

    Raises:
        BadInput: another model, library or device.
    """
    ours, theirs = result.provenance, costs.provenance
    for name in ("model_filename", "model_size", "libllama_sha256", "device", "cpu_info", "driver"):
        if getattr(ours, name) != getattr(theirs, name):
            raise BadInput(
                f"{where} was measured with another {name} ({getattr(theirs, name)}) than the result "
                f"({getattr(ours, name)}); measure the costs anew with --measure"
            )


def check_here(result: Document, parts: Ready) -> None:
    """Refuse to measure costs here that would say nothing about `result`.

    The device and the model's size are known only when it is loaded: `check_same` asks for them.

    Raises:
        BadInput: the model, the library or the machine is another.
    """
    here = provenance(parts.build.data, parts.model)
    for name in ("model_filename", "libllama_sha256", "cpu_info"):
        told, found = getattr(result.provenance, name), getattr(here, name)
        if told != found:
            raise BadInput(
                f"{result.experiment} was measured with another {name} ({told}) than there is here ({found}), so what "
                "a step costs here says nothing about it; measure it anew with llt sweep"
            )


def costs_config(result: Document, longest: int = LONGEST) -> SweepConfig:
    """A sweep of forced cells for every depth and recipe of `result`, on one of its texts.

    Args:
        result: a measured result; its configuration is taken over but for the draft.
        longest: the longest draft.

    Raises:
        BadInput: published figures, or a result without a mode that drafts.
    """
    if result.provenance.source != "measured":
        raise BadInput(
            f"{result.experiment} holds published figures: there is nothing here to measure them on"
        )
    config = asked(result)
    if config is None:
        raise BadInput(f"the configuration in {result.experiment} is not one of this version")
    if not any(uses_mtp(mode) for mode in config.modes):
        raise BadInput(f"{result.experiment} has no mode with MTP, so a draft has no cost")
    return config.model_copy(
        update={
            "name": f"{result.experiment}-costs"[:100],
            "draft": DraftConfig.model_validate({"n_max": longest, "forced": True}),
            "workloads": config.workloads[:1],
            "generate": GenerateConfig(n_predict=forced_length(longest), ignore_eos=True),
        }
    )


def forced_length(longest: int) -> int:
    """Tokens that a forced cell generates to go through drafts of 0 to `longest` `TURNS` times."""
    # A length accepts half of it in the mean, so a turn makes this many tokens.
    a_turn = BLOCK * sum(length / 2 + 1 for length in range(longest + 1))
    return int(TURNS * a_turn) + 1


def lacking(result: Document, costs: Document | None) -> bool:
    """Whether a depth and recipe of `result` that drafts has no forced cell."""
    forced = {
        (setting.n_depth, setting.context, recipe)
        for document in (result, costs)
        if document is not None
        for setting in settings(document.cells)
        for recipe, branch in setting.branches.items()
        if branch.forced is not None
    }
    return any(
        branch.drafting and (setting.n_depth, setting.context, recipe) not in forced
        for setting in settings(result.cells)
        for recipe, branch in setting.branches.items()
    )
