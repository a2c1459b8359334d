"""What the benchmarks that ask a llama-server share: one started and ended, one completion."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llamacpp_tools.build.manifest import find


@contextmanager
def llama_server(model: Path, *flags: str) -> Iterator[str]:
    """A llama-server of the patched CPU build that answers; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    where = f"http://127.0.0.1:{port}"
    command = [
        find().tool("llama-server"),
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
    server = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while True:
            try:
                urllib.request.urlopen(f"{where}/health", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, "llama-server ended"
                time.sleep(0.05)
        yield where
    finally:
        server.terminate()
        server.wait()


def completion(where: str, prompt: list[int], n_predict: int, cache: bool = False) -> dict[str, Any]:
    """One greedy completion, as llama-server tells it."""
    body = {
        "prompt": prompt, "n_predict": n_predict, "temperature": 0, "top_k": 1, "ignore_eos": True,
        "cache_prompt": cache, "return_tokens": True,
    }  # fmt: skip
    request = urllib.request.Request(
        f"{where}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=3600) as answer:
        found: dict[str, Any] = json.load(answer)
        return found
