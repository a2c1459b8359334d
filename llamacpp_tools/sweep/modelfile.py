"""The model of a sweep file as a file on disk, and what can be told of it before it is there."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from llamacpp_tools.models.ballast import Ballast
from llamacpp_tools.models.gguffile import Progress
from llamacpp_tools.models.header import GgufHeader, check_gguf
from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.models.reshape import reshaped
from llamacpp_tools.models.shapes import shape_named
from llamacpp_tools.models.shelf import synthetic
from llamacpp_tools.models.synth import synth_header
from llamacpp_tools.sweep.config import MiniatureModel, SynthModel

Choice = str | SynthModel | MiniatureModel


def model_file(choice: Choice, progress: Progress | None = None) -> Path:
    """The path of the model; one that llt makes is written now if it is not there yet.

    Args:
        choice: what the sweep file says.
        progress: called with (bytes written, bytes in all) while a file is written.

    Raises:
        BadInput: a shape that does not exist, or less ballast than the miniature weighs.
        CheckFailed: the miniature in the package is damaged.
    """
    if isinstance(choice, SynthModel):
        return synthetic(choice.synth, choice.seed, choice.dtype or "", choice.sizes, progress)
    if isinstance(choice, MiniatureModel):
        asked = choice.miniature
        return miniature(Ballast(asked.ballast_weights, asked.ballast_kv), progress)
    return Path(choice)


def model_header(choice: Choice) -> GgufHeader:
    """The model's header; nothing is made for it that stays.

    A miniature with ballast has the layers of the one without, so that stands for it.

    Raises:
        BadInput: a shape that does not exist, or no sound GGUF file.
        CheckFailed: the miniature in the package is damaged.
    """
    if isinstance(choice, MiniatureModel):
        return check_gguf(miniature())
    if isinstance(choice, str):
        return check_gguf(Path(choice))
    shape = reshaped(shape_named(choice.synth), choice.sizes)
    with tempfile.TemporaryDirectory() as folder:
        path = synth_header(shape, Path(folder) / "model.gguf", choice.seed, choice.dtype or "").path
        return replace(check_gguf(path), path=Path(in_words(choice)))


def in_words(choice: Choice) -> str:
    """The model as a headline names it."""
    if isinstance(choice, SynthModel):
        sizes = ", ".join(f"{name} {value}" for name, value in choice.sizes.items())
        return f"synthetic {choice.synth}{f' with {sizes}' if sizes else ''}"
    if isinstance(choice, str):
        return choice
    asked = choice.miniature
    weights = f"{asked.ballast_weights / 1e6:g} MB of weights" if asked.ballast_weights else ""
    kv = f"{asked.ballast_kv} KV elements" if asked.ballast_kv else ""
    cost = " and ".join(part for part in (weights, kv) if part)
    return f"the miniature with ballast, {cost} a token" if cost else "the miniature"
