"""The result document as text and back: keys in the schema's order, lists of numbers on one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llamacpp_tools.errors import BadInput
from llamacpp_tools.files import write_text_atomic
from llamacpp_tools.results.schema import Document


def as_json(result: Document) -> dict[str, Any]:
    """The document as JSON values."""
    return result.model_dump(mode="json", by_alias=True)


def to_text(result: Document) -> str:
    """The document as a file holds it."""
    return _format(as_json(result), 0) + "\n"


def write(path: Path, result: Document) -> None:
    """Replace the file at `path` by the document, in one step.

    Raises:
        OSError: the folder cannot be written, or the disk is full; the old file is as it was.
    """
    write_text_atomic(path, to_text(result))


def read(path: Path) -> Document:
    """The document at `path`.

    Raises:
        BadInput: there is none, or it does not follow the schema.
    """
    try:
        return Document.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"there is no result file {path}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise BadInput(f"{path} is not a result file of this version: {where}: {first['msg']}") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"the result file {path} cannot be read: {error}") from None


def _format(value: Any, depth: int) -> str:
    inner, outer = "  " * (depth + 1), "  " * depth
    if isinstance(value, dict) and value:
        items = [f"{inner}{json.dumps(key)}: {_format(item, depth + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{outer}}}"
    if isinstance(value, list) and any(isinstance(item, dict | list | str) for item in value):
        items = [f"{inner}{_format(item, depth + 1)}" for item in value]
        return "[\n" + ",\n".join(items) + f"\n{outer}]"
    return json.dumps(value, ensure_ascii=False)
