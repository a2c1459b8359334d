"""Processes that stay end when they are told to, whatever they are at."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT

pytest.importorskip("distributed")

# As the command line sets it: a KeyboardInterrupt, which a callback of the collector would swallow.
WITHIN_THE_COLLECTOR = """
import asyncio, gc, os, signal, sys
from llamacpp_tools.cluster.joining import until_told

number = int(sys.argv[1])
signal.signal(number, signal.default_int_handler)

async def stay():
    def told(phase, _):
        gc.callbacks.remove(told)
        os.kill(os.getpid(), number)

    gc.callbacks.append(told)
    gc.collect()
    try:
        await asyncio.sleep(40)
    finally:
        print("closed")

try:
    until_told(stay())
except KeyboardInterrupt:
    print("told", signal.getsignal(number) is signal.default_int_handler)
"""
IGNORING = """
import asyncio, os, signal
from llamacpp_tools.cluster.joining import until_told

signal.signal(signal.SIGINT, signal.SIG_IGN)

async def stay():
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(0.1)
    print("stayed")

until_told(stay())
"""
DEAF = """
import asyncio, os, signal
from llamacpp_tools.cluster import joining

async def stay():
    os.kill(os.getpid(), signal.SIGTERM)
    while True:
        try:
            await asyncio.sleep(40)
        except asyncio.CancelledError:
            pass

joining.GRACE_S = 0.5
joining.until_told(stay())
"""


def run(script: str, *words: str) -> tuple[int, str]:
    """The script's status and what it wrote, which took less than it sleeps for."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script, *words], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert time.monotonic() - began < 30
    return done.returncode, done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_end_while_garbage_is_collected(number: signal.Signals) -> None:
    assert run(WITHIN_THE_COLLECTOR, str(int(number))) == (0, "closed\ntold True\n")


def test_what_is_ignored_stays_ignored() -> None:
    assert run(IGNORING) == (0, "stayed\n")


def test_what_does_not_heed_is_ended_with_the_process() -> None:
    assert run(DEAF) == (130, "")
