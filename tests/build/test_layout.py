"""What the probe measures of a small header, and what a comparison says of each way to get it wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llamacpp_tools.build.abi import load_abi
from llamacpp_tools.build.layout import write_layout
from llamacpp_tools.errors import CheckFailed
from llamacpp_tools.ffi.layout import check_functions, check_layout

from .header import HEADER, compilers, declared, replaced, write_tree

# old text, new text, and what the sentence must hold when the declarations are wrong, and when the headers are.
MUTATIONS = {
    "two fields of one size swapped": (
        "uint32_t n_batch;\n    uint32_t n_ubatch;",
        "uint32_t n_ubatch;\n    uint32_t n_batch;",
        "the offset of struct llama_params.n_batch is 0 in the headers and 4 in the declarations",
        "the offset of struct llama_params.n_batch is 4 in the headers and 0 in the declarations",
    ),
    "a field inserted": (
        "float    scale;",
        "float    scale;\n    int64_t n_new;",
        "struct llama_params.n_new is not in the headers",
        "the number of members of struct llama_params is 14 in the headers and 13 in the declarations",
    ),
    "a field inserted where padding was": (
        "bool     offload;",
        "bool     offload;\n    bool offload_more;",
        "struct llama_params.offload_more is not in the headers",
        "the number of members of struct llama_params is 14 in the headers and 13 in the declarations",
    ),
    "a field inserted at the end, in padding": (
        "bool     last;",
        "bool     last;\n    bool very_last;",
        "struct llama_params.very_last is not in the headers",
        "the number of members of struct llama_params is 14 in the headers and 13 in the declarations",
    ),
    "an initialiser dropped": (
        "LLAMA_KIND_B = 5",
        "LLAMA_KIND_B",
        "LLAMA_KIND_B is 5 in the headers and 1 in the declarations; LLAMA_KIND_C is 6 in the headers and 2",
        "LLAMA_KIND_B is 1 in the headers and 5 in the declarations; LLAMA_KIND_C is 2 in the headers and 6",
    ),
    "a type of the same size": (
        "float    scale;",
        "int32_t  scale;",
        "the type of struct llama_params.scale is float32 in the headers and int32 in the declarations",
        "the type of struct llama_params.scale is int32 in the headers and float32 in the declarations",
    ),
    "a sign": (
        "int32_t  n_threads;",
        "uint32_t n_threads;",
        "the type of struct llama_params.n_threads is int32 in the headers and uint32 in the declarations",
        "the type of struct llama_params.n_threads is uint32 in the headers and int32 in the declarations",
    ),
    "an enum for an integer": (
        "enum llama_kind kind;\n",
        "uint32_t kind;\n",
        "the type of struct llama_params.kind is enum llama_kind in the headers and uint32",
        "the type of struct llama_params.kind is uint32 in the headers and enum llama_kind",
    ),
    "another callback": (
        "bool (*llama_ask)(void * data",
        "bool (*llama_ask)(int64_t data",
        "struct llama_params.ask is bool (*)(void *, enum llama_kind, float32 * *) in the headers and bool (*)(int64,",
        "struct llama_params.ask is bool (*)(int64, enum llama_kind, float32 * *) in the headers and bool (*)(void *,",
    ),
    "another size of array": (
        "char     name[10];",
        "char     name[12];",
        "the type of struct llama_params.name is char [10] in the headers and char [12] in the declarations",
        "the type of struct llama_params.name is char [12] in the headers and char [10] in the declarations",
    ),
    "a field of a struct without a name": (
        "float alpha; double beta;",
        "float beta; double alpha;",
        "the type of struct llama_params.tuned.alpha is float32 in the headers and float64",
        "the type of struct llama_params.tuned.alpha is float64 in the headers and float32",
    ),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = write_tree(tmp_path_factory.mktemp("header") / "tree")
    write_layout(made, compilers()[1], declared(made), made / "layout.json")
    return made


@pytest.fixture(scope="module")
def measured(tree: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tree / "layout.json").read_text())
    return found


def test_the_document_has_every_field_in_order_with_its_type_offset_and_size(
    measured: dict[str, Any],
) -> None:
    params = measured["records"]["struct llama_params"]
    assert [params[name] for name in ("align", "members")] == [8, 13]
    assert params["fields"][:6] == [
        ["n_batch", "uint32", 0, 4],
        ["n_ubatch", "uint32", 4, 4],
        ["n_threads", "int32", 8, 4],
        ["scale", "float32", 12, 4],
        ["kind", "enum llama_kind", 16, 4],
        ["offload", "bool", 20, 1],
    ]
    kinds = {name: kind for name, kind, _, _ in params["fields"]}
    assert kinds["other"] == "struct llama_context *"
    assert kinds["halves"] == "llama_half [3] [2]"
    assert kinds["tuned"] == "struct of 16 bytes"
    assert kinds["tuned.beta"] == "float64"
    assert kinds["text"] == "char [16]"
    assert measured["enums"] == {"enum llama_kind": "int32"}
    assert measured["constants"] == {
        "LLAMA_KIND_NONE": -1,
        "LLAMA_KIND_A": 0,
        "LLAMA_KIND_B": 5,
        "LLAMA_KIND_C": 6,
        "LLAMA_KIND_D": 7,
    }
    assert measured["functions"]["llama_decode"] == "int32 (*)(struct llama_context *, struct llama_params)"
    assert {"struct llt_mtp_told", "llama_half"} < measured["records"].keys()


def test_cffi_and_the_compiler_agree_on_what_was_not_changed(tree: Path, measured: dict[str, Any]) -> None:
    check_layout(load_abi(tree / "declarations.h"), measured, "here")


@pytest.mark.parametrize("what", MUTATIONS)
def test_declarations_that_differ_from_the_headers_are_refused(
    tree: Path, measured: dict[str, Any], tmp_path: Path, what: str
) -> None:
    old, new, words, _ = MUTATIONS[what]
    wrong = declared(write_tree(tmp_path / "wrong", replaced(HEADER, old, new)))
    with pytest.raises(CheckFailed) as refused:
        check_layout(load_abi(wrong), measured, "here")
    assert words in str(refused.value)


@pytest.mark.parametrize("what", MUTATIONS)
def test_headers_that_differ_from_the_declarations_are_refused(tree: Path, tmp_path: Path, what: str) -> None:
    old, new, _, words = MUTATIONS[what]
    other = write_tree(tmp_path / "other", replaced(HEADER, old, new))
    write_layout(other, compilers()[1], tree / "declarations.h", tmp_path / "layout.json")
    with pytest.raises(CheckFailed) as refused:
        check_layout(
            load_abi(tree / "declarations.h"), json.loads((tmp_path / "layout.json").read_text()), "here"
        )
    assert words in str(refused.value)


def test_declarations_that_lack_something_are_refused(
    tree: Path, measured: dict[str, Any], tmp_path: Path
) -> None:
    fewer = replaced(HEADER, ", LLAMA_KIND_D }", " }")
    fewer = replaced(
        fewer, "int32_t llama_decode(struct llama_context * ctx, struct llama_params params);", ""
    )
    with pytest.raises(CheckFailed, match=r"LLAMA_KIND_D is not declared; llama_decode is not declared"):
        check_layout(load_abi(declared(write_tree(tmp_path / "fewer", fewer))), measured, "here")


def test_headers_that_lack_a_field_do_not_give_a_layout(tree: Path, tmp_path: Path) -> None:
    other = write_tree(tmp_path / "other", replaced(HEADER, "    float    scale;\n", ""))
    with pytest.raises(
        CheckFailed, match=r"not what the declarations were taken from: .*no member named 'scale'"
    ):
        write_layout(other, compilers()[1], tree / "declarations.h", tmp_path / "layout.json")
    assert not (tmp_path / "layout.json").exists()


def test_a_function_of_another_type_is_refused(measured: dict[str, Any]) -> None:
    # Any library will do for asking its type: one of the process's own functions is declared as another type.
    import cffi

    ffi = cffi.FFI()
    ffi.cdef("double abs(int);")
    named = {"abs": "int32 (*)(int32)"}
    with pytest.raises(
        CheckFailed, match=r"type of abs is int32 \(\*\)\(int32\) in the headers and float64 \(\*\)"
    ):
        check_functions(ffi, ffi.dlopen(None), ["abs"], {"functions": named}, "here")
    with pytest.raises(CheckFailed, match="abs is not in the headers"):
        check_functions(ffi, ffi.dlopen(None), ["abs"], measured, "here")


def test_a_sentence_names_a_few_and_counts_the_rest(tree: Path, measured: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(measured))
    for name in changed["constants"]:
        changed["constants"][name] += 1
    for field in changed["records"]["struct llama_params"]["fields"]:
        field[2] += 8
    with pytest.raises(CheckFailed) as refused:
        check_layout(load_abi(tree / "declarations.h"), changed, "here")
    assert str(refused.value).count(" in the headers and ") == 6
    assert "; and 16 more): run `llt build` again" in str(refused.value)
