"""Running a mode in a child process (`probe`), with defaults that fit the tiny models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamacpp_tools.build.manifest import Build
from tests import sanitizer
from tests.conftest import ROOT

DEFAULTS: dict[str, Any] = {
    "window": None, "full_layers": [], "n_max": None, "n_ctx": 1024, "n_batch": 512, "n_ubatch": 128,
    "type_k": "f16", "type_v": "f16", "flash_attn": "auto", "n_gpu_layers": 0, "ignore_eos": True,
    "text": "", "prompt": [], "n_predict": 32, "logits": False, "draft_rows": 0, "sampling": None,
    "draft_model": None,
}  # fmt: skip

TEXT = " ".join(
    f"Station {n % 7}: pump {n} checked, pressure {900 + n * 7 % 90} kPa, no fault." for n in range(24)
)


@pytest.fixture(autouse=True)
def sanitized_children(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Under `make sanitize`: a test that has the patched build fails if one of its processes did something wrong."""
    if not sanitizer.WANTED or "patched" not in request.fixturenames:
        yield
        return
    shim = request.getfixturevalue("patched").shim
    reports = tmp_path_factory.mktemp("reports")
    for name, value in sanitizer.environ(shim, reports).items():
        monkeypatch.setenv(name, value)
    yield
    found = sanitizer.findings(reports)
    assert not found, "\n\n".join(found)


def decodes(what: str, build: Build, model: Path) -> dict[str, Any]:
    """What `tests.engine.decodes` tells, from a process of its own."""
    command = [sys.executable, "-m", "tests.engine.decodes", what, str(build.path), str(model)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=os.environ | {"GGML_NO_BACKTRACE": "1"},
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class Refused(Exception):
    """The child ended with a status other than 0: (status, stderr)."""


@pytest.fixture
def probe(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(build: Build, model: Path, env: dict[str, str] | None = None, **asked: Any) -> dict[str, Any]:
        out = tmp_path / "probe.npz"
        out.unlink(missing_ok=True)
        request = DEFAULTS | asked | {"manifest": str(build.path), "model": str(model), "out": str(out)}
        done = subprocess.run(
            [sys.executable, "-m", "tests.engine.probe"], input=json.dumps(request), capture_output=True, text=True,
            env=os.environ | {"GGML_NO_BACKTRACE": "1"} | (env or {}), check=False,
            cwd=Path(__file__).resolve().parents[2],
        )  # fmt: skip
        if done.returncode != 0:
            raise Refused(done.returncode, done.stderr.strip())
        with np.load(out) as found:
            return dict(found)

    return run
