"""The names that are checked when a library is loaded are those that the code takes from it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import llamacpp_tools
from llamacpp_tools.build.abi import load_abi
from llamacpp_tools.errors import CheckFailed
from llamacpp_tools.ffi.symbols import CONSTANTS, FUNCTIONS, check_symbols

PREFIXES = ("llama_", "ggml_", "llt_", "gguf_")


def taken() -> set[str]:
    """Every `lib.NAME`, `self._lib.NAME`, `library.lib.NAME` of the package."""
    found = set()
    for path in Path(llamacpp_tools.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).rpartition(".")[2] in (
                "lib",
                "_lib",
            ):
                found.add(node.attr)
    return found


def test_both_lists_are_what_the_code_says() -> None:
    names = taken()
    assert all(name.lower().startswith(PREFIXES) for name in names)
    assert list(FUNCTIONS) == sorted(name for name in names if name.islower())
    assert list(CONSTANTS) == sorted(name for name in names if name.isupper())


def test_the_library_has_one_name_in_the_code() -> None:
    # What is fetched by any other name than `lib` would escape the scan above.
    for path in Path(llamacpp_tools.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assign) and ast.unparse(node.value).endswith((".lib", "._lib")):
                names = {ast.unparse(target).rpartition(".")[2] for target in node.targets}
                assert names <= {"lib", "_lib"}, path
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func) == "getattr"
                and path.name != "symbols.py"
            ):
                assert path.parent.name == "ffi" or "lib" not in ast.unparse(node.args[0]), path


def test_all_missing_names_are_in_one_sentence(tmp_path: Path) -> None:
    # The function is declared but in no library; the other names are not even declared.
    (tmp_path / "declarations.h").write_text("int llama_decode(void); enum kinds { GGML_TYPE_COUNT };")
    ffi = load_abi(tmp_path / "declarations.h")
    with pytest.raises(CheckFailed) as refused:
        check_symbols(ffi, ffi.dlopen(None), "here")
    said = str(refused.value)
    assert all(name in said for name in (*FUNCTIONS, *CONSTANTS) if name != "GGML_TYPE_COUNT")
    assert "GGML_TYPE_COUNT" not in said
    assert "\n" not in said
