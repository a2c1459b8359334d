"""Reads the header of a GGUF file: metadata and tensor list, never the weights.

The parser is our own because the file is whatever the user named: every count and length is checked
against the bytes that are left before anything is read or allocated, and a bad file is one sentence, not a
traceback. The rules are those of upstream's `ggml/src/gguf.cpp` at tag b9842.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path

import gguf

from llamacpp_tools.errors import BadInput
from llamacpp_tools.files import sha256_file

Scalar = int | float | bool | str
Value = Scalar | tuple[Scalar, ...]

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_KEYS = 1 << 16
MAX_TENSORS = 1 << 16
MAX_DIMS = 4
MAX_NAME_BYTES = 63  # GGML_MAX_NAME less the closing zero
MAX_KEY_BYTES = 1 << 16
MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
MAX_ITEMS = 1 << 24
KEPT_ITEMS = 4096  # longer arrays (token lists) are checked and passed over
STRING, ARRAY = 8, 9
# gguf_type -> struct format of one value
SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
HYBRID_ARCHS = ("qwen35moe", "qwen35", "qwen3next")
MTP_ARCHS = ("qwen35moe", "qwen35")


@dataclass(frozen=True)
class TensorInfo:
    """One entry of the tensor list; `dims` in ggml's order (row length first), `offset` in the data part."""

    name: str
    dims: tuple[int, ...]
    type_name: str
    offset: int
    n_bytes: int


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says of itself.

    Layers are counted as libllama does: `n_layer` is the trunk, the `n_layer_nextn` MTP blocks come after
    it, and the per-layer tuples cover both. A dense architecture has no recurrent layers; zeros stand for
    what a model does not have.

    Attributes:
        path: as the caller named it.
        n_head, n_head_kv: heads of each layer, trunk and MTP.
        head_dim_k, head_dim_v: size of one attention head.
        ssm_d_conv, ssm_d_inner, ssm_d_state, ssm_n_group, ssm_dt_rank: the recurrent layers' sizes.
        full_attention_layers: trunk layers that are not recurrent.
        recurrent_layers: trunk layers that are.
        metadata: every key; arrays of more than 4096 items are left out.
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
    metadata: dict[str, Value]
    data_offset: int
    file_size: int

    @property
    def n_tensors(self) -> int:
        """How many tensors the file holds."""
        return len(self.tensors)

    @property
    def n_params(self) -> int:
        """How many weights the file holds."""
        return sum(prod(tensor.dims) for tensor in self.tensors)

    @cached_property
    def sha256(self) -> str:
        """Hash of the whole file, read when first asked for."""
        return sha256_file(self.path)


def check_gguf(path: Path) -> GgufHeader:
    """Read and check the header of the GGUF file at `path`.

    Raises:
        BadInput: the file is missing, a folder, no GGUF, of another version or byte order, cut short,
            or contradicts itself. The message is one sentence with the path as given.
    """
    try:
        if path.is_dir():
            raise BadInput(f"{path} is a folder; name a GGUF file")
        if path.exists() and not path.is_file():
            # Opening a pipe would wait for a writer.
            raise BadInput(f"{path} is not a regular file; name a GGUF file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise BadInput(f"{path} is empty, not a GGUF file")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Parser(path, data, size).header()
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist; name a GGUF file") from None
    except (OSError, ValueError) as error:
        # ValueError: a path with a zero byte, or a device that cannot be mapped.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BadInput(f"{path} cannot be read: {reason}") from error


class _Parser:
    """A cursor over the mapped file; every method checks before it reads."""

    def __init__(self, path: Path, data: mmap.mmap, size: int) -> None:
        self.path, self.data, self.size, self.at = path, data, size, 0

    def header(self) -> GgufHeader:
        n_tensors, n_keys = self._preamble()
        metadata, lengths = self._metadata(n_keys)
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise self._bad(f"general.alignment is {alignment!r}, not a power of two")
        infos = self._tensor_infos(n_tensors, alignment)
        data_offset = self.at + -self.at % alignment
        end = data_offset + max((info.offset + info.n_bytes for info in infos), default=0)
        if end > self.size:
            raise BadInput(
                f"{self.path} is cut short: its tensors need {end} bytes, {end - self.size} are missing; "
                "fetch or write it again"
            )
        return _Layout(self._bad, metadata, lengths).header(self.path, infos, data_offset, self.size)

    def _bad(self, what: str) -> BadInput:
        return BadInput(f"{self.path} is not a sound GGUF file: {what}")

    def _cut_short(self, missing: int) -> BadInput:
        return BadInput(
            f"{self.path} is cut short: its header lacks at least {missing} bytes; fetch or write it again"
        )

    def _need(self, count: int) -> None:
        if count > self.size - self.at:
            raise self._cut_short(count - (self.size - self.at))

    def _scalar(self, form: str) -> Scalar:
        width = struct.calcsize(form)
        self._need(width)
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += width
        found: Scalar = value
        return found

    def _int(self, form: str) -> int:
        return int(self._scalar(form))

    def _string(self, what: str, limit: int | None = None) -> str:
        length = self._int("<Q")
        if limit is not None and length > limit:
            raise self._bad(f"{what} is {length} bytes long, the limit is {limit}")
        self._need(length)
        raw = self.data[self.at : self.at + length]
        self.at += length
        return raw.decode("utf-8", "replace")

    def _preamble(self) -> tuple[int, int]:
        """Check magic and version; returns the counts of tensors and keys."""
        magic = self.data[:4]
        if magic != MAGIC:
            raise BadInput(f"{self.path} is not a GGUF file: it does not begin with the letters GGUF")
        self.at = 4
        version = self._int("<I")
        if version & 0xFFFF == 0 and version:
            raise self._bad("it is of the other byte order; write it again for this machine")
        if version not in VERSIONS:
            known = " and ".join(map(str, VERSIONS))
            raise self._bad(f"its version is {version}, this reads {known}")
        n_tensors, n_keys = self._int("<Q"), self._int("<Q")
        # The smallest entries: an empty name, a type, one value; and a name, dims, type and offset.
        for what, count, limit, least in (
            ("tensors", n_tensors, MAX_TENSORS, 24),
            ("metadata keys", n_keys, MAX_KEYS, 13),
        ):
            if count > limit:
                raise self._bad(f"it claims {count} {what}, the limit is {limit}")
            self._need(count * least)
        return n_tensors, n_keys

    def _metadata(self, n_keys: int) -> tuple[dict[str, Value], dict[str, int]]:
        """All keys, and the length of every array (kept or not)."""
        metadata: dict[str, Value] = {}
        lengths: dict[str, int] = {}
        seen: set[str] = set()
        for index in range(n_keys):
            key = self._string(f"the name of metadata key {index}", MAX_KEY_BYTES)
            if key in seen:
                raise self._bad(f"metadata key {key!r} is there twice")
            seen.add(key)
            kind = self._int("<i")
            if kind == ARRAY:
                items, lengths[key] = self._array(key)
                if items is not None:
                    metadata[key] = items
            else:
                metadata[key] = self._value(kind, key)
        return metadata, lengths

    def _value(self, kind: int, key: str) -> Scalar:
        if kind == STRING:
            return self._string(f"metadata key {key!r}")
        if kind not in SCALARS:
            raise self._bad(f"metadata key {key!r} has unknown type {kind}")
        return self._scalar(SCALARS[kind])

    def _array(self, key: str) -> tuple[tuple[Scalar, ...] | None, int]:
        kind, count = self._int("<i"), self._int("<Q")
        if kind != STRING and kind not in SCALARS:
            raise self._bad(f"metadata array {key!r} has items of unknown type {kind}")
        if count > MAX_ITEMS and kind == STRING:
            raise self._bad(f"metadata array {key!r} claims {count} texts, the limit is {MAX_ITEMS}")
        width = 8 if kind == STRING else struct.calcsize(SCALARS[kind])
        self._need(count * width)
        if count <= KEPT_ITEMS:
            return tuple(self._value(kind, key) for _ in range(count)), count
        if kind == STRING:
            for _ in range(count):
                length = self._int("<Q")
                self._need(length)
                self.at += length
        else:
            self.at += count * width
        return None, count

    def _tensor_infos(self, n_tensors: int, alignment: int) -> tuple[TensorInfo, ...]:
        infos: list[TensorInfo] = []
        names: set[str] = set()
        expected = 0
        for index in range(n_tensors):
            info = self._tensor_info(index)
            if info.name in names:
                raise self._bad(f"tensor {info.name!r} is there twice")
            if info.offset != expected:
                raise self._bad(f"tensor {info.name!r} is said to begin at {info.offset}, not at {expected}")
            names.add(info.name)
            infos.append(info)
            expected += info.n_bytes + -info.n_bytes % alignment
        return tuple(infos)

    def _tensor_info(self, index: int) -> TensorInfo:
        name = self._string(f"the name of tensor {index}", MAX_NAME_BYTES)
        n_dims = self._int("<I")
        if n_dims > MAX_DIMS:
            raise self._bad(f"tensor {name!r} has {n_dims} dimensions, the limit is {MAX_DIMS}")
        dims = tuple(self._int("<q") for _ in range(n_dims))
        if any(dim < 1 for dim in dims) or prod(dims) >= 1 << 60:
            raise self._bad(f"tensor {name!r} has the impossible shape {dims}")
        kind, offset = self._int("<i"), self._int("<Q")
        try:
            type_ = gguf.GGMLQuantizationType(kind)
            per_block, block_bytes = gguf.GGML_QUANT_SIZES[type_]
        except (ValueError, KeyError):
            raise self._bad(f"tensor {name!r} has unknown type {kind}") from None
        if dims and dims[0] % per_block:
            raise self._bad(f"tensor {name!r} has rows of {dims[0]}, {type_.name} needs {per_block}s")
        n_bytes = prod(dims) // per_block * block_bytes
        return TensorInfo(name, dims, type_.name.lower(), offset, n_bytes)


class _Layout:
    """Turns the keys into layers and sizes, with the defaults of `llama_model_base::load_hparams`."""

    def __init__(
        self, bad: Callable[[str], BadInput], metadata: dict[str, Value], lengths: dict[str, int]
    ) -> None:
        self.bad, self.metadata, self.lengths = bad, metadata, lengths
        arch = metadata.get("general.architecture")
        if not isinstance(arch, str) or not arch:
            raise bad("it names no architecture")
        self.arch = arch

    def header(
        self, path: Path, tensors: tuple[TensorInfo, ...], data_offset: int, file_size: int
    ) -> GgufHeader:
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
            tensors=tensors,
            metadata=self.metadata,
            data_offset=data_offset,
            file_size=file_size,
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
