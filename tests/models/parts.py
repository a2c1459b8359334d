"""Files made from a model by the `gguf` package, so that ours is compared with another writer: its parts, its trunk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf


def split(source: Path, folder: Path, n_tensors: int, name: str = "model") -> list[Path]:
    """The model in files of at most `n_tensors` tensors, named as `llama-gguf-split` names them."""
    _rewrite(source, folder / f"{name}.gguf", lambda _: True, split_max_tensors=n_tensors)
    return sorted(folder.glob(f"{name}-*-of-*.gguf"))


def without_mtp(source: Path, target: Path) -> Path:
    """The model as a converter or quantiser leaves it that drops the MTP block."""
    reader = gguf.GGUFReader(source)
    arch = reader.fields["general.architecture"].contents()
    n_nextn = reader.fields[f"{arch}.nextn_predict_layers"].contents()
    n_layer = reader.fields[f"{arch}.block_count"].contents() - n_nextn
    dropped = tuple(f"blk.{n_layer + at}." for at in range(n_nextn))
    changed = {f"{arch}.block_count": n_layer, f"{arch}.nextn_predict_layers": None}
    _rewrite(source, target, lambda tensor: not tensor.startswith(dropped), changed)
    return target


def _rewrite(
    source: Path,
    target: Path,
    keep: Callable[[str], bool],
    changed: dict[str, int | None] | None = None,
    split_max_tensors: int = 0,
) -> None:
    reader = gguf.GGUFReader(source)
    arch = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, arch, split_max_tensors=split_max_tensors)
    for name, field in reader.fields.items():
        value = (changed or {}).get(name, field.contents())
        if name.startswith("GGUF.") or name == "general.architecture" or value is None:
            continue
        is_array = field.types[0] is gguf.GGUFValueType.ARRAY
        writer.add_key_value(name, value, field.types[0], field.types[-1] if is_array else None)
    for tensor in reader.tensors:
        if keep(tensor.name):
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
