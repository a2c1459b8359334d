from __future__ import annotations

from pathlib import Path

import cffi
import pytest

from llamacpp_tools.build.declarations import declarations
from llamacpp_tools.build.manifest import Build

PREPROCESSED = """# 1 "/usr/include/stdio.h" 1
int printf(const char *, ...);
# 1 "/x/src/include/llama.h" 1
typedef int32_t llama_token;
struct pair { int8_t a[64 / sizeof(int32_t)]; llama_token t; };
static inline int twice(int x) { if (x) { return 2 * x; } return 0; }
_Bool ask(struct pair p);
# 9 "/usr/include/string.h"
void * memcpy(void *, const void *, unsigned long);
"""


def test_only_llama_cpps_own_declarations_are_kept_and_cffi_reads_them() -> None:
    text = declarations(PREPROCESSED)
    assert "printf" not in text
    assert "memcpy" not in text
    assert "twice" not in text
    ffi = cffi.FFI()
    ffi.cdef(text)
    assert ffi.sizeof("struct pair") == 20


@pytest.mark.build
def test_the_real_header_parses_and_has_what_the_engine_calls(patched: Build) -> None:
    text = Path(patched.declarations).read_text()
    for name in ("llama_decode", "llama_memory_seq_rm", "llt_mtp_step", "ggml_backend_dev_count"):
        assert name in text
