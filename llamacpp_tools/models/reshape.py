"""A named shape with other sizes: each is checked, so that what is written is a model that libllama loads."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace

from llamacpp_tools.errors import BadInput
from llamacpp_tools.models.shapes import Shape
from llamacpp_tools.models.vocab import MIN_TOKENS

# What may be given another value, and the least it can be.
SIZES = {
    "n_layer": 1, "n_nextn": 0, "n_embd": 1, "n_head": 1, "n_head_kv": 1, "head_dim": 8, "ssm_k_heads": 1,
    "ssm_v_heads": 1, "ssm_head_dim": 1, "full_interval": 2, "n_vocab": MIN_TOKENS, "n_ctx_train": 1, "n_ff": 1,
    "n_expert": 1, "n_expert_used": 1, "n_ff_exp": 1, "n_ff_shexp": 1,
}  # fmt: skip
_OF_DENSE = ("n_ff",)
_OF_EXPERTS = ("n_expert", "n_expert_used", "n_ff_exp", "n_ff_shexp")
_MOST = 1 << 24
_MOST_LAYERS = 512  # LLAMA_MAX_LAYERS
_MOST_EXPERTS = 512  # LLAMA_MAX_EXPERTS


def reshaped(shape: Shape, sizes: Mapping[str, int]) -> Shape:
    """The shape with other sizes; its name says which.

    Args:
        shape: a named shape.
        sizes: fields of `SIZES`; what is not among them stays as it is.

    Raises:
        BadInput: a size is unknown, out of range, none that this kind of model has, or does not fit the others.
    """
    for name, value in sizes.items():
        _check_one(shape, name, value)
    # In one order, as the name goes into the file: the same sizes are the same bytes.
    changed = {name: sizes[name] for name in SIZES if name in sizes and sizes[name] != getattr(shape, name)}
    if not changed:
        return shape
    sections = _rope_sections(changed["head_dim"]) if "head_dim" in changed else shape.rope_sections
    words = ", ".join(f"{name} {value}" for name, value in changed.items())
    made = replace(shape, **changed, rope_sections=sections, name=f"{shape.name} with {words}")  # type: ignore[arg-type]
    _check_together(made)
    return made


def _check_one(shape: Shape, name: str, value: int) -> None:
    if name not in SIZES:
        near = difflib.get_close_matches(name, SIZES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(SIZES)}"
        raise BadInput(f"a shape has no size {name!r}; {hint}")
    if not SIZES[name] <= value <= _MOST:
        raise BadInput(f"{name} is a number from {SIZES[name]} to {_MOST}, not {value}")
    alien = _OF_DENSE if shape.n_expert else _OF_EXPERTS
    if name in alien:
        kind = "experts" if shape.n_expert else "no experts"
        raise BadInput(f"{name} is no size of {shape.name}, a {shape.arch} with {kind}")


def _check_together(shape: Shape) -> None:
    last = shape.n_layer + shape.n_nextn
    rules = (
        (last <= _MOST_LAYERS, f"n_layer and n_nextn make {last} layers, llama.cpp takes {_MOST_LAYERS}"),
        (shape.n_nextn <= 1, f"n_nextn is {shape.n_nextn}, llama.cpp drafts with one MTP block"),
        (
            not shape.n_nextn or shape.arch != "qwen3next",
            "n_nextn is to be 0, llama.cpp knows no MTP block of qwen3next",
        ),
        (
            shape.n_layer >= shape.full_interval,
            f"n_layer {shape.n_layer} is below full_interval {shape.full_interval}, so no layer has full attention",
        ),
        (
            shape.n_head % shape.n_head_kv == 0,
            f"n_head {shape.n_head} is no multiple of n_head_kv {shape.n_head_kv}",
        ),
        (
            shape.head_dim % 8 == 0,
            f"head_dim {shape.head_dim} is no multiple of 8, a quarter of it is rotated in pairs",
        ),
        (
            shape.ssm_v_heads % shape.ssm_k_heads == 0,
            f"ssm_v_heads {shape.ssm_v_heads} is no multiple of ssm_k_heads {shape.ssm_k_heads}",
        ),
        (
            shape.n_expert_used <= shape.n_expert,
            f"n_expert_used {shape.n_expert_used} is above n_expert {shape.n_expert}",
        ),
        (shape.n_expert <= _MOST_EXPERTS, f"n_expert is {shape.n_expert}, llama.cpp takes {_MOST_EXPERTS}"),
    )
    for is_kept, says in rules:
        if not is_kept:
            raise BadInput(f"{shape.name} cannot be: {says}")


def _rope_sections(head_dim: int) -> tuple[int, int, int]:
    """A quarter of the head, in pairs, over three sections as in the published models (256: 11, 11, 10)."""
    pairs = head_dim // 8
    first = -(-pairs // 3)
    second = min(first, pairs - first)
    return first, second, pairs - first - second
