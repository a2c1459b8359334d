"""The same model with its matrices in another type: what a q8_0 file holds, written as f32 or f16."""

from __future__ import annotations

from pathlib import Path

import gguf

from llamacpp_tools.errors import BadInput
from llamacpp_tools.files import write_atomic
from llamacpp_tools.models.gguffile import Entry, Key, read_gguf, write_gguf
from llamacpp_tools.models.synth import DTYPES


def recast(source: Path, target: Path, dtype: str) -> None:
    """Write the model of `source`, a GGUF file that llt made, to `target` with matrices of type `dtype`.

    From q8_0 to f32 nothing is lost: a scale in f16 times 8 bits fits into f32. Vectors, routers and
    convolutions stay f32, as upstream's converter leaves them.

    Raises:
        BadInput: there is no such dtype.
    """
    if dtype not in DTYPES:
        raise BadInput(f"a model can be recast to {', '.join(DTYPES)}, not {dtype!r}")
    kind, file_type = DTYPES[dtype]
    file = read_gguf(source)
    olds = {entry.name: entry for entry in file.entries}
    f32, f16 = gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16
    entries = [Entry(entry.name, entry.dims, f32 if _stays(entry) else kind) for entry in file.entries]

    def data(entry: Entry) -> list[bytes]:
        old = olds[entry.name]
        rows = file.data[entry.name].reshape(-1, old.row_bytes)
        if old.type is entry.type:
            return [rows.tobytes()]
        # gguf takes f32 and f16 as numbers, all others as bytes.
        numbers = {f32: "<f4", f16: "<f2"}.get(old.type)
        values = gguf.quants.dequantize(rows if numbers is None else rows.view(numbers), old.type)
        return [gguf.quants.quantize(values.reshape(entry.dims), entry.type).tobytes()]

    keys = [
        Key(key.name, int(file_type), key.type) if key.name == "general.file_type" else key
        for key in file.keys
    ]
    with write_atomic(target) as part:
        write_gguf(part, file.arch, keys, entries, data)


def _stays(entry: Entry) -> bool:
    return len(entry.dims) == 1 or "ffn_gate_inp" in entry.name or "ssm_conv1d" in entry.name
