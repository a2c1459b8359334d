"""The model of a sweep file as a file on disk."""

from __future__ import annotations

from pathlib import Path

from llamacpp_tools.models.ballast import Ballast
from llamacpp_tools.models.gguffile import Progress
from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.models.shapes import shape_named
from llamacpp_tools.models.shelf import synthetic
from llamacpp_tools.sweep.config import MiniatureModel, SynthModel

Choice = str | SynthModel | MiniatureModel


def model_file(choice: Choice, progress: Progress | None = None) -> Path:
    """The path of the model; one that llt makes is written now if it is not there yet.

    Args:
        choice: what the sweep file says.
        progress: called with (bytes written, bytes in all) while the miniature is written with ballast.

    Raises:
        BadInput: a shape that does not exist, or less ballast than the miniature weighs.
        CheckFailed: the miniature in the package is damaged.
    """
    if isinstance(choice, SynthModel):
        return synthetic(choice.synth, choice.seed)
    if isinstance(choice, MiniatureModel):
        asked = choice.miniature
        return miniature(Ballast(asked.ballast_weights, asked.ballast_kv), progress)
    return Path(choice)


def existing_file(choice: Choice) -> Path | None:
    """The path of the model where nothing has to be made for it; None for one that llt would write.

    A miniature with ballast has the layers of the one without, so that stands for it.

    Raises:
        BadInput: a shape that does not exist.
        CheckFailed: the miniature in the package is damaged.
    """
    if isinstance(choice, SynthModel):
        shape_named(choice.synth)
        return None
    return miniature() if isinstance(choice, MiniatureModel) else Path(choice)


def in_words(choice: Choice) -> str:
    """The model as a headline names it."""
    if isinstance(choice, SynthModel):
        return f"synthetic {choice.synth}"
    if isinstance(choice, str):
        return choice
    asked = choice.miniature
    weights = f"{asked.ballast_weights / 1e6:g} MB of weights" if asked.ballast_weights else ""
    kv = f"{asked.ballast_kv} KV elements" if asked.ballast_kv else ""
    cost = " and ".join(part for part in (weights, kv) if part)
    return f"the miniature with ballast, {cost} a token" if cost else "the miniature"
