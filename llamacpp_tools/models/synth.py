"""Random-weight GGUF models of a given shape, the same bytes for the same seed on any machine.

The weights come from raw PCG64 bits turned to numbers with integer and single f32 operations only: numpy
promises that bit stream, while its `normal()` goes through the machine's libm and may change.

Plain noise would make a poor test model: its greedy text is bytes that are no text, its draft head never
agrees with its trunk, and its attention averages over everything. So the noise is given some structure:

- a token's output row points at the embedding of the token before it in a cycle over the speakable tokens
  (`SUCCESSOR`), against `NOISE`: the likely next word depends on the last one, and context often wins;
- `eh_proj` passes the embedding on, so the MTP block sees that same cycle and is right now and then;
- feature 0 of the residual stream is a constant that no block writes to; the output rows of tokens that
  must not be spoken (bytes outside ASCII, specials) see only that feature, with `MUTE`;
- the norms of q and k are above 1, so that attention picks a few cells and a window makes a difference.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from llamacpp_tools.errors import BadInput, MissingTool
from llamacpp_tools.files import write_atomic
from llamacpp_tools.models.gguffile import Entry, Progress, Value, data_bytes, typed, write_gguf, write_head
from llamacpp_tools.models.shapes import Shape, Tensor
from llamacpp_tools.models.vocab import Vocab, build_vocab

F32 = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

CHUNK_ELEMENTS = 1 << 20  # about 20 MB of working memory, whatever the model's size

SUCCESSOR, NOISE, MUTE = 0.14, 0.30, -25.0
CONSTANT = 1.0  # feature 0 of every embedding
FUSE_NOISE = 0.15
# Standard deviation of a matrix's outputs for inputs of variance 1. Full attention's share is small: it is
# where kernels differ most between batch sizes (f16 sums), and greedy text must not hang on that.
GAINS = {"linear": 1.0, "conv": 1.0, "router": 3.0, "out": 0.8, "attn_out": 0.1}
# Mean and spread of the vectors. The decay and its bias give a DeltaNet head a memory of some tokens.
AROUND = {"norm": (1.0, 0.05), "sharp_norm": (1.6, 0.1), "decay": (-4.0, 1.0), "dt_bias": (-3.0, 1.0)}

DTYPES = {
    "f32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bf16": (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "q5_1": (gguf.GGMLQuantizationType.Q5_1, gguf.LlamaFileType.MOSTLY_Q5_1),
    "q5_0": (gguf.GGMLQuantizationType.Q5_0, gguf.LlamaFileType.MOSTLY_Q5_0),
    "q4_1": (gguf.GGMLQuantizationType.Q4_1, gguf.LlamaFileType.MOSTLY_Q4_1),
    "q4_0": (gguf.GGMLQuantizationType.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0),
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SynthResult:
    """What `synth` wrote.

    Attributes:
        path: the file, as the caller named it.
        sha256: of the whole file, 64 hex digits.
        n_bytes: the file's size.
        n_params: number of weights, MTP block included.
    """

    path: Path
    sha256: str
    n_bytes: int
    n_params: int


def synth(
    shape: Shape, path: Path, seed: int = 0, dtype: str = "", progress: Progress | None = None
) -> SynthResult:
    """Write a random-weight model of `shape` to `path`, whole or not at all.

    Args:
        shape: what to write; see `shapes.shape_named`.
        path: the file; one that is there is replaced. Folders above it are made.
        seed: 0 or more; the file depends on shape, seed and dtype only.
        dtype: type of the matrices, one of `DTYPES`, empty for the shape's own; small tensors stay f32 as upstream's
            converter does.
        progress: called with (bytes written, bytes in all) after each piece.

    Raises:
        BadInput: bad dtype or seed, rows that the dtype cannot hold, or `path` cannot be written.
        MissingTool: not enough room on the disk.
    """
    plan = _planned(shape, path, seed, dtype)
    tensors = {tensor.name: tensor for tensor in shape.tensors()}
    entries = plan.entries()

    def data(entry: Entry) -> Iterator[bytes]:
        for rows in _chunks(tensors[entry.name], plan):
            yield gguf.quants.quantize(rows, entry.type).tobytes()

    try:
        with write_atomic(path) as part:
            free = shutil.disk_usage(part.parent).free
            if free < (needed := data_bytes(entries)):
                raise MissingTool(
                    f"{path} needs {needed / 2**30:.1f} GiB, only {free / 2**30:.1f} GiB are free "
                    "there; make room, or name another folder or a smaller --dtype"
                )
            digest = write_gguf(part, shape.arch, typed(plan.metadata()), entries, data, progress)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror or error}") from error
    log.info("wrote %s: %s, seed %d, %s", path, shape.name, seed, plan.dtype)
    return SynthResult(path, digest, path.stat().st_size, shape.n_params)


def synth_header(shape: Shape, path: Path, seed: int = 0, dtype: str = "") -> SynthResult:
    """The file of `synth` without its weights: as long, but sparse, so that it takes no room and is there at once.

    It is for looking at: what its layers take, what fits. All weights read as zero.

    Raises:
        BadInput: as `synth`.
    """
    plan = _planned(shape, path, seed, dtype)
    entries = plan.entries()
    try:
        with write_atomic(path) as part:
            write_head(part, shape.arch, typed(plan.metadata()), entries)
            os.truncate(part, part.stat().st_size + data_bytes(entries))
            digest = ""
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror or error}") from error
    return SynthResult(path, digest, path.stat().st_size, shape.n_params)


def _planned(shape: Shape, path: Path, seed: int, dtype: str) -> _Plan:
    dtype = dtype or shape.dtype
    if dtype not in DTYPES:
        raise BadInput(f"synth writes {', '.join(DTYPES)}, not {dtype!r}")
    if seed < 0:
        raise BadInput(f"the seed must be 0 or more, not {seed}")
    if path.is_dir():
        raise BadInput(f"{path} is a folder; name the file to write")
    per_block = gguf.GGML_QUANT_SIZES[DTYPES[dtype][0]][0]
    for tensor in shape.tensors():
        if not tensor.always_f32 and tensor.dims[-1] % per_block:
            raise BadInput(
                f"{shape.name} cannot be written as {dtype}, which packs {per_block} weights: the rows of "
                f"{tensor.name} are {tensor.dims[-1]} long"
            )
    return _Plan(shape, build_vocab(shape.n_vocab), seed, dtype)


@dataclass(frozen=True)
class _Plan:
    """All that decides the bytes of the file."""

    shape: Shape
    vocab: Vocab
    seed: int
    dtype: str

    def type_of(self, tensor: Tensor) -> gguf.GGMLQuantizationType:
        return DTYPES["f32" if tensor.always_f32 else self.dtype][0]

    def entries(self) -> list[Entry]:
        return [Entry(tensor.name, tensor.dims, self.type_of(tensor)) for tensor in self.shape.tensors()]

    def metadata(self) -> dict[str, Value]:
        shape, vocab, tokenizer = self.shape, self.vocab, "tokenizer.ggml."
        return {
            "general.type": "model",
            "general.name": f"{shape.name} (random weights, seed {self.seed})",
            "general.file_type": int(DTYPES[self.dtype][1]),
            "general.quantization_version": gguf.GGML_QUANT_VERSION,
            **{f"{shape.arch}.{key}": value for key, value in shape.keys().items()},
            tokenizer + "model": "gpt2",
            tokenizer + "pre": "qwen2" if shape.arch == "qwen3next" else "qwen35",
            tokenizer + "tokens": list(vocab.tokens),
            tokenizer + "token_type": list(vocab.types),
            tokenizer + "merges": list(vocab.merges),
            tokenizer + "bos_token_id": vocab.bos_id,
            tokenizer + "eos_token_id": vocab.eos_id,
            tokenizer + "padding_token_id": vocab.pad_id,
            tokenizer + "add_bos_token": False,
        }


def _chunks(tensor: Tensor, plan: _Plan) -> Iterator[F32]:
    """The tensor's rows in order, as f32 [rows, row length], a bounded number at a time."""
    n_rows = prod(tensor.dims[:-1])
    step = max(1, CHUNK_ELEMENTS // tensor.dims[-1])
    for first in range(0, n_rows, step):
        yield _weights(tensor, np.arange(first, min(first + step, n_rows)), plan)


def _weights(tensor: Tensor, rows: Rows, plan: _Plan) -> F32:
    """Consecutive rows of a tensor; see the head of this module."""
    width = tensor.dims[-1]
    if tensor.role == "head":
        return _head(tensor, rows, plan)
    noise = _noise(plan.seed, tensor.name, int(rows[0]) * width, len(rows) * width).reshape(len(rows), width)
    if tensor.role in AROUND:
        mean, spread = AROUND[tensor.role]
        return np.float32(mean) + noise * np.float32(spread)
    if tensor.role == "embed":
        noise[:, 0] = CONSTANT
        return noise
    per_input = np.float32(1 / math.sqrt(width))
    if tensor.role == "fuse":
        noise[rows == 0] = 0
        noise *= per_input * np.float32(FUSE_NOISE)
        noise[np.arange(len(rows)), rows] += np.float32(1)
        return noise
    if tensor.role in ("out", "attn_out"):
        noise[rows % tensor.dims[-2] == 0] = 0
    return noise * (per_input * np.float32(GAINS[tensor.role]))


def _head(tensor: Tensor, rows: Rows, plan: _Plan) -> F32:
    """Output rows: each speakable token's leans on the embedding of its predecessor in the cycle."""
    before = _predecessors(plan.vocab)
    width = tensor.dims[-1]
    head = np.zeros((len(rows), width), np.float32)
    head[:, 0] = MUTE
    for at, token in enumerate(rows.tolist()):
        if token in before:
            embedding = _noise(plan.seed, "token_embd.weight", before[token] * width, width)
            head[at] = _noise(plan.seed, tensor.name, token * width, width) * np.float32(NOISE)
            head[at, 0] = 0
            head[at, 1:] += embedding[1:] * np.float32(SUCCESSOR)
    return head


def _predecessors(vocab: Vocab) -> dict[int, int]:
    """For each speakable token the one before it, in one cycle through all of them."""
    ids, n = vocab.speakable, len(vocab.speakable)
    stride = next(step for step in range(n * 5 // 8, n) if np.gcd(step, n) == 1)
    return {ids[(at + stride) % n]: ids[at] for at in range(n)}


def _noise(seed: int, name: str, start: int, count: int) -> F32:
    """Numbers `start` .. `start + count` of a tensor's own stream: mean 0, variance 1, bell-shaped.

    Each is the sum of the four 16-bit parts of one raw 64-bit draw (Irwin-Hall, n = 4), so every step but
    the last multiplication is exact, and any part of a tensor can be made on its own.
    """
    key = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = np.random.PCG64(int.from_bytes(key, "little"))
    generator.advance(start)
    draws = generator.random_raw(count).view(np.uint16).reshape(count, 4)
    sums = draws[:, 0].astype(np.int32)
    for part in range(1, 4):
        sums += draws[:, part]
    sums -= 2 * 0xFFFF
    return sums.astype(np.float32) * np.float32(1 / 37837.0)
