"""A llama-server started and ended, and completions of it: for benchmarks, and for the tests that ask one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llamacpp_tools.build.manifest import Build

START_S, STOP_S = 120.0, 10.0


@contextmanager
def llama_server(build: Build, model: Path, *flags: str, log: Path | None = None) -> Iterator[str]:
    """A llama-server that answers; yields its address.

    Args:
        build: a build with tools.
        model: a GGUF file.
        flags: more of its arguments; one slot unless they say otherwise.
        log: a file for what it prints.

    Raises:
        RuntimeError: it ended, or did not answer within two minutes.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    where = f"http://127.0.0.1:{port}"
    command = [
        build.tool("llama-server"),
        "-m",
        model,
        "--port",
        port,
        "--host",
        "127.0.0.1",
        "-np",
        "1",
        *flags,
    ]
    with (log or Path(os.devnull)).open("wb") as printed:
        server = subprocess.Popen([str(word) for word in command], stdout=printed, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + START_S
        while True:
            try:
                urllib.request.urlopen(f"{where}/health", timeout=5).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > end:
                    raise RuntimeError("llama-server does not answer") from None
                time.sleep(0.05)
        yield where
    finally:
        server.terminate()
        try:
            server.wait(STOP_S)
        except subprocess.TimeoutExpired:
            # Upstream's handler of the signal takes the queue's lock, which the interrupted thread may hold just then.
            server.kill()
            server.wait()


def completion(
    where: str, prompt: list[int] | str, n_predict: int, timeout_s: float = 3600, **asked: Any
) -> dict[str, Any]:
    """What llama-server answers; greedy and from nothing unless `asked` says otherwise."""
    body = {
        "prompt": prompt, "n_predict": n_predict, "temperature": 0, "top_k": 1, "ignore_eos": True,
        "cache_prompt": False, "return_tokens": True,
    } | asked  # fmt: skip
    request = urllib.request.Request(
        f"{where}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def completions(
    where: str, prompts: list[str], n_predict: int, timeout_s: float = 3600
) -> list[dict[str, Any]]:
    """What llama-server answers to all of these at once, each in a slot of its own."""
    with ThreadPoolExecutor(len(prompts)) as askers:
        asked = [
            askers.submit(completion, where, prompt, n_predict, timeout_s, id_slot=slot)
            for slot, prompt in enumerate(prompts)
        ]
        return [each.result() for each in asked]


def completion_beside(
    where: str,
    long: str,
    n_long: int,
    short: Callable[[int], str],
    n_short: int,
    gap_s: float,
    timeout_s: float = 3600,
) -> tuple[dict[str, Any], int]:
    """What llama-server answers in one slot while short requests come and go in another, and how many these were.

    Args:
        where: the address of a server with two slots.
        long, n_long: the prompt, and how many tokens the answer has.
        short, n_short: the same of a short request, its prompt by its number.
        gap_s: from the end of a short request to the next one.
        timeout_s: of each.
    """
    asked = 0
    with ThreadPoolExecutor(1) as asker:
        answer = asker.submit(completion, where, long, n_long, timeout_s, id_slot=0)
        while not wait([answer], gap_s).done:
            completion(where, short(asked), n_short, timeout_s, id_slot=1)
            asked += 1
        return answer.result(), asked
