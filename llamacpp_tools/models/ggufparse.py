"""Parses one GGUF file: metadata, tensor list and where both lie, never the weights.

The parser is our own because the file is whatever the user named: every count and length is checked
against the bytes that are left before anything is read or allocated, and a bad file is one sentence, not a
traceback. The rules are those of upstream's `ggml/src/gguf.cpp` at tag b9842.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import gguf

from llamacpp_tools.errors import BadInput

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
MAX_ITEMS = 1 << 24
KEPT_ITEMS = 4096  # longer arrays (token lists) are checked and passed over
STRING, ARRAY = 8, 9
# gguf_type -> struct format of one value
SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip


@dataclass(frozen=True)
class TensorInfo:
    """One entry of the tensor list.

    Attributes:
        dims: in ggml's order (row length first).
        offset: in the data part of its file.
        part: which file of the model it lies in, from 0.
    """

    name: str
    dims: tuple[int, ...]
    type_name: str
    offset: int
    n_bytes: int
    part: int = 0


@dataclass(frozen=True)
class Parsed:
    """One file, parsed.

    Attributes:
        path: as the caller named it.
        version: of the format.
        metadata: every key; arrays of more than 4096 items are left out.
        lengths: the number of items of every array, left out or not.
        spans: where each key lies in the file, name and type included: (first byte, one past the last).
        tensors: in file order.
        alignment: of the tensors in the data part.
        data_offset: where the data part begins.
        size: of the file.
    """

    path: Path
    version: int
    metadata: Mapping[str, Value]
    lengths: Mapping[str, int]
    spans: Mapping[str, tuple[int, int]]
    tensors: tuple[TensorInfo, ...]
    alignment: int
    data_offset: int
    size: int

    def bad(self, what: str) -> BadInput:
        """The error for a file that contradicts itself."""
        return not_sound(self.path, what)


def not_sound(path: Path, what: str) -> BadInput:
    """The error for a file that contradicts itself."""
    return BadInput(f"{path} is not a sound GGUF file: {what}")


def ggml_type(type_name: str) -> int:
    """The number that stands for a `TensorInfo.type_name` in a file."""
    return int(gguf.GGMLQuantizationType[type_name.upper()])


def parse(path: Path) -> Parsed:
    """Parse the GGUF file at `path`.

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
                return _Parser(path, data, size).parsed()
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

    def parsed(self) -> Parsed:
        version, n_tensors, n_keys = self._preamble()
        metadata, lengths, spans = self._metadata(n_keys)
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
        return Parsed(self.path, version, metadata, lengths, spans, infos, alignment, data_offset, self.size)

    def _bad(self, what: str) -> BadInput:
        return not_sound(self.path, what)

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

    def _preamble(self) -> tuple[int, int, int]:
        """Check magic and version; returns the version and the counts of tensors and keys."""
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
        return version, n_tensors, n_keys

    def _metadata(self, n_keys: int) -> tuple[dict[str, Value], dict[str, int], dict[str, tuple[int, int]]]:
        """All keys, the length of every array (kept or not), and where each key lies."""
        metadata: dict[str, Value] = {}
        lengths: dict[str, int] = {}
        spans: dict[str, tuple[int, int]] = {}
        for index in range(n_keys):
            begin = self.at
            key = self._string(f"the name of metadata key {index}", MAX_KEY_BYTES)
            if key in spans:
                raise self._bad(f"metadata key {key!r} is there twice")
            kind = self._int("<i")
            if kind == ARRAY:
                items, lengths[key] = self._array(key)
                if items is not None:
                    metadata[key] = items
            else:
                metadata[key] = self._value(kind, key)
            spans[key] = begin, self.at
        return metadata, lengths, spans

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
