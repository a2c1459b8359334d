"""A llama-server started and ended, and one completion of it: for benchmarks, and for the tests that ask one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
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
