"""Ballast changes what a model costs and not one bit of what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamacpp_tools.build.manifest import Build
from llamacpp_tools.models.ballast import Ballast, add_ballast
from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.models.recast import recast
from llamacpp_tools.models.shapes import TINY
from llamacpp_tools.models.synth import synth

from .conftest import TEXT

pytestmark = pytest.mark.build
Probe = Callable[..., dict[str, Any]]
# Where a CPU adds up f16 products in f16, a sum that zeros were added behind may round another way: logits are f16's
# numbers there, and two of them were seen one step of f16 apart.
ADDS_IN_F16 = "avx512_fp16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
BALLAST = Ballast(weights=60_000_000, kv=1500)


@pytest.fixture(scope="module", params=["f32", "f16", "q8_0"])
def dtype(request: pytest.FixtureRequest) -> str:
    """The type of a model's matrices."""
    return str(request.param)


@pytest.fixture(scope="module", params=["tiny", "miniature"])
def pair(
    request: pytest.FixtureRequest, dtype: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A model with matrices of one type, without ballast and with it: random weights, and the one that ships."""
    folder = tmp_path_factory.mktemp(f"{request.param}-{dtype}")
    light, heavy = folder / "light.gguf", folder / "heavy.gguf"
    if request.param == "tiny":
        synth(TINY, light, dtype=dtype)
    elif dtype == "q8_0":
        light = miniature()
    else:
        recast(miniature(), light, dtype)
    add_ballast(light, heavy, BALLAST)
    return light, heavy


@pytest.mark.parametrize("window", [None, 96])
def test_every_logit_is_the_same_to_the_bit(
    probe: Probe, patched: Build, pair: tuple[Path, Path], dtype: str, window: int | None
) -> None:
    asked = {
        "text": TEXT, "n_predict": 32, "n_max": 2, "logits": True, "draft_rows": 24, "window": window,
        "full_layers": [7] if window else [],  # an attention layer of both models
    }  # fmt: skip
    light, heavy = (probe(patched, path, **asked) for path in pair)
    assert len(light["prompt"]) > 500
    assert light["draft_logits"].shape[0] == 24
    assert np.ptp(light["draft_logits"]) > 1
    for name in ("logits", "draft_logits"):
        if dtype == "f16" and ADDS_IN_F16:
            assert np.allclose(light[name], heavy[name], rtol=2**-9, atol=2**-6), name
        else:
            assert np.array_equal(light[name].view(np.uint32), heavy[name].view(np.uint32)), name
    for name in ("tokens", "draft_tokens", "drafted", "accepted"):
        assert np.array_equal(light[name], heavy[name]), name
    assert heavy["memory_bytes"].sum() > light["memory_bytes"].sum()
