"""The checkpoint as a GGUF file: transformers' tensors under llama.cpp's names, in llama.cpp's forms.

What upstream's converter (`conversion/qwen.py` at b9842, `Qwen3_5MoeTextModel`) does to this family is done
here to this shape: norms of the residual stream and of q and k are stored as 1 + weight, the decay as
-exp(A_log), the convolution without its middle axis, and DeltaNet's value heads, which transformers groups
by key head, are tiled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
from torch import Tensor

from llamacpp_tools.errors import BadInput
from llamacpp_tools.files import write_atomic
from llamacpp_tools.models.gguffile import Entry, Value, typed, write_gguf
from llamacpp_tools.models.shapes import Shape
from llamacpp_tools.models.synth import DTYPES
from training.model import Miniature
from training.tokenizer import Tokenizer

F32 = npt.NDArray[np.float32]
Arrays = Mapping[str, F32]
NAME = "llt miniature"


@dataclass(frozen=True)
class Exported:
    """A file that was written: where, its SHA-256 in hex, its bytes."""

    path: Path
    sha256: str
    n_bytes: int


def export(model: Miniature, tokenizer: Tokenizer, path: Path, dtype: str) -> Exported:
    """Write the model to `path`, whole or not at all.

    Args:
        model: what was trained.
        tokenizer: what it was trained with.
        path: the file; one that is there is replaced.
        dtype: of the matrices: f32, f16 or q8_0; vectors, routers and convolutions stay f32.

    Raises:
        BadInput: an unknown dtype.
    """
    if dtype not in DTYPES:
        raise BadInput(f"the export writes {', '.join(DTYPES)}, not {dtype!r}")
    shape = model.shape
    arrays = to_gguf(shape, {name: _array(value) for name, value in model.state_dict().items()})
    with write_atomic(path) as part:
        keys = typed(_metadata(shape, tokenizer, dtype))
        entries = [
            Entry(tensor.name, tensor.dims, DTYPES["f32" if tensor.always_f32 else dtype][0])
            for tensor in shape.tensors()
        ]
        digest = write_gguf(
            part, shape.arch, keys, entries,
            lambda entry: [gguf.quants.quantize(arrays[entry.name], entry.type).tobytes()],
        )  # fmt: skip
    return Exported(path, digest, path.stat().st_size)


def to_gguf(shape: Shape, state: Arrays) -> dict[str, F32]:
    """All tensors of the file by name, each with the dimensions that the shape asks for.

    Raises:
        ValueError: a tensor is missing or has other dimensions, which means that this module and the model
            do not fit each other.
    """
    arrays = dict(_walk(shape, state))
    for tensor in shape.tensors():
        found = arrays[tensor.name].shape if tensor.name in arrays else None
        if found != tensor.dims:
            raise ValueError(f"{tensor.name} should be {tensor.dims}, is {found}")
    if len(arrays) != len(shape.tensors()):
        raise ValueError("there are tensors that the shape does not know")
    return arrays


def _walk(shape: Shape, state: Arrays) -> Iterator[tuple[str, F32]]:
    yield "token_embd.weight", state["trunk.model.embed_tokens.weight"]
    yield "output_norm.weight", state["trunk.model.norm.weight"] + 1
    yield "output.weight", state["trunk.lm_head.weight"]
    for layer in range(shape.n_layer):
        yield from _layer(shape, state, f"trunk.model.layers.{layer}.", f"blk.{layer}.")
    block = f"blk.{shape.n_layer}."
    yield from _layer(shape, state, "mtp.layer.", block)
    yield block + "nextn.eh_proj.weight", state["mtp.eh_proj.weight"]
    yield block + "nextn.enorm.weight", state["mtp.enorm.weight"] + 1
    yield block + "nextn.hnorm.weight", state["mtp.hnorm.weight"] + 1
    yield block + "nextn.shared_head_norm.weight", state["mtp.norm.weight"] + 1


def _layer(shape: Shape, state: Arrays, old: str, new: str) -> Iterator[tuple[str, F32]]:
    yield new + "attn_norm.weight", state[old + "input_layernorm.weight"] + 1
    yield new + "post_attention_norm.weight", state[old + "post_attention_layernorm.weight"] + 1
    if old + "self_attn.q_proj.weight" in state:
        yield from _attention(state, old + "self_attn.", new)
    else:
        yield from _delta_net(shape, state, old + "linear_attn.", new)
    yield from _experts(shape, state, old + "mlp.", new)


def _attention(state: Arrays, old: str, new: str) -> Iterator[tuple[str, F32]]:
    for theirs, ours in (
        ("q_proj", "attn_q"),
        ("k_proj", "attn_k"),
        ("v_proj", "attn_v"),
        ("o_proj", "attn_output"),
    ):
        yield f"{new}{ours}.weight", state[f"{old}{theirs}.weight"]
    yield new + "attn_q_norm.weight", state[old + "q_norm.weight"] + 1
    yield new + "attn_k_norm.weight", state[old + "k_norm.weight"] + 1


def _delta_net(shape: Shape, state: Arrays, old: str, new: str) -> Iterator[tuple[str, F32]]:
    keys = 2 * shape.key_dim

    def tiled(values: F32, per_head: int) -> F32:
        return tile_heads(values, shape.ssm_k_heads, shape.ssm_v_heads, per_head)

    def tiled_values(values: F32) -> F32:
        return np.concatenate((values[:keys], tiled(values[keys:], shape.ssm_head_dim)))

    yield new + "attn_qkv.weight", tiled_values(state[old + "in_proj_qkv.weight"])
    yield new + "attn_gate.weight", tiled(state[old + "in_proj_z.weight"], shape.ssm_head_dim)
    yield new + "ssm_conv1d.weight", tiled_values(state[old + "conv1d.weight"][:, 0])
    yield new + "ssm_dt.bias", tiled(state[old + "dt_bias"], 1)
    yield new + "ssm_a", tiled(-np.exp(state[old + "A_log"]), 1)
    yield new + "ssm_beta.weight", tiled(state[old + "in_proj_b.weight"], 1)
    yield new + "ssm_alpha.weight", tiled(state[old + "in_proj_a.weight"], 1)
    yield new + "ssm_norm.weight", state[old + "norm.weight"]
    yield new + "ssm_out.weight", tiled(state[old + "out_proj.weight"].T, shape.ssm_head_dim).T


def _experts(shape: Shape, state: Arrays, old: str, new: str) -> Iterator[tuple[str, F32]]:
    fused = state[old + "experts.gate_up_proj"]
    yield new + "ffn_gate_inp.weight", state[old + "gate.weight"]
    yield new + "ffn_gate_exps.weight", fused[:, : shape.n_ff_exp]
    yield new + "ffn_up_exps.weight", fused[:, shape.n_ff_exp :]
    yield new + "ffn_down_exps.weight", state[old + "experts.down_proj"]
    yield new + "ffn_gate_inp_shexp.weight", state[old + "shared_expert_gate.weight"][0]
    for name in ("gate", "up", "down"):
        yield f"{new}ffn_{name}_shexp.weight", state[f"{old}shared_expert.{name}_proj.weight"]


def tile_heads(values: F32, n_key_heads: int, n_value_heads: int, per_head: int) -> F32:
    """Rows of value heads from grouped order (k0v0 k0v1 k1v0 k1v1) to tiled order (k0v0 k1v0 k0v1 k1v1).

    Args:
        values: `n_value_heads * per_head` rows of any width.
        n_key_heads, n_value_heads: the second a multiple of the first.
        per_head: rows of one head.
    """
    grouped = values.reshape(n_key_heads, n_value_heads // n_key_heads, per_head, -1)
    return grouped.swapaxes(0, 1).reshape(values.shape)


def _array(value: Tensor) -> F32:
    array: F32 = value.detach().float().numpy()
    return array


def _metadata(shape: Shape, tokenizer: Tokenizer, dtype: str) -> dict[str, Value]:
    return {
        "general.type": "model",
        "general.name": NAME,
        "general.file_type": int(DTYPES[dtype][1]),
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        **{f"{shape.arch}.{key}": value for key, value in shape.keys().items()},
        **tokenizer.metadata(),
    }
