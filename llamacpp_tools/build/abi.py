"""What cffi makes of a build's declarations: an importable module beside them, made once per build.

Parsing the C takes most of a second, which neither a worker nor a command should spend again.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from pathlib import Path
from typing import Any

from llamacpp_tools.files import write_atomic

# FILE comes from a system header, which is left out of the declarations; nothing of ours passes one.
_PRELUDE = "typedef struct _IO_FILE FILE;\n"


def load_abi(declarations: Path) -> Any:
    """The cffi instance of the declarations, which loads no library by itself.

    Args:
        declarations: what `declarations.write_declarations` wrote; the module is kept in its folder.
    """
    module = declarations.with_name("llt_abi.py")
    if not module.is_file() or module.stat().st_mtime < declarations.stat().st_mtime:
        _make(declarations, module)
    spec = importlib.util.spec_from_file_location("llt_abi", module)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded.ffi


def _make(declarations: Path, module: Path) -> None:
    import cffi

    builder = cffi.FFI()
    builder.set_source("llt_abi", None)
    builder.cdef(_PRELUDE + declarations.read_text(encoding="utf-8"), override=True)
    # cffi says on stdout what it writes, and stdout belongs to the verb's own document.
    with write_atomic(module) as part, contextlib.redirect_stdout(io.StringIO()):
        builder.emit_python_code(str(part))
