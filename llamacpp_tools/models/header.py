"""What a GGUF model says of itself: architecture, layers, sizes and tensors, from one file or from several.

The defaults are those of `llama_model_base::load_hparams` and of `load_arch_hparams` of the three hybrids at tag b9842.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from llamacpp_tools.models.ggufparse import Parsed, TensorInfo, Value
from llamacpp_tools.models.splits import parse_all

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
HYBRID_ARCHS = ("qwen35moe", "qwen35", "qwen3next")
MTP_ARCHS = ("qwen35moe", "qwen35")


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says of itself.

    Layers are counted as libllama does: `n_layer` is the trunk, the `n_layer_nextn` MTP blocks come after
    it, and the per-layer tuples cover both. A dense architecture has no recurrent layers; zeros stand for
    what a model does not have.

    Attributes:
        path: as the caller named it; of a model in several files, any of them.
        n_head, n_head_kv: heads of each layer, trunk and MTP.
        head_dim_k, head_dim_v: size of one attention head.
        ssm_d_conv, ssm_d_inner, ssm_d_state, ssm_n_group, ssm_dt_rank: the recurrent layers' sizes.
        full_attention_layers: trunk layers that are not recurrent.
        recurrent_layers: trunk layers that are.
        tensors: of all files, in order.
        metadata: every key; arrays of more than 4096 items are left out.
        parts: the files that the model lies in, one unless it is split; libllama loads the first.
    """

    path: Path
    arch: str
    name: str
    n_layer: int
    n_layer_nextn: int
    n_embd: int
    n_ctx_train: int
    n_vocab: int
    n_expert: int
    n_expert_used: int
    n_head: tuple[int, ...]
    n_head_kv: tuple[int, ...]
    head_dim_k: int
    head_dim_v: int
    ssm_d_conv: int
    ssm_d_inner: int
    ssm_d_state: int
    ssm_n_group: int
    ssm_dt_rank: int
    full_attention_layers: tuple[int, ...]
    recurrent_layers: tuple[int, ...]
    tensors: tuple[TensorInfo, ...]
    metadata: Mapping[str, Value]
    parts: tuple[Parsed, ...]

    @property
    def n_tensors(self) -> int:
        """How many tensors the file holds."""
        return len(self.tensors)

    @property
    def n_params(self) -> int:
        """How many weights the file holds."""
        return sum(prod(tensor.dims) for tensor in self.tensors)

    @property
    def file_size(self) -> int:
        """Bytes of all files together."""
        return sum(part.size for part in self.parts)

    @property
    def files(self) -> tuple[Path, ...]:
        """The paths of all files."""
        return tuple(part.path for part in self.parts)

    @property
    def has_trunk(self) -> bool:
        """False for a file that holds the MTP block alone, which only serves as a draft model.

        The rule is that of `load_arch_tensors` of qwen35 and qwen35moe.
        """
        return self.n_layer_nextn == 0 or any(each.name == "blk.0.attn_norm.weight" for each in self.tensors)


def check_gguf(path: Path) -> GgufHeader:
    """Read and check the header of the GGUF file at `path`, or of the split model that it is a part of.

    Raises:
        BadInput: a file is missing, a folder, no GGUF, of another version or byte order, cut short,
            or contradicts itself or the other parts. The message is one sentence with the path as given.
    """
    return _Layout(parse_all(path)).header(path)


class _Layout:
    """Turns the keys into layers and sizes, with the defaults of `llama_model_base::load_hparams`."""

    def __init__(self, parts: tuple[Parsed, ...]) -> None:
        self.parts, self.bad = parts, parts[0].bad
        self.metadata, self.lengths = parts[0].metadata, parts[0].lengths
        arch = self.metadata.get("general.architecture")
        if not isinstance(arch, str) or not arch:
            raise self.bad("it names no architecture")
        self.arch = arch

    def header(self, path: Path) -> GgufHeader:
        n_all = self._int("block_count", required=True)
        if not 1 <= n_all <= MAX_LAYERS:
            raise self.bad(f"{self.arch}.block_count is {n_all}, not 1 to {MAX_LAYERS}")
        nextn = self._int("nextn_predict_layers") if self.arch in MTP_ARCHS else 0
        if nextn >= n_all:
            raise self.bad(f"it has {nextn} MTP blocks among {n_all} layers, and so no trunk")
        n_layer, n_embd = n_all - nextn, self._int("embedding_length", required=True)
        heads = self._per_layer("attention.head_count", n_all, (0,) * n_all)
        head_dim = n_embd // heads[0] if heads[0] else 0
        recurrent = self._recurrent(n_layer, n_all)
        name = self.metadata.get("general.name", "")
        return GgufHeader(
            path=path,
            arch=self.arch,
            name=name if isinstance(name, str) else "",
            n_layer=n_layer,
            n_layer_nextn=nextn,
            n_embd=n_embd,
            n_ctx_train=self._int("context_length"),
            n_vocab=self.lengths.get("tokenizer.ggml.tokens", 0) or self._int("vocab_size"),
            n_expert=self._int("expert_count"),
            n_expert_used=self._int("expert_used_count"),
            n_head=heads,
            n_head_kv=self._per_layer("attention.head_count_kv", n_all, heads),
            head_dim_k=self._int("attention.key_length", head_dim),
            head_dim_v=self._int("attention.value_length", head_dim),
            ssm_d_conv=self._int("ssm.conv_kernel"),
            ssm_d_inner=self._int("ssm.inner_size"),
            ssm_d_state=self._int("ssm.state_size"),
            ssm_n_group=self._int("ssm.group_count"),
            ssm_dt_rank=self._int("ssm.time_step_rank"),
            full_attention_layers=tuple(il for il in range(n_layer) if il not in recurrent),
            recurrent_layers=tuple(sorted(recurrent)),
            tensors=tuple(tensor for part in self.parts for tensor in part.tensors),
            metadata=self.metadata,
            parts=self.parts,
        )

    def _int(self, key: str, default: int = 0, required: bool = False) -> int:
        value = self.metadata.get(f"{self.arch}.{key}", None if required else default)
        if type(value) is not int or not 0 <= value < 1 << 32:
            raise self.bad(f"{self.arch}.{key} is {'missing' if value is None else repr(value)}")
        return value

    def _per_layer(self, key: str, n_all: int, default: tuple[int, ...]) -> tuple[int, ...]:
        """One number for all layers, or an array with one for each."""
        value = self.metadata.get(f"{self.arch}.{key}")
        if value is None:
            return default
        if not isinstance(value, tuple):
            return (self._int(key),) * n_all
        numbers = tuple(item for item in value if type(item) is int and 0 <= item < 1 << 32)
        if len(numbers) != len(value) or len(value) != n_all:
            raise self.bad(f"{self.arch}.{key} must be {n_all} numbers, one for each layer")
        return numbers

    def _recurrent(self, n_layer: int, n_all: int) -> frozenset[int]:
        """Trunk layers with a recurrent state, as `load_arch_hparams` of the three hybrids marks them."""
        if self.arch not in HYBRID_ARCHS:
            return frozenset()
        flags = self.metadata.get(f"{self.arch}.attention.recurrent_layers")
        if isinstance(flags, tuple):
            if len(flags) != n_all:
                raise self.bad(f"{self.arch}.attention.recurrent_layers must have {n_all} items")
            return frozenset(il for il in range(n_layer) if flags[il])
        interval = self._int("full_attention_interval", 4)
        if interval < 1:
            raise self.bad(f"{self.arch}.full_attention_interval is 0")
        return frozenset(il for il in range(n_layer) if (il + 1) % interval)
