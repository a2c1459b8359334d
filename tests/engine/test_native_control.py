"""The rules in C++, which the patch brings, choose what those in Python choose."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from llamacpp_tools.build.manifest import Build
from llamacpp_tools.engine.control import Why

from ..conftest import ROOT

pytestmark = pytest.mark.build


def both(build: Build) -> Any:
    command = [sys.executable, "-m", "tests.engine.both_controls", str(build.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_the_patchs_controller_chooses_what_ours_chooses(patched: Build) -> None:
    found = both(patched)
    assert found["kind"] == "NativeControl"
    assert found["differ"] == []
    assert found["reasons"] == sorted(Why), "a reason that no text has is not compared"
    least, kinds = found["caught_up"]
    assert least == 8 and kinds > 5


def test_a_build_without_the_patch_is_steered_from_python(stock: Build) -> None:
    assert "spec-draft-auto" not in stock.manifest.patches
    assert both(stock)["kind"] == "Control"
