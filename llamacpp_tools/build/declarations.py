"""C declarations for cffi, taken from the built tree's own header by the compiler that built it.

`llama.h` is run through the preprocessor with our shim's header; what came from other files than those and
ggml's is dropped. What remains is plain C, but for two things cffi cannot read and that are mended here.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from llamacpp_tools.build.options import native_dir
from llamacpp_tools.errors import CheckFailed

_MARKER = re.compile(r'^# \d+ "([^"]*)"')
_SIZEOF = re.compile(r"(\d+)\s*/\s*sizeof\(\s*(\w+)\s*\)")
_SIZES = {"int32_t": 4, "uint32_t": 4, "float": 4, "char": 1, "int8_t": 1, "uint8_t": 1, "int64_t": 8}
_OURS = re.compile(r"/(?:include/llama[\w.-]*\.h|ggml/include/[\w.-]+\.h|native/llt_shim\.h)$")


def write_declarations(tree: Path, compiler: str, target: Path) -> None:
    """Write the declarations of `llama.h` and `llt_shim.h` to `target`.

    Args:
        tree: the llama.cpp tree that is built.
        compiler: the C compiler.
        target: the file to write; C text that `cffi.FFI.cdef(..., override=True)` reads.

    Raises:
        CheckFailed: the preprocessor refused the header.
    """
    command = [
        # Attributes are of no use here, and their texts hold brackets that no pattern pairs.
        compiler, "-E", "-D__attribute__(anything)=", "-DLLAMA_SHARED", "-DGGML_SHARED",
        "-I", str(tree / "include"), "-I", str(tree / "ggml" / "include"),
        "-I", str(native_dir()), "-x", "c", str(native_dir() / "llt_shim.h"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CheckFailed(f"the preprocessor refused llama.h: {done.stderr.strip().splitlines()[-1]}")
    target.write_text(declarations(done.stdout), encoding="utf-8")


def declarations(preprocessed: str) -> str:
    """Keep what comes from llama.cpp's own headers and ours, in a form that cffi parses."""
    kept: list[str] = []
    ours = False
    for line in preprocessed.splitlines():
        if marker := _MARKER.match(line):
            ours = bool(_OURS.search(marker.group(1)))
        elif ours and line.strip():
            kept.append(line)
    text = "\n".join(kept).replace("__restrict", "").replace("_Bool", "bool")
    text = _drop_static_functions(text)
    return _SIZEOF.sub(lambda found: str(int(found[1]) // _SIZES[found[2]]), text) + "\n"


def _drop_static_functions(text: str) -> str:
    """A header's inline functions have bodies, which declarations must not."""
    out: list[str] = []
    position = 0
    for found in re.finditer(r"^\s*(?:static|inline|extern inline)\b[^;{]*\{", text, re.MULTILINE):
        if found.start() < position:
            continue
        out.append(text[position : found.start()])
        depth, end = 1, found.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        position = end
    return "".join([*out, text[position:]])
