"""A model in several files, as upstream's `llama-gguf-split` writes them.

The first file has the metadata, each has tensors of its own; `split.no`, `split.count` and `split.tensors.count` say
which of how many it is, and its name ends accordingly. The rules are those of `llama_model_loader` (and of
`llama_split_path`) at tag b9842, which loads a model from its first file only; here any of them may be named. What
contradicts them is refused in one sentence, before libllama sees it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from llamacpp_tools.errors import BadInput
from llamacpp_tools.models.ggufparse import Parsed, parse

NO, COUNT, TENSORS = "split.no", "split.count", "split.tensors.count"
KEYS = (NO, COUNT, TENSORS)
MAX_PARTS = 1 << 16  # upstream reads the count as 16 bits


def parse_all(path: Path) -> tuple[Parsed, ...]:
    """Parse the file at `path` and, where it is a part of a model, the others beside it, in order.

    Raises:
        BadInput: as `ggufparse.parse`; a part is missing or is not the part that its name says; the parts do not
            agree on their number, or do not hold the tensors that they announce.
    """
    named = parse(path)
    count = _number(named, COUNT, 0)
    if count <= 1:
        return (named,)
    no = _number(named, NO)
    if no >= count:
        raise named.bad(f"it is part {no + 1} of {count}")
    suffix = _suffix(no, count)
    prefix = path.name.removesuffix(suffix)
    if prefix in (path.name, ""):
        raise BadInput(
            f"{path} says that it is part {no + 1} of {count} of a model, but its name does not end in {suffix}: "
            "give it its name back, llama.cpp finds the other parts by it"
        )
    paths = [path.with_name(prefix + _suffix(at, count)) for at in range(count)]
    missing = [each.name for each in paths if not each.exists()]
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise BadInput(
            f"{path} is part {no + 1} of {count} of a model, and {shown} {'is' if len(missing) == 1 else 'are'} "
            f"not beside it in {path.parent}: fetch what is missing"
        )
    parts = tuple(_as_part(named if at == no else parse(each), at, count) for at, each in enumerate(paths))
    _check_tensors(parts)
    return parts


def _as_part(part: Parsed, no: int, count: int) -> Parsed:
    found = _number(part, NO, -1), _number(part, COUNT, 0)
    if found != (no, count):
        said = f"part {found[0] + 1} of {found[1]}" if found[1] else "no part of a model"
        raise part.bad(f"by its name it is part {no + 1} of {count}, by its own metadata {said}")
    return replace(part, tensors=tuple(replace(tensor, part=no) for tensor in part.tensors))


def _check_tensors(parts: tuple[Parsed, ...]) -> None:
    where: dict[str, Path] = {}
    for part in parts:
        for tensor in part.tensors:
            if tensor.name in where:
                raise part.bad(f"tensor {tensor.name!r} is in {where[tensor.name].name}, too")
            where[tensor.name] = part.path
    for part in parts:
        announced = _number(part, TENSORS)
        if announced != len(where):
            raise part.bad(
                f"it announces {announced} tensors in {len(parts)} parts, and {len(where)} are there"
            )


def _number(part: Parsed, key: str, default: int | None = None) -> int:
    value = part.metadata.get(key, default)
    if type(value) is not int or (value < 0 and value != default) or value >= MAX_PARTS:
        raise part.bad(f"{key} is {'missing' if value is None else repr(value)}")
    return value


def _suffix(no: int, count: int) -> str:
    return f"-{no + 1:05d}-of-{count:05d}.gguf"
