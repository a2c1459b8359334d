"""A recipe to begin with, for a model that nobody has measured yet.

Published, for Qwen3.6-35B-A3B: a window of 16384 tokens (a sixteenth of the 262144 that it was trained for), and the
last four of its ten full-attention layers kept full. For another model the same shares are taken. That is where
measuring begins, no more: which layers must stay full is a property of the trained weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from llamacpp_tools.models.header import GgufHeader
from llamacpp_tools.models.kvbytes import PAD

PUBLISHED_WINDOW = 16384
WINDOW_SHARE = 16
KEPT_SHARE = 0.4
# arch, layers, width, experts, full-attention layers of Qwen3.6-35B-A3B.
_PUBLISHED = ("qwen35moe", 40, 2048, 256, (3, 7, 11, 15, 19, 23, 27, 31, 35, 39))


@dataclass(frozen=True)
class StartingPoint:
    """What to try first.

    Attributes:
        window, full_layers: the SWA recipe; None and empty where the model cannot have it.
        n_max: the draft, None without an MTP block.
        published: the recipe is the published one for a model of just this shape.
    """

    window: int | None
    full_layers: tuple[int, ...]
    n_max: int | None
    published: bool

    def as_yaml(self) -> str:
        """The keys of a sweep file."""
        lines = []
        if self.window is not None:
            layers = ", ".join(map(str, self.full_layers))
            full = f", full_layers: [{layers}]" if layers else ""
            lines.append(f"swa: {{window: {self.window}{full}}}")
        if self.n_max is not None:
            lines.append(f"draft: {{n_max: {self.n_max}}}")
        modes = ["dense"]
        modes += ["swa"] if self.window is not None else []
        modes += ["mtp"] if self.n_max is not None else []
        modes += ["swa+mtp"] if len(modes) == 3 else []
        return "\n".join([*lines, f"modes: [{', '.join(modes)}]"])

    def as_flags(self) -> tuple[str, ...]:
        """The words for the patched llama-server."""
        flags: list[str] = []
        if self.window is not None:
            flags += ["--dynsparse-swa", str(self.window)]
            if self.full_layers:
                flags += ["--dynsparse-swa-full", ",".join(map(str, self.full_layers))]
        if self.n_max is not None:
            flags += ["--spec-type", "draft-mtp", "--spec-draft-n-max", str(self.n_max)]
        return tuple(flags)


def starting_point(header: GgufHeader, has_recipe: bool, has_mtp: bool, n_max: int) -> StartingPoint | None:
    """The recipe and the draft to begin with; None where the model can have neither."""
    if not header.has_trunk or not (has_recipe or has_mtp):
        return None
    layers = header.full_attention_layers
    shape = (header.arch, header.n_layer, header.n_embd, header.n_expert, layers)
    draft = n_max if has_mtp else None
    if not has_recipe:
        return StartingPoint(None, (), draft, False)
    # The library refuses a recipe that leaves no layer to slide.
    n_kept = min(max(1, round(KEPT_SHARE * len(layers))), len(layers) - 1)
    kept = layers[len(layers) - n_kept :]
    return StartingPoint(_window(header.n_ctx_train), kept, draft, shape == _PUBLISHED)


def _window(n_ctx_train: int) -> int:
    if not n_ctx_train:
        return PUBLISHED_WINDOW
    return max(PAD, min(PUBLISHED_WINDOW, n_ctx_train // WINDOW_SHARE // PAD * PAD))
