"""What the whole suite shares: one home for builds, one build of each kind, small models."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PATCHES = ROOT / "patches"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty LLT_HOME for one test."""
    monkeypatch.setenv("LLT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def llt() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line as a user does: a process of its own."""

    def run(
        *words: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None, timeout_s: float = 1500
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "llamacpp_tools", *map(str, words)],
            cwd=cwd, env=os.environ | {"COLUMNS": "160", "PYTHONPATH": str(ROOT)} | (env or {}),
            capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip

    return run
