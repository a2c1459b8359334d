"""Does something wrong on purpose with the shim in a process of its own: what `make sanitize` must notice."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from llamacpp_tools.build.manifest import load
from llamacpp_tools.engine.context import Context, ContextOptions
from llamacpp_tools.engine.decode import PlainDecoder
from llamacpp_tools.engine.model import Model
from llamacpp_tools.ffi.library import open_library


def main() -> int:
    asked = json.load(sys.stdin)
    library = open_library(load(Path(asked["manifest"])))
    ffi, lib = library.ffi, library.lib
    values = ffi.new("float[]", 16)
    if asked["what"] == "nothing":
        assert lib.llt_argmax(values, 16, ffi.NULL, 0) == 0
    elif asked["what"] == "overflow":
        lib.llt_argmax(values, 32, ffi.NULL, 0)
    elif asked["what"] == "misaligned":
        lib.llt_argmax(ffi.cast("float *", ffi.cast("char *", values) + 1), 8, ffi.NULL, 0)
    elif asked["what"] == "leak":
        options = ContextOptions(n_ctx=64)
        with Model(library, Path(asked["model"])) as model, Context(model, options) as context:
            PlainDecoder(context)
    return 0


if __name__ == "__main__":
    sys.exit(main())
