"""What pydantic found wrong in a sweep file, as one sentence with the key's path and what to write."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from llamacpp_tools.sweep import config as models

SECTIONS: dict[str, type[BaseModel]] = {
    "": models.SweepConfig,
    "build": models.BuildConfig,
    "context": models.ContextConfig,
    "swa": models.SwaConfig,
    "draft": models.DraftConfig,
    "generate": models.GenerateConfig,
    "thermal": models.ThermalConfig,
    "model": models.SynthModel,
    "miniature": models.BallastConfig,
    "workloads": models.FileWorkload,
}

_WANTED = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "model_type": "must be a section of keys",
    "model_attributes_type": "must be a section of keys",
    "finite_number": "must be a finite number",
}
_OTHER = {
    "missing": "is missing",
    "too_short": "must not be an empty list",
    "string_too_short": "must not be empty",
    "string_too_long": "is too long",
    "union_tag_not_found": "must be text, or a mapping such as {synth: NAME}, {miniature: {}}, {file: PATH} or "
    "{turns: [NAME, NAME]}",
}
_PATTERNS = {
    "name": "names files and must be letters and digits, with `.`, `_`, `+` or `-` between them",
    "variant": "must be patched or stock",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "above"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "below"),
}


def sentence(error: ValidationError, raw: Mapping[str, Any]) -> str:
    """The first thing that is wrong, with the key's path as the user wrote it.

    Args:
        error: from validating `raw` as a `SweepConfig`.
        raw: the mapping as it stands in the file.
    """
    # An unknown key explains a missing one (a typing error), so it goes first.
    details = sorted(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    return _describe(details[0], raw)


def nearest_key(key: str, section: str) -> str | None:
    """The known key of a section that `key` most looks like, or the section that has it, or None."""
    near = difflib.get_close_matches(key, SECTIONS[section].model_fields, n=1, cutoff=0.6)
    if near:
        return f"`{near[0]}`"
    for name, model in SECTIONS.items():
        if name and key in model.model_fields:
            return f"`{key}` under `{name}:`"
    if key in models.SweepConfig.model_fields:
        return f"`{key}` at the top level"
    return None


def _describe(item: ErrorDetails, raw: Mapping[str, Any]) -> str:
    where = _path(item["loc"], raw)
    context = item.get("ctx", {})
    kind = item["type"]
    if kind == "extra_forbidden":
        text = f"`{where}` is not a known key; {_known_keys(item['loc'])}"
    elif kind == "value_error":
        text = f"{f'`{where}` ' if where else ''}{context.get('error', item['msg'])}"
    elif kind == "literal_error":
        text = f"`{where}` {_one_of(str(context['expected']), item['input'])}"
    elif kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        text = f"`{where}` must be {words} {context[name]}, not {_shown(item['input'])}"
    elif kind in _WANTED:
        text = f"`{where}` {_WANTED[kind]}, not {_shown(item['input'])}{_as_list(item)}"
    elif kind == "string_pattern_mismatch":
        text = f"`{where}` {_PATTERNS[str(item['loc'][-1])]}, not {_shown(item['input'])}"
    else:
        text = f"`{where}` {_OTHER.get(kind, item['msg'])}"
    return text


def _as_list(item: ErrorDetails) -> str:
    scalar = item["type"] == "tuple_type" and isinstance(item["input"], int | float | str)
    return f"; write [{item['input']}]" if scalar else ""


def _known_keys(loc: tuple[int | str, ...]) -> str:
    parents = [part for part in loc[:-1] if isinstance(part, str) and part in SECTIONS]
    section = parents[-1] if parents else ""
    near = nearest_key(str(loc[-1]), section)
    if near:
        return f"did you mean {near}?"
    return "known here are " + ", ".join(SECTIONS[section].model_fields)


def _one_of(expected: str, given: Any) -> str:
    known = [word.strip().strip("'") for word in expected.replace(" or ", ", ").split(",")]
    near = difflib.get_close_matches(str(given), known, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"must be one of {', '.join(known)}, not {_shown(given)}{hint}"


def _path(loc: Sequence[int | str], raw: Any) -> str:
    """The key's path as written: indices that our own turning of scalars into axes added are left out."""
    text = ""
    at = raw
    for place, part in enumerate(loc):
        if isinstance(part, int):
            if not isinstance(at, list):
                continue
            after = loc[place + 1] if place + 1 < len(loc) else None
            if isinstance(after, int) and not (part < len(at) and isinstance(at[part], list)):
                continue
            text += f"[{part}]"
            at = at[part] if part < len(at) else None
        elif not part.startswith("@"):
            known = isinstance(at, Mapping) and part in at
            if text and not known and not _is_key(part, at):
                continue
            text += f".{part}" if text else part
            at = at[part] if known else None
    return text


def _is_key(part: str, at: Any) -> bool:
    # Pydantic adds the names of a union's branches (`int`, `literal['all']`) to the path.
    return isinstance(at, Mapping) and part.isidentifier()


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a section of keys"
    if isinstance(value, list | tuple):
        return "a list"
    if hasattr(value, "isoformat"):
        return f"the date {value.isoformat()} (quote it if it is meant as text)"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
