"""What a cell will take in memory, foretold by `sweep.memory`, against what the library takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llamacpp_tools.build.manifest import Build
from llamacpp_tools.models.header import check_gguf
from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.sweep.configfile import load_config
from llamacpp_tools.sweep.memory import need
from llamacpp_tools.sweep.plan import plan

from ..conftest import ROOT
from .conftest import TEXT

pytestmark = pytest.mark.build
Probe = Callable[..., dict[str, Any]]
MODES = {cell.mode: cell for cell in plan(load_config(ROOT / "configs" / "quickstart.yaml", None)).cells}


@pytest.mark.parametrize(("n_ctx", "n_ubatch", "flash_attn"), [
    (1024, 64, True), (1024, 512, False), (12288, 512, True), (12288, 256, False),
])  # fmt: skip
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("model", ["tiny", "tiny_dense", "miniature"])
def test_buffers_and_caches_are_as_foretold(
    probe: Probe, patched: Build, model: str, mode: str, n_ctx: int, n_ubatch: int, flash_attn: bool,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    path: Path = miniature() if model == "miniature" else request.getfixturevalue(model)
    spec = replace(
        MODES[mode], n_ctx=n_ctx, n_ubatch=n_ubatch, n_batch=512, flash_attn=flash_attn,
        full_layers=(7,) if MODES[mode].swa else None,
    )  # fmt: skip
    found = probe(
        patched, path, text=TEXT[:80], n_predict=1, n_ctx=n_ctx, n_ubatch=n_ubatch, n_max=spec.n_max,
        flash_attn="on" if flash_attn else "off", window=spec.window, full_layers=list(spec.full_layers or ()),
    )  # fmt: skip
    foretold = need(check_gguf(path), spec)
    assert foretold.kv == found["memory_bytes"] + found.get("draft_bytes", 0)
    # Never too little; where the buffers are so large that it matters, not much too much.
    real = int(found["compute_bytes"])
    assert real <= foretold.compute <= 1.25 * real + (16 << 20)
