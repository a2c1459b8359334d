"""Real libraries whose declarations or headers were changed: each is refused before anything is called."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from llamacpp_tools.build import toolchain
from llamacpp_tools.build.layout import write_layout
from llamacpp_tools.build.manifest import Build

from .child import copied, opened, refusal, sealed

pytestmark = pytest.mark.build

# What is changed, in the header's text and in the declarations': a pattern that must fit once, and its replacement;
# then the name that the sentence must hold, and the values of the true text and of the changed one.
MUTATIONS = {
    "two fields swapped": (
        r"(\n\s*uint32_t )n_batch(;.*?\n\s*uint32_t )n_ubatch;",
        r"\1n_ubatch\2n_batch;",
        "the offset of struct llama_context_params.n_batch is {} in the headers and {} in the declarations",
        ("4", "8"),
    ),
    "a field inserted": (
        r"(struct llama_context_params \{\s*uint32_t n_ctx;)",
        r"\1 uint32_t n_new;",
        "the offset of struct llama_context_params.n_batch is {} in the headers and {} in the declarations",
        ("4", "8"),
    ),
    "a field inserted in padding": (
        r"(struct llama_batch \{\s*int32_t n_tokens;)",
        r"\1 int32_t n_new;",
        "the number of members of struct llama_batch is {} in the headers and {} in the declarations",
        ("7", "8"),
    ),
    "an initialiser dropped": (
        r"(LLAMA_ROPE_TYPE_NEOX)\s*= \w+",
        r"\1",
        "LLAMA_ROPE_TYPE_NEOX is {} in the headers and {} in the declarations",
        ("2", "1"),
    ),
    "an initialiser dropped, and others follow": (
        r"(GGML_TYPE_Q5_0)\s*= \w+",
        r"\1",
        "GGML_TYPE_Q5_0 is {} in the headers and {} in the declarations",
        ("6", "4"),
    ),
    "another type of the same size": (
        r"float(\s+)rope_freq_scale;",
        r"int32_t\1rope_freq_scale;",
        "the type of struct llama_context_params.rope_freq_scale is {} in the headers and {} in the declarations",
        ("float32", "int32"),
    ),
    "another pointer": (
        r"float(\s+)\*(\s+)embd;",
        r"double\1*\2embd;",
        "the type of struct llama_batch.embd is {} in the headers and {} in the declarations",
        ("float32 *", "float64 *"),
    ),
    "a function that returns something else": (
        r"uint32_t(\s+)llama_n_ctx(\s*)\(",
        r"float\1llama_n_ctx\2(",
        "the type of llama_n_ctx is {} in the headers and {} in the declarations",
        ("uint32 (*)(struct llama_context *)", "float32 (*)(struct llama_context *)"),
    ),
}


def mutate(file: Path, what: str) -> None:
    pattern, replacement, _, _ = MUTATIONS[what]
    text, count = re.subn(pattern, replacement, file.read_text(), flags=re.DOTALL)
    assert count == 1, (what, count)
    file.write_text(text)


@pytest.mark.parametrize("what", MUTATIONS)
def test_a_library_with_other_declarations_is_refused(patched: Build, tmp_path: Path, what: str) -> None:
    build = copied(patched, tmp_path / "build")
    mutate(build.declarations, what)
    _, _, words, (true, changed) = MUTATIONS[what]
    said = refusal(build.path)
    if what == "a field inserted":
        assert "struct llama_context_params.n_new is not in the headers" in said
    assert words.format(true, changed) in said
    assert said.endswith("run `llt build` again")


@pytest.mark.parametrize("what", MUTATIONS)
def test_a_library_with_other_headers_is_refused(patched: Build, tmp_path: Path, what: str) -> None:
    build = copied(patched, tmp_path / "build")
    tree = tmp_path / "tree"
    for folder in ("include", "ggml/include"):
        shutil.copytree(patched.folder / "src" / folder, tree / folder)
    header = "ggml/include/ggml.h" if "GGML" in MUTATIONS[what][0] else "include/llama.h"
    mutate(tree / header, what)
    write_layout(tree, toolchain.require("cpu").cxx, build.declarations, build.layout)
    sealed(build)
    _, _, words, (true, changed) = MUTATIONS[what]
    assert words.format(changed, true) in refusal(build.path)


def test_a_layout_that_was_changed_by_hand_is_refused(patched: Build, tmp_path: Path) -> None:
    build = copied(patched, tmp_path / "build")
    build.layout.write_text(build.layout.read_text().replace("float32", "float64", 1))
    assert refusal(build.path).startswith(f"{build.layout} is not what its manifest says (sha256 ")


def test_an_unchanged_copy_is_loaded(patched: Build, tmp_path: Path) -> None:
    build = copied(patched, tmp_path / "build")
    sealed(build)
    done = opened(build.path)
    assert done.returncode == 0, done.stdout + done.stderr
