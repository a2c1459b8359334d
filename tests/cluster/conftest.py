"""Schedulers and workers as a user starts them: processes of their own, ended with the test."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llamacpp_tools import home
from tests.conftest import ROOT

pytest.importorskip("distributed")

LLT = [sys.executable, "-m", "llamacpp_tools"]
Start = Callable[..., "Running"]


class Running:
    """An `llt` that stays, and what it said so far."""

    def __init__(self, log: Path, words: tuple[str, ...], env: dict[str, str]) -> None:
        self.log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [*LLT, *words], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
                stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip

    def said(self, pattern: str, within_s: float = 60) -> re.Match[str]:
        """Wait until it has said something."""
        end = time.monotonic() + within_s
        while (found := re.search(pattern, self.log.read_text())) is None:
            assert time.monotonic() < end, f"no {pattern} in {self.log.read_text()!r}"
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        return found

    def kill(self) -> None:
        """End it as the memory killer would."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `llt` with these words."""
    running: list[Running] = []

    def begin(*words: str | Path, env: dict[str, str] | None = None) -> Running:
        running.append(Running(tmp_path / f"{len(running)}.log", tuple(map(str, words)), env or {}))
        return running[-1]

    yield begin
    for each in running:
        each.kill()


@pytest.fixture
def scheduler(start: Start) -> str:
    """A plain scheduler on this machine; its address."""
    return listening(start("cluster", "scheduler", "--port", "0"))


def listening(running: Running) -> str:
    return running.said(r"listens at (\S+);")[1]


def own_home(folder: Path) -> dict[str, str]:
    """A home with this machine's builds and models, and nothing else of it."""
    folder.mkdir()
    for name in ("builds", "models"):
        (folder / name).symlink_to(home.llt_home() / name)
    return {"LLT_HOME": str(folder)}
