"""Switches on what a draft sees, to find out which part of it is at fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llamacpp_tools.errors import BadInput
from llamacpp_tools.models.header import GgufHeader
from llamacpp_tools.models.tensordata import f32_values


@dataclass(frozen=True)
class Bisect:
    """What differs from a usual draft.

    At the pin llama.cpp gives the hidden row after the final norm alone, the trunk's as the MTP block's. With
    `before_norm` the norm's weights are divided out again: that is the row before the norm but for its length, to
    which the norm that the MTP block begins with is blind.

    Attributes:
        history: False lets each draft begin with an empty cache of the MTP block, so that it sees its own pair alone.
        before_norm: drafts from the hidden row as it was before the final norm.
    """

    history: bool = True
    before_norm: bool = False

    def factors(self, trunk: GgufHeader, drafting: GgufHeader) -> tuple[Sequence[float], Sequence[float]]:
        """[n_embd] for the trunk's hidden rows, and for the MTP block's own; empty where they stay as they are.

        Args:
            trunk: the model's header.
            drafting: that of the file whose MTP block drafts.

        Raises:
            BadInput: the norm's weights are not in the file as f32, or one of them is 0.
        """
        if not self.before_norm:
            return (), ()
        # The block's norm is its own where it has one, else the trunk's (upstream's `graph_mtp`).
        own = f"blk.{drafting.n_layer}.nextn.shared_head_norm.weight"
        name = own if any(tensor.name == own for tensor in drafting.tensors) else "output_norm.weight"
        return _inverse(trunk, "output_norm.weight"), _inverse(drafting, name)


AS_USUAL = Bisect()


def _inverse(header: GgufHeader, name: str) -> list[float]:
    values = f32_values(header, name)
    if not all(values):
        raise BadInput(f"{name} of {header.path} has a weight of 0, so its norm cannot be undone")
    return [1 / value for value in values]
