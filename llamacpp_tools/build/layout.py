"""Where the built tree's own headers put things: measured by a small program that the build's compiler makes.

The program is generated from what cffi read in the declarations: every struct with its fields, every enum, every
constant, every function. The compiler sees nothing but the headers, so what it answers is what the library was
compiled with; `ffi.layout` holds cffi's idea against it before anything is called.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llamacpp_tools.build.abi import load_abi
from llamacpp_tools.build.options import native_dir
from llamacpp_tools.errors import CheckFailed
from llamacpp_tools.files import write_text_atomic

_ENUM = re.compile(r"\benum\s+(\w+)\s*\{")
# Members are counted up to this many more than the declarations have: enough to name the number in a sentence.
_SPARE_MEMBERS = 8


def write_layout(tree: Path, cxx: str, declarations: Path, target: Path) -> None:
    """Measure the headers of a tree and write the answer to `target`, whole or not at all.

    The document has `records` (name → size and alignment in bytes, members, and fields in order: name, type, offset
    and size in bytes), `enums` (name → underlying type), `constants` (name → value), `functions` (name → type).

    Args:
        tree: the llama.cpp tree that is built; only its public headers are read.
        cxx: the C++ compiler.
        declarations: what cffi reads, taken from these headers.
        target: the JSON file to write.

    Raises:
        CheckFailed: the headers lack something that the declarations have, or the program does not run.
    """
    source = probe_source(load_abi(declarations), declarations.read_text(encoding="utf-8"))
    write_text_atomic(target, json.dumps(_document(_measured(source, cxx, tree)), indent=1) + "\n")


def probe_source(ffi: Any, text: str) -> str:
    """The program in C++ for what `ffi` made of the declarations `text` (see `native/llt_layout.h`)."""
    complete = complete_records(ffi)
    longest = max((member_count(ffi, ffi.typeof(name)) for name in complete), default=0) + _SPARE_MEMBERS
    enums = sorted({f"enum {tag}" for tag in _ENUM.findall(text)} | _unnamed(ffi, ("enum",)))
    functions, constants = declared_names(ffi)
    lines = ['#include "llt_layout.h"']
    lines += [f"LLT_TAKES({count}, {', '.join(['{}'] * count)})" for count in range(1, longest + 1)]
    lines += [f"LLT_NAMED({name})" for name in [*_records(ffi), *enums]]
    lines.append("int main() {")
    for name in complete:
        is_struct = ffi.typeof(name).kind == "struct"
        lines.append(f"LLT_RECORD({name}, {f'(llt_members<{name}, {longest}>())' if is_struct else 0});")
        lines += [f"LLT_FIELD({name}, {path});" for path, _, _ in fields_of(ffi, ffi.typeof(name))]
    lines += [f"LLT_ENUM({name});" for name in enums]
    lines += [f"LLT_CONSTANT({name});" for name in constants]
    lines += [f"LLT_FUNCTION({name});" for name in functions]
    return "\n".join([*lines, "}", ""])


def complete_records(ffi: Any) -> list[str]:
    """Names of the structs and unions whose fields are declared, as C spells them."""
    return [name for name in _records(ffi) if _is_complete(ffi, ffi.typeof(name))]


def declared_names(ffi: Any) -> tuple[list[str], list[str]]:
    """Names of the functions (and the few variables) and of the enum constants that are declared."""
    functions, constants = [], []
    for name in dir(ffi.dlopen(None)):
        try:
            ffi.integer_const(name)
        except ffi.error:
            functions.append(name)
        else:
            constants.append(name)
    return functions, constants


def fields_of(ffi: Any, record: Any, before: str = "", base: int = 0) -> Iterator[tuple[str, Any, int]]:
    """(path, cffi type, offset in bytes) of each field in order.

    The fields of a member whose type has no name follow it (`adamw.alpha`): nothing else would measure them. Those
    of a union without a name of its own are the struct's, for C as for cffi.
    """
    for name, field in record.fields:
        path, offset = before + name, base + field.offset
        yield path, field.type, offset
        if is_unnamed(field.type):
            yield from fields_of(ffi, field.type, f"{path}.", offset)


def member_count(ffi: Any, record: Any) -> int:
    """How many members the compiler counts: fields that lie over each other are a union without a name, one member."""
    count, end = 0, 0
    for _, field in record.fields:
        if field.offset >= end:
            count += 1
        end = max(end, field.offset + ffi.sizeof(field.type))
    return count


def is_unnamed(ctype: Any) -> bool:
    """True for a struct or union that has neither a tag nor a typedef; cffi numbers them."""
    return ctype.kind in ("struct", "union") and "$" in ctype.cname


def _records(ffi: Any) -> list[str]:
    _, structs, unions = ffi.list_types()
    # What begins with an underscore is the system's own.
    tagged = [f"struct {tag}" for tag in structs if tag[0] not in "_$"]
    return [
        *tagged,
        *(f"union {tag}" for tag in unions if tag[0] not in "_$"),
        *sorted(_unnamed(ffi, ("struct", "union"))),
    ]


def _unnamed(ffi: Any, kinds: tuple[str, ...]) -> set[str]:
    """Typedefs of types that have no tag: their name is the typedef's."""
    found = ((name, ffi.typeof(name)) for name in ffi.list_types()[0])
    return {name for name, ctype in found if ctype.kind in kinds and ctype.cname == name}


def _is_complete(ffi: Any, ctype: Any) -> bool:
    try:
        ffi.sizeof(ctype)
    except ffi.error:
        return False
    return True


def _measured(source: str, cxx: str, tree: Path) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="llt-layout-") as scratch:
        file, program = Path(scratch) / "layout.cpp", Path(scratch) / "layout"
        file.write_text(source, encoding="utf-8")
        includes = [tree / "include", tree / "ggml" / "include", native_dir()]
        command = [
            cxx,
            "-std=c++17",
            "-w",
            *(f"-I{folder}" for folder in includes),
            "-o",
            str(program),
            str(file),
        ]
        env = os.environ | {"LC_ALL": "C"}
        made = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
        if made.returncode != 0:
            lines = made.stderr.splitlines()
            error = next((line.partition("error: ")[2] for line in lines if "error: " in line), "no message")
            raise CheckFailed(f"the headers in {tree} are not what the declarations were taken from: {error}")
        ran = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise CheckFailed(
            f"the program that measures the headers in {tree} ended with status {ran.returncode}"
        )
    return [json.loads(line) for line in ran.stdout.splitlines()]


def _document(rows: list[dict[str, Any]]) -> dict[str, Any]:
    records: dict[str, dict[str, Any]] = {}
    for row in rows:
        if "record" in row:
            kept = {name: row[name] for name in ("size", "align", "members")}
            records[row["record"]] = {**kept, "fields": []}
        elif "field" in row:
            records[row["of"]]["fields"].append([row["field"], row["type"], row["offset"], row["size"]])
    return {
        "records": records,
        "enums": {row["enum"]: row["type"] for row in rows if "enum" in row},
        "constants": {row["constant"]: row["value"] for row in rows if "constant" in row},
        "functions": {row["function"]: row["type"] for row in rows if "function" in row},
    }
