"""The shapes that `synth` can write: sizes, GGUF keys and the list of tensors of each.

Keys, tensor names and sizes are those that upstream's `src/models/qwen35moe.cpp`, `qwen35.cpp` and
`qwen3next.cpp` ask for (`load_arch_hparams`, `load_arch_tensors`) at tag b9842.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from llamacpp_tools.errors import BadInput

Arch = Literal["qwen35moe", "qwen35", "qwen3next"]
Role = Literal[
    "embed",  # token embeddings
    "head",  # the output matrix, token embeddings to logits
    "linear",  # reads the residual stream or an inner activation
    "attn_out",  # writes full attention's result to the residual stream
    "out",  # writes any other block's result to the residual stream
    "fuse",  # the MTP block's eh_proj: [embedding, hidden] to hidden
    "router",  # logits of the experts, and of the shared expert's gate
    "norm",  # RMS norm weights around 1
    "sharp_norm",  # norms of q and k, above 1 so that attention picks a few cells
    "conv",  # the short convolution before a Gated DeltaNet
    "decay",  # ssm_a, negative
    "dt_bias",  # added to the decay's input before softplus
]


@dataclass(frozen=True)
class Tensor:
    """One tensor of a model file; `dims` row-major, so the last one is ggml's `ne[0]`."""

    name: str
    dims: tuple[int, ...]
    role: Role

    @property
    def n_elements(self) -> int:
        """How many weights it holds."""
        return prod(self.dims)

    @property
    def always_f32(self) -> bool:
        """Whether upstream's converter keeps it in f32 whatever the file's type."""
        return len(self.dims) == 1 or self.role in ("router", "conv")


@dataclass(frozen=True)
class Shape:
    """Sizes of one hybrid model: Gated DeltaNet layers with full attention every `full_interval`-th.

    `n_layer` counts the trunk; `n_nextn` MTP blocks come after it. `n_expert` 0 means a dense FFN of
    `n_ff`. `ssm_head_dim` is the size of a DeltaNet head, the same for keys and values. `dtype` is the type of the
    matrices where nobody asks for another: a large model is used in four bits.
    """

    name: str
    arch: Arch
    n_layer: int
    n_nextn: int
    n_embd: int
    n_head: int
    n_head_kv: int
    head_dim: int
    rope_sections: tuple[int, int, int]
    ssm_k_heads: int
    ssm_v_heads: int
    ssm_head_dim: int
    n_ff: int = 0
    n_expert: int = 0
    n_expert_used: int = 0
    n_ff_exp: int = 0
    n_ff_shexp: int = 0
    n_vocab: int = 512
    n_ctx_train: int = 262144
    full_interval: int = 4
    ssm_conv: int = 4
    rope_freq_base: float = 1e7
    dtype: str = "f32"

    @property
    def key_dim(self) -> int:
        """Width of a DeltaNet layer's keys (and of its queries)."""
        return self.ssm_k_heads * self.ssm_head_dim

    @property
    def value_dim(self) -> int:
        """Width of a DeltaNet layer's values."""
        return self.ssm_v_heads * self.ssm_head_dim

    def is_recurrent(self, layer: int) -> bool:
        """Whether `layer` is a DeltaNet layer; MTP blocks never are."""
        return layer < self.n_layer and (layer + 1) % self.full_interval != 0

    def keys(self) -> dict[str, int | float | list[int]]:
        """The architecture's GGUF keys, without the `ARCH.` in front of each."""
        keys: dict[str, int | float | list[int]] = {
            "attention.head_count": self.n_head,
            "attention.head_count_kv": self.n_head_kv,
            "attention.key_length": self.head_dim,
            "attention.layer_norm_rms_epsilon": 1e-6,
            "attention.value_length": self.head_dim,
            "block_count": self.n_layer + self.n_nextn,
            "context_length": self.n_ctx_train,
            "embedding_length": self.n_embd,
            "full_attention_interval": self.full_interval,
            "rope.dimension_count": 2 * sum(self.rope_sections),
            "rope.freq_base": self.rope_freq_base,
            "ssm.conv_kernel": self.ssm_conv,
            "ssm.group_count": self.ssm_k_heads,
            "ssm.inner_size": self.value_dim,
            "ssm.state_size": self.ssm_head_dim,
            "ssm.time_step_rank": self.ssm_v_heads,
        }
        if self.arch != "qwen3next":
            keys["rope.dimension_sections"] = [*self.rope_sections, 0]
            keys["nextn_predict_layers"] = self.n_nextn
        if self.n_expert:
            keys["expert_count"] = self.n_expert
            keys["expert_used_count"] = self.n_expert_used
            keys["expert_feed_forward_length"] = self.n_ff_exp
            keys["expert_shared_feed_forward_length"] = self.n_ff_shexp
        else:
            keys["feed_forward_length"] = self.n_ff
        return keys

    def tensors(self) -> tuple[Tensor, ...]:
        """Every tensor of the model, in file order."""
        return tuple(self._walk())

    @property
    def n_params(self) -> int:
        """How many weights the model has, MTP blocks included."""
        return sum(tensor.n_elements for tensor in self._walk())

    def _walk(self) -> Iterator[Tensor]:
        yield Tensor("token_embd.weight", (self.n_vocab, self.n_embd), "embed")
        for layer in range(self.n_layer + self.n_nextn):
            block = f"blk.{layer}."
            yield Tensor(block + "attn_norm.weight", (self.n_embd,), "norm")
            yield from self._delta_net(block) if self.is_recurrent(layer) else self._attention(block)
            yield Tensor(block + "post_attention_norm.weight", (self.n_embd,), "norm")
            yield from self._experts(block) if self.n_expert else self._dense_ffn(block)
            if layer >= self.n_layer:
                yield from self._nextn(block)
        yield Tensor("output_norm.weight", (self.n_embd,), "norm")
        yield Tensor("output.weight", (self.n_vocab, self.n_embd), "head")

    def _attention(self, block: str) -> Iterator[Tensor]:
        q_dim, kv_dim = self.n_head * self.head_dim, self.n_head_kv * self.head_dim
        # Each query head carries its output gate beside it, hence twice the width.
        yield Tensor(block + "attn_q.weight", (2 * q_dim, self.n_embd), "linear")
        yield Tensor(block + "attn_k.weight", (kv_dim, self.n_embd), "linear")
        yield Tensor(block + "attn_v.weight", (kv_dim, self.n_embd), "linear")
        yield Tensor(block + "attn_q_norm.weight", (self.head_dim,), "sharp_norm")
        yield Tensor(block + "attn_k_norm.weight", (self.head_dim,), "sharp_norm")
        yield Tensor(block + "attn_output.weight", (self.n_embd, q_dim), "attn_out")

    def _delta_net(self, block: str) -> Iterator[Tensor]:
        conv_dim = 2 * self.key_dim + self.value_dim
        yield Tensor(block + "attn_qkv.weight", (conv_dim, self.n_embd), "linear")
        yield Tensor(block + "attn_gate.weight", (self.value_dim, self.n_embd), "linear")
        yield Tensor(block + "ssm_conv1d.weight", (conv_dim, self.ssm_conv), "conv")
        yield Tensor(block + "ssm_dt.bias", (self.ssm_v_heads,), "dt_bias")
        yield Tensor(block + "ssm_a", (self.ssm_v_heads,), "decay")
        if self.arch == "qwen3next":
            yield Tensor(block + "ssm_ba.weight", (2 * self.ssm_v_heads, self.n_embd), "linear")
        else:
            yield Tensor(block + "ssm_beta.weight", (self.ssm_v_heads, self.n_embd), "linear")
            yield Tensor(block + "ssm_alpha.weight", (self.ssm_v_heads, self.n_embd), "linear")
        yield Tensor(block + "ssm_norm.weight", (self.ssm_head_dim,), "norm")
        yield Tensor(block + "ssm_out.weight", (self.n_embd, self.value_dim), "out")

    def _experts(self, block: str) -> Iterator[Tensor]:
        n, ff, shared = self.n_expert, self.n_ff_exp, self.n_ff_shexp
        yield Tensor(block + "ffn_gate_inp.weight", (n, self.n_embd), "router")
        yield Tensor(block + "ffn_gate_exps.weight", (n, ff, self.n_embd), "linear")
        yield Tensor(block + "ffn_up_exps.weight", (n, ff, self.n_embd), "linear")
        yield Tensor(block + "ffn_down_exps.weight", (n, self.n_embd, ff), "out")
        yield Tensor(block + "ffn_gate_inp_shexp.weight", (self.n_embd,), "router")
        yield Tensor(block + "ffn_gate_shexp.weight", (shared, self.n_embd), "linear")
        yield Tensor(block + "ffn_up_shexp.weight", (shared, self.n_embd), "linear")
        yield Tensor(block + "ffn_down_shexp.weight", (self.n_embd, shared), "out")

    def _dense_ffn(self, block: str) -> Iterator[Tensor]:
        yield Tensor(block + "ffn_gate.weight", (self.n_ff, self.n_embd), "linear")
        yield Tensor(block + "ffn_up.weight", (self.n_ff, self.n_embd), "linear")
        yield Tensor(block + "ffn_down.weight", (self.n_embd, self.n_ff), "out")

    def _nextn(self, block: str) -> Iterator[Tensor]:
        yield Tensor(block + "nextn.eh_proj.weight", (self.n_embd, 2 * self.n_embd), "fuse")
        yield Tensor(block + "nextn.enorm.weight", (self.n_embd,), "norm")
        yield Tensor(block + "nextn.hnorm.weight", (self.n_embd,), "norm")
        yield Tensor(block + "nextn.shared_head_norm.weight", (self.n_embd,), "norm")


# Every row of the small ones is a multiple of 256 long, so that the K-quants need no other type.
TINY = Shape(
    name="tiny",
    arch="qwen35moe",
    n_layer=8,
    n_nextn=1,
    n_embd=256,
    n_head=4,
    n_head_kv=2,
    head_dim=64,
    rope_sections=(3, 3, 2),
    ssm_k_heads=2,
    ssm_v_heads=4,
    ssm_head_dim=64,
    n_expert=8,
    n_expert_used=2,
    n_ff_exp=256,
    n_ff_shexp=256,
)
TINY_DENSE = replace(
    TINY, name="tiny-dense", arch="qwen35", n_ff=768, n_expert=0, n_expert_used=0, n_ff_exp=0, n_ff_shexp=0
)
TINY_NEXT = replace(TINY, name="tiny-next", arch="qwen3next", n_nextn=0)
QWEN36_35B_A3B = Shape(
    name="qwen3.6-35b-a3b",
    arch="qwen35moe",
    n_layer=40,
    n_nextn=1,
    n_embd=2048,
    n_head=16,
    n_head_kv=2,
    head_dim=256,
    rope_sections=(11, 11, 10),
    ssm_k_heads=16,
    ssm_v_heads=32,
    ssm_head_dim=128,
    n_expert=256,
    n_expert_used=8,
    n_ff_exp=512,
    n_ff_shexp=512,
    n_vocab=248320,
    dtype="q4_0",
)
# Layers, widths and heads as in scripts/models/qwen3.5-27B.sh of THUDM/slime, which Qwen3.6-27B has kept; the heads of
# the linear attention (16 and 48 of 128) and the one MTP layer as the cards of both say.
QWEN36_27B = Shape(
    name="qwen3.6-27b",
    arch="qwen35",
    n_layer=64,
    n_nextn=1,
    n_embd=5120,
    n_head=24,
    n_head_kv=4,
    head_dim=256,
    rope_sections=(11, 11, 10),
    ssm_k_heads=16,
    ssm_v_heads=48,
    ssm_head_dim=128,
    n_ff=17408,
    n_vocab=248320,
    dtype="q4_0",
)
SHAPES: dict[str, Shape] = {
    shape.name: shape for shape in (TINY, TINY_DENSE, TINY_NEXT, QWEN36_35B_A3B, QWEN36_27B)
}


def shape_named(name: str) -> Shape:
    """The shape of that name.

    Raises:
        BadInput: there is none; the nearest known name, or all of them, are in the message.
    """
    if name in SHAPES:
        return SHAPES[name]
    near = difflib.get_close_matches(name, SHAPES, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? Known: " if near else "known: "
    raise BadInput(f"no shape is called {name!r}; {hint}{', '.join(SHAPES)}")
