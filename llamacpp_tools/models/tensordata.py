"""The values of one small tensor of a GGUF file."""

from __future__ import annotations

import struct

from llamacpp_tools.errors import BadInput
from llamacpp_tools.models.header import GgufHeader

MOST_VALUES = 1 << 20


def f32_values(header: GgufHeader, name: str) -> tuple[float, ...]:
    """The values of an f32 tensor such as a norm's weights, in file order; no more than 2^20.

    Raises:
        BadInput: there is no such tensor, it is of another type, too large, or the file was cut short meanwhile.
    """
    found = next((tensor for tensor in header.tensors if tensor.name == name), None)
    if found is None:
        raise BadInput(f"{header.path} has no tensor {name}")
    if found.type_name != "f32" or found.n_bytes > 4 * MOST_VALUES:
        raise BadInput(
            f"{name} of {header.path} is {found.type_name} with {found.n_bytes} bytes, not a small f32"
        )
    part = header.parts[found.part]
    try:
        with part.path.open("rb") as file:
            file.seek(part.data_offset + found.offset)
            raw = file.read(found.n_bytes)
    except OSError as error:
        raise BadInput(f"{part.path} cannot be read: {error.strerror}") from None
    if len(raw) != found.n_bytes:
        raise BadInput(f"{part.path} was cut short while it was read")
    return struct.unpack(f"<{len(raw) // 4}f", raw)
