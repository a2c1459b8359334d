"""YAML as a sweep file needs it: safe types only, no key twice, `${VAR}` in strings.

PyYAML keeps the last of two equal keys in silence; here the second is an error, as a figure measured with
the other value would be wrong without a trace.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from llamacpp_tools.errors import BadInput

SIZE_LIMIT = 1 << 20
DEPTH_LIMIT = 16
NODE_LIMIT = 20_000

_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|(?P<bad>\$\{)")


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key that stands twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.value != "<<":
                if key_node.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key_node.value} stands twice", key_node.start_mark
                    )
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def load_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping with text keys; nothing is expanded yet.

    Raises:
        BadInput: no such file, not text, not YAML, a key twice, not a mapping, or absurdly large.
    """
    text = _read(path)
    try:
        loader = _Loader(text)
        try:
            data = loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise BadInput(f"{path}{_at(error)}: {_problem(error, text)}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        first = str(error).splitlines()[0] if str(error) else "unreadable"
        raise BadInput(f"{path} is not valid YAML: {first}") from None
    except RecursionError:
        raise BadInput(f"{path} is nested too deeply to be a sweep file") from None
    if not isinstance(data, dict):
        raise BadInput(f"{path} holds {_kind(data)}, a sweep file is a mapping of keys such as `name:`")
    _check_shape(data, path)
    return data


def value_of(text: str, where: str) -> Any:
    """One value as a sweep file would hold it: a number, a word, true or false.

    Args:
        text: what the user typed.
        where: what the error message begins with.

    Raises:
        BadInput: a list, a mapping, or no YAML.
    """
    try:
        value = yaml.safe_load(text[:SIZE_LIMIT])
    except (yaml.YAMLError, ValueError, RecursionError):
        value = None
    if not isinstance(value, str | int | float | bool):
        raise BadInput(f"{where} takes one value, not {text!r}")
    return value


def expand(value: Any, where: str, env: Mapping[str, str] | None = None) -> Any:
    """`value` with `${VAR}` and `${VAR:-default}` replaced in every text below it; `$$` is a dollar.

    Args:
        value: what `load_mapping` gave, or a part of it.
        where: what the error message begins with, file and key.
        env: the variables; the process's own by default.

    Raises:
        BadInput: a variable is not set and has no default, or `${` is not closed.
    """
    variables = os.environ if env is None else env
    if isinstance(value, dict):
        return {key: expand(item, f"{where}.{key}", variables) for key, item in value.items()}
    if isinstance(value, list):
        return [expand(item, f"{where}[{at}]", variables) for at, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        if match["bad"]:
            raise BadInput(f"{where}: `${{` in {value!r} begins no `${{NAME}}` or `${{NAME:-default}}`")
        found = variables.get(match["name"]) or match["default"]
        if found is None:
            name = match["name"]
            raise BadInput(f"{where}: the variable {name} is not set; set it or write ${{{name}:-default}}")
        return found

    return _VARIABLE.sub(fill, value)


def _read(path: Path) -> str:
    try:
        if path.is_dir():
            raise BadInput(f"{path} is a folder; name the sweep file in it")
        data = path.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"there is no sweep file {path}; configs/ holds some to copy") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"the sweep file {path} cannot be read: {reason}") from None
    if len(data) > SIZE_LIMIT:
        raise BadInput(f"{path} has {len(data)} bytes; a sweep file has less than {SIZE_LIMIT}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8 text, so it is no sweep file") from None


def _check_shape(data: Any, path: Path) -> None:
    # Aliases make a small file stand for an endless one: what is walked is counted, not what is written.
    stack: list[tuple[Any, int]] = [(data, 0)]
    seen = 0
    while stack:
        item, depth = stack.pop()
        seen += 1
        if seen > NODE_LIMIT or depth > DEPTH_LIMIT:
            raise BadInput(f"{path} is too large or too deep to be a sweep file")
        if isinstance(item, dict):
            for key in item:
                if not isinstance(key, str):
                    raise BadInput(f"{path}: the key {key!r} is {_kind(key)}; quote it if it is text")
            stack += [(child, depth + 1) for child in item.values()]
        elif isinstance(item, list):
            stack += [(child, depth + 1) for child in item]


def _at(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f", line {mark.line + 1}" if mark is not None else ""


def _problem(error: yaml.MarkedYAMLError, text: str) -> str:
    problem = (error.problem or error.context or "not valid YAML").replace("\n", " ")
    mark = error.problem_mark or error.context_mark
    lines = text.splitlines()
    if mark is not None and mark.line < len(lines) and "${" in lines[mark.line]:
        return f"{problem}; put ${{...}} in quotes inside brackets or braces"
    return problem


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    if hasattr(value, "isoformat"):
        return "a date"
    names = {bool: "true or false", int: "a number", float: "a number", str: "plain text", list: "a list"}
    return names.get(type(value), f"a {type(value).__name__}")
