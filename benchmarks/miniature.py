"""What the benchmarks of the miniature share: a mode opened on it, a window in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llamacpp_tools.build.manifest import find
from llamacpp_tools.engine.context import ContextOptions
from llamacpp_tools.engine.recipe import Recipe
from llamacpp_tools.engine.session import Session, SessionOptions
from llamacpp_tools.ffi.library import Library, open_library
from llamacpp_tools.models.miniature import SHA256, miniature

KEPT = 11  # the attention layer that stays full where one does


def library() -> Library:
    """The patched CPU build."""
    return open_library(find())


def recipe(window: int | None, *, keep: bool = True) -> Recipe | None:
    """A window on the attention layers, with the last one kept full or none."""
    return None if window is None else Recipe(window, (KEPT,) if keep else ())


@contextmanager
def opened(lib: Library, n_ctx: int, recipe: Recipe | None, n_max: int | None = None) -> Iterator[Session]:
    """The miniature in one mode, on one thread, so that two of these benchmarks can run side by side."""
    options = ContextOptions(n_ctx=n_ctx, n_batch=512, n_ubatch=512, n_threads=1)
    with Session(lib, miniature(), SessionOptions(options, recipe, n_max)) as session:
        yield session


def model_facts() -> dict[str, Any]:
    """Which model the figures are of."""
    return {"model": "miniature", "model_sha256": SHA256}
