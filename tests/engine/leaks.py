"""Opens and closes modes again and again in a process of its own, and tells the resident memory after each cycle.

`forget` leaves out one thing that must be closed, so that a test can show that it would be seen.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import psutil

from llamacpp_tools.build.manifest import load
from llamacpp_tools.engine.context import ContextOptions
from llamacpp_tools.engine.recipe import Recipe
from llamacpp_tools.engine.session import Session, SessionOptions
from llamacpp_tools.errors import BadInput
from llamacpp_tools.ffi.library import Library, open_library

# One thread: two that wait for each other, on cores that others use, take twenty times as long.
CONTEXT = ContextOptions(n_ctx=512, n_batch=256, n_ubatch=64, n_threads=1)
PROMPT = range(100, 340)
PLAIN = SessionOptions(CONTEXT)
MTP = SessionOptions(CONTEXT, n_max=3)
SLIDING = SessionOptions(CONTEXT, Recipe(32, (7,)), n_max=3)
# Layer 2 is a recurrent one, which libllama says when it has begun to load the model.
REFUSED = SessionOptions(CONTEXT, Recipe(32, (2,)))
# What a cycle opens, and how many tokens it generates; with none it opens and closes only.
KINDS = ((PLAIN, 0), (PLAIN, 8), (MTP, 0), (MTP, 16), (SLIDING, 16), (REFUSED, 0))


def kinds(head: Path, alien: Path) -> tuple[tuple[SessionOptions, int], ...]:
    """All kinds: those of one file, one whose MTP block is in another, and one where that is of another model."""
    refused = replace(MTP, draft_model=alien)
    return (*KINDS, (replace(SLIDING, draft_model=head), 16), (refused, 0))


def main() -> int:
    asked = json.load(sys.stdin)
    library = open_library(load(Path(asked["manifest"])))
    all_kinds = kinds(Path(asked["head"]), Path(asked["alien"]))
    cycles = islice(cycle(all_kinds), asked["n_cycles"])
    print(json.dumps(list(resident(library, Path(asked["model"]), cycles, asked["forget"]))))
    return 0


def resident(
    library: Library, model: Path, cycles: Iterable[tuple[SessionOptions, int]], forget: str
) -> Iterator[int]:
    """Bytes of resident memory after each cycle, when everything is closed.

    Without the pages of files, which the kernel takes away and brings back as it likes, and without those that the heap
    holds and nobody uses: a context with MTP makes so many blocks of its own that their holes are 12 MB.
    """
    process = psutil.Process()
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)
    for options, n_predict in cycles:
        one_cycle(library, model, options, n_predict, forget)
        gc.collect()
        give_back(0)
        held = process.memory_info()
        yield held.rss - held.shared


def one_cycle(library: Library, model: Path, options: SessionOptions, n_predict: int, forget: str) -> None:
    """Open a mode, let it generate, close it; `forget` is empty, `decoder` or `draft`."""
    try:
        session = Session(library, model, options)
    except BadInput:
        assert n_predict == 0 and options not in (PLAIN, MTP)
        return
    if n_predict:
        session.run(PROMPT, n_predict)
    forgotten: Any = {"": None, "decoder": session.decoder, "draft": session.draft}[forget]
    if forgotten is not None:
        forgotten.close = lambda: None
    session.close()


if __name__ == "__main__":
    sys.exit(main())
