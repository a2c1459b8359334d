"""The second guess of a draft rests on the MTP block's newest hidden row, whatever rode along in the batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llamacpp_tools.build.manifest import Build

from .conftest import TEXT

pytestmark = pytest.mark.build


def test_a_chain_goes_on_from_the_newest_row(patched: Build, tiny: Path) -> None:
    asked = {"manifest": str(patched.path), "model": str(tiny), "text": TEXT, "n_tokens": 900, "n_cases": 12}
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.chain"], input=json.dumps(asked), capture_output=True, text=True,
        env=os.environ | {"GGML_NO_BACKTRACE": "1"}, check=True, cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    differences = json.loads(done.stdout)
    assert len(differences) >= 3
    assert max(differences) < 0.02
