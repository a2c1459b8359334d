"""The Vulkan backend, on Mesa's software driver where there is no GPU: the tokens are the CPU's.

The driver compiles each shader at its first use, which takes minutes when its cache is cold; the prompt is
short and one model and one ubatch serve all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamacpp_tools.build import toolchain
from llamacpp_tools.build.machine import Machine
from llamacpp_tools.build.manifest import Build
from llamacpp_tools.build.vulkan import software_environ
from llamacpp_tools.errors import MissingTool
from tests.conftest import Llt, made

from .conftest import TEXT

pytestmark = [pytest.mark.build, pytest.mark.vulkan]
Probe = Callable[..., dict[str, Any]]
SHORT = {"text": TEXT[:260], "n_predict": 12, "n_ctx": 256, "n_batch": 128, "n_ubatch": 128}


@pytest.fixture(scope="module")
def vulkan(llt: Llt) -> Build:
    try:
        toolchain.require("vulkan")
    except MissingTool as error:
        if os.environ.get("LLT_REQUIRE_VULKAN"):
            raise
        pytest.skip(str(error))
    return made(llt, "patched", backend="vulkan")


@pytest.fixture(scope="module")
def driver() -> dict[str, str]:
    found = software_environ(Machine())
    if not found and os.environ.get("LLT_REQUIRE_VULKAN"):
        pytest.fail("no software Vulkan driver is here")
    return found


@pytest.mark.parametrize(
    "mode", [{}, {"window": 32, "full_layers": [7], "n_max": 3}], ids=["dense", "SWA+MTP"]
)
def test_vulkan_gives_the_cpus_tokens(
    probe: Probe, patched: Build, vulkan: Build, driver: dict[str, str], tiny: Path, mode: dict[str, Any]
) -> None:
    on_cpu = probe(patched, tiny, **SHORT, **mode)
    on_gpu = probe(vulkan, tiny, **SHORT, **mode, n_gpu_layers=-1, env=driver)
    assert np.array_equal(on_cpu["tokens"], on_gpu["tokens"])
    if mode:
        assert on_gpu["drafted"].sum() > 0
