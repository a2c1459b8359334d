"""Reading a whole GGUF file that llt made, and writing one tensor after the other.

A file that a user names is looked at by `models.header`, which trusts nothing; here files are read that llt wrote
or ships, and whose hash was checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import gguf
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]
Value = bool | int | float | str | list[int] | list[float] | list[str]

ALIGNMENT = gguf.GGUF_DEFAULT_ALIGNMENT
_ARCHITECTURE = "general.architecture"
_SCALARS = {
    bool: gguf.GGUFValueType.BOOL,
    int: gguf.GGUFValueType.UINT32,
    float: gguf.GGUFValueType.FLOAT32,
    str: gguf.GGUFValueType.STRING,
    list: gguf.GGUFValueType.ARRAY,
}


@dataclass(frozen=True)
class Key:
    """One metadata key with its GGUF type; `sub_type` is that of an array's items, None to be told by them."""

    name: str
    value: Any
    type: gguf.GGUFValueType
    sub_type: gguf.GGUFValueType | None = None


@dataclass(frozen=True)
class Entry:
    """One tensor of a file: name, dimensions (row-major, so the last is ggml's `ne[0]`), ggml type."""

    name: str
    dims: tuple[int, ...]
    type: gguf.GGMLQuantizationType

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        per_block, block_bytes = gguf.GGML_QUANT_SIZES[self.type]
        return int(self.dims[-1] // per_block * block_bytes)

    @property
    def n_bytes(self) -> int:
        """Bytes of the whole tensor."""
        return prod(self.dims[:-1]) * self.row_bytes


@dataclass(frozen=True)
class GgufFile:
    """A file, open: its keys but the architecture, its tensors in order, their bytes as they lie in the file."""

    arch: str
    keys: tuple[Key, ...]
    entries: tuple[Entry, ...]
    data: Mapping[str, Bytes]


def typed(keys: Mapping[str, Value]) -> tuple[Key, ...]:
    """Keys in sorted order, as llt writes them: whole numbers as u32, others as f32."""
    return tuple(Key(name, value, _SCALARS[type(value)]) for name, value in sorted(keys.items()))


def read_gguf(path: Path) -> GgufFile:
    """Map a file that llt made; the tensors' bytes are read when they are used."""
    reader = gguf.GGUFReader(path)
    keys = []
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == _ARCHITECTURE:
            continue
        is_array = field.types[0] is gguf.GGUFValueType.ARRAY
        keys.append(Key(name, field.contents(), field.types[0], field.types[-1] if is_array else None))
    entries = tuple(
        Entry(tensor.name, tuple(int(dim) for dim in reversed(tensor.shape)), tensor.tensor_type)
        for tensor in reader.tensors
    )
    data = {tensor.name: tensor.data.reshape(-1).view(np.uint8) for tensor in reader.tensors}
    return GgufFile(reader.fields[_ARCHITECTURE].contents(), tuple(keys), entries, data)


def write_gguf(
    path: Path,
    arch: str,
    keys: Sequence[Key],
    entries: Sequence[Entry],
    data: Callable[[Entry], Iterable[bytes]],
    progress: Progress | None = None,
) -> str:
    """Write a file in order, holding no more than a piece of a tensor at a time.

    Args:
        path: the file; one that is there is replaced.
        arch: the architecture, which readers want first.
        keys: the other metadata, in file order.
        entries: the tensors, in file order.
        data: the bytes of a tensor, in pieces.
        progress: called with (bytes written, bytes in all) after each piece.

    Returns:
        The SHA-256 of the file, 64 hex digits.
    """
    write_head(path, arch, keys, entries)
    digest = hashlib.sha256(path.read_bytes())
    done, total = 0, data_bytes(entries)
    with path.open("ab") as file:
        for entry in entries:
            size = 0
            for piece in data(entry):
                _append(file, digest, piece)
                size += len(piece)
                if progress:
                    progress(done + size, total)
            _append(file, digest, bytes(-size % ALIGNMENT))
            done += _padded(size)
    if progress:
        progress(total, total)
    return digest.hexdigest()


def write_head(path: Path, arch: str, keys: Sequence[Key], entries: Sequence[Entry]) -> None:
    """Write all that lies in front of the tensors' bytes, padding included; arguments as of `write_gguf`."""
    writer = gguf.GGUFWriter(None, arch)
    for key in keys:
        writer.add_key_value(key.name, key.value, key.type, key.sub_type)
    for entry in entries:
        # Given beside a type of its own, the shape is taken as counted in weights, not in bytes.
        writer.add_tensor_info(entry.name, entry.dims, np.dtype(np.float32), entry.n_bytes, entry.type)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("ab") as file:
        file.write(bytes(-file.tell() % ALIGNMENT))


def data_bytes(entries: Iterable[Entry]) -> int:
    """Bytes of the tensors in a file, padding included."""
    return sum(_padded(entry.n_bytes) for entry in entries)


def _append(file: BinaryIO, digest: hashlib._Hash, data: bytes) -> None:
    file.write(data)
    digest.update(data)


def _padded(size: int) -> int:
    return size + -size % ALIGNMENT
