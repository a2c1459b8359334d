"""The MTP block of a model as a GGUF file of its own, which llama.cpp takes as a separate draft model.

Upstream's loader knows such a file by what it lacks: `nextn_predict_layers` is above 0 and `blk.0.attn_norm.weight` is
not there (`load_arch_tensors` in `src/models/qwen35.cpp` and `qwen35moe.cpp` at tag b9842). It wants the token
embeddings, the output norm and matrix, and the block itself, with the layer number that it has in the whole model;
`convert_hf_to_gguf.py --mtp` writes the same. Keys and tensors are copied as the bytes that they are.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from llamacpp_tools.errors import BadInput, MissingTool
from llamacpp_tools.files import write_atomic
from llamacpp_tools.models import splits
from llamacpp_tools.models.gguffile import Progress
from llamacpp_tools.models.ggufparse import MAGIC, TensorInfo, ggml_type
from llamacpp_tools.models.header import MTP_ARCHS, GgufHeader, check_gguf

PIECE_BYTES = 4 << 20


@dataclass(frozen=True)
class Extracted:
    """What was written.

    Attributes:
        path: the file, as the caller named it.
        n_bytes: its size.
        blocks: layer numbers of the MTP blocks.
        tensors: names of the block's tensors and of those that it shares with the trunk, in file order.
        shared_bytes: bytes of the tensors that the whole model has for its trunk, too.
    """

    path: Path
    n_bytes: int
    blocks: tuple[int, ...]
    tensors: tuple[str, ...]
    shared_bytes: int


def extract_mtp(source: Path, target: Path, progress: Progress | None = None) -> Extracted:
    """Write the MTP block of the model at `source` to `target`, whole or not at all.

    Args:
        source: a GGUF file, or any part of a split one; nothing in it is trusted.
        target: the file to write; one that is there is replaced.
        progress: called with (bytes written, bytes in all) after each piece.

    Raises:
        BadInput: the source is no sound GGUF file, has no MTP block or nothing else, or the target is one of its files
            or cannot be written.
        MissingTool: not enough room on the disk.
    """
    header = check_gguf(source)
    _check(header, target)
    chosen = [tensor for tensor in header.tensors if _is_wanted(header, tensor.name)]
    head = _head(header, chosen)
    total = len(head) + sum(_padded(tensor.n_bytes, header) for tensor in chosen)
    try:
        with write_atomic(target) as part:
            free = shutil.disk_usage(part.parent).free
            if free < total:
                raise MissingTool(
                    f"{target} needs {total / 2**20:.0f} MiB, only {free / 2**20:.0f} MiB are free there: "
                    "make room, or name another folder"
                )
            with part.open("wb") as file:
                _write(file, header, head, chosen, total, progress)
    except OSError as error:
        raise BadInput(f"{target} cannot be written: {error.strerror or error}") from error
    shared = sum(tensor.n_bytes for tensor in chosen if not tensor.name.startswith("blk."))
    blocks = tuple(range(header.n_layer, header.n_layer + header.n_layer_nextn))
    return Extracted(target, total, blocks, tuple(tensor.name for tensor in chosen), shared)


def _check(header: GgufHeader, target: Path) -> None:
    if target.is_dir():
        raise BadInput(f"{target} is a folder; name the file to write")
    if target.resolve() in [path.resolve() for path in header.files]:
        raise BadInput(f"{target} is the model itself; name another file to write")
    if header.arch not in MTP_ARCHS:
        raise BadInput(
            f"{header.path} is of architecture {header.arch}; llama.cpp drafts with the MTP block of "
            f"{', '.join(MTP_ARCHS)}"
        )
    if header.n_layer_nextn == 0:
        raise BadInput(
            f"{header.path} has no MTP block ({header.arch}.nextn_predict_layers is 0 or missing): take a GGUF whose "
            f"tensors blk.{header.n_layer}.nextn.* were kept"
        )
    if not header.has_trunk:
        raise BadInput(f"{header.path} holds nothing but an MTP block: it can be used as it is")
    names = {tensor.name for tensor in header.tensors}
    for block in range(header.n_layer, header.n_layer + header.n_layer_nextn):
        if f"blk.{block}.nextn.eh_proj.weight" not in names:
            raise BadInput(
                f"{header.path} announces an MTP block and lacks its tensor blk.{block}.nextn.eh_proj.weight: it was "
                "not kept when the file was made"
            )


def _is_wanted(header: GgufHeader, name: str) -> bool:
    """All but the trunk's layers: the loader refuses a file with a tensor that it does not know."""
    if not name.startswith("blk."):
        return True
    layer = name.split(".")[1]
    return layer.isdecimal() and int(layer) >= header.n_layer


def _head(header: GgufHeader, chosen: list[TensorInfo]) -> bytes:
    """Everything in front of the data: the source's keys without those of a split, and the tensors that are kept."""
    first = header.parts[0]
    spans = [span for name, span in first.spans.items() if name not in splits.KEYS]
    head = bytearray(MAGIC + struct.pack("<IQQ", first.version, len(chosen), len(spans)))
    with first.path.open("rb") as file:
        for begin, end in spans:
            file.seek(begin)
            head += file.read(end - begin)
    offset = 0
    for tensor in chosen:
        name = tensor.name.encode()
        head += struct.pack("<Q", len(name)) + name
        n_dims = len(tensor.dims)
        head += struct.pack(f"<I{n_dims}q", n_dims, *tensor.dims)
        head += struct.pack("<iQ", ggml_type(tensor.type_name), offset)
        offset += _padded(tensor.n_bytes, header)
    return bytes(head) + bytes(-len(head) % first.alignment)


def _write(
    file: BinaryIO,
    header: GgufHeader,
    head: bytes,
    chosen: list[TensorInfo],
    total: int,
    progress: Progress | None,
) -> None:
    file.write(head)
    done = len(head)
    with ExitStack() as stack:
        parts = [stack.enter_context(part.path.open("rb")) for part in header.parts]
        for tensor in chosen:
            for piece in _pieces(header, tensor, parts[tensor.part]):
                file.write(piece)
                done += len(piece)
                if progress:
                    progress(done, total)


def _pieces(header: GgufHeader, tensor: TensorInfo, part: BinaryIO) -> Iterator[bytes]:
    """The tensor's bytes and its padding; read, not mapped, as a file that shrinks meanwhile would end the process."""
    part.seek(header.parts[tensor.part].data_offset + tensor.offset)
    left = tensor.n_bytes
    while left:
        piece = part.read(min(left, PIECE_BYTES))
        if not piece:
            raise BadInput(f"{header.parts[tensor.part].path} was cut short while it was read")
        left -= len(piece)
        yield piece
    yield bytes(_padded(tensor.n_bytes, header) - tensor.n_bytes)


def _padded(size: int, header: GgufHeader) -> int:
    return size + -size % header.parts[0].alignment
