"""A llama.h of a few lines: enough for the shim's header, with one of each thing that a layout can get wrong."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from llamacpp_tools.build.abi import load_abi
from llamacpp_tools.build.declarations import write_declarations
from llamacpp_tools.build.toolchain import require
from llamacpp_tools.errors import MissingTool

HEADER = """
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
typedef int32_t llama_token;
typedef int32_t llama_pos;
typedef struct ggml_backend_device * ggml_backend_dev_t;
struct llama_context;
enum llama_kind { LLAMA_KIND_NONE = -1, LLAMA_KIND_A = 0, LLAMA_KIND_B = 5, LLAMA_KIND_C, LLAMA_KIND_D };
typedef bool (*llama_ask)(void * data, enum llama_kind kind, const float * values[2]);
typedef struct { uint16_t bits; } llama_half;
struct llama_params {
    uint32_t n_batch;
    uint32_t n_ubatch;
    int32_t  n_threads;
    float    scale;
    enum llama_kind kind;
    bool     offload;
    llama_ask ask;
    const struct llama_context * other;
    char     name[10];
    llama_half halves[2][3];
    struct { float alpha; double beta; } tuned;
    union { int64_t whole; double real; char text[16]; };
    bool     last;
};
struct llama_params llama_default_params(void);
int32_t llama_decode(struct llama_context * ctx, struct llama_params params);
#ifdef __cplusplus
}
#endif
"""


def write_tree(folder: Path, header: str = HEADER) -> Path:
    """A tree with no more than that header."""
    (folder / "include").mkdir(parents=True)
    (folder / "ggml" / "include").mkdir(parents=True)
    (folder / "include" / "llama.h").write_text(header)
    return folder


def replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, old
    return text.replace(old, new)


def declared(tree: Path) -> Path:
    """The declarations of a tree, in a file beside it."""
    target = tree / "declarations.h"
    write_declarations(tree, compilers()[0], target)
    load_abi(target)
    return target


@functools.cache
def compilers() -> tuple[str, str]:
    """The C and the C++ compiler that a build would take."""
    try:
        tools = require("cpu")
    except MissingTool as error:
        pytest.skip(str(error))
    return tools.cc, tools.cxx
