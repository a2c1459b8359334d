"""A model over two RPC servers, through `llt sweep`: the same tokens as here, and a server that dies is a row."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamacpp_tools.build.manifest import Build
from llamacpp_tools.results.schema import Document
from llamacpp_tools.rpc.identity import ask
from llamacpp_tools.rpc.server import RpcServer, ServerOptions
from llamacpp_tools.sweep.journal import journal_path
from tests.conftest import Llt, home_without_states

pytestmark = pytest.mark.build

CONFIG = """
name: boxes
model: {{miniature: {{ballast_weights: 20MB, ballast_kv: 512}}}}
context: {{n_ubatch: 128, threads: 1, flash_attn: false, rpc: {rpc}}}
swa: {{window: 256, full_layers: [11]}}
modes: {modes}
depths: [400]
workloads: [maintenance_log]
generate: {{n_predict: {n_predict}}}
rounds: {rounds}
"""


@pytest.fixture(scope="module")
def servers(with_rpc: Build) -> Iterator[list[RpcServer]]:
    """Two servers on free ports of this machine, one thread each."""
    with contextlib.ExitStack() as stack:
        options = ServerOptions("127.0.0.1", 0, 1)
        yield [stack.enter_context(RpcServer(with_rpc, options)) for _ in range(2)]


def written(folder: Path, **settings: Any) -> Path:
    path = folder / "boxes.yaml"
    usual = {"modes": ["dense", "swa", "mtp", "swa+mtp"], "n_predict": 20, "rounds": 2}
    path.write_text(CONFIG.format(**{**usual, **{key: json.dumps(value) for key, value in settings.items()}}))
    return path


def cells_of(path: Path) -> list[dict[str, Any]]:
    document = json.loads(path.read_text())
    Document.model_validate(document)
    return list(document["cells"])


def test_all_four_modes_give_the_tokens_of_this_machine(
    llt: Llt, tmp_path: Path, servers: list[RpcServer], with_rpc: Build
) -> None:
    addresses = [server.address for server in servers]
    out = tmp_path / "out.json"
    home = home_without_states(tmp_path, with_rpc)
    config = written(tmp_path, rpc=[[], addresses])
    done = llt("sweep", config, "--out", out, env={"LLT_HOME": str(home)})
    assert done.returncode == 0, done.stderr
    cells = cells_of(out)
    assert [(cell["status"], cell["reason"]) for cell in cells] == [("ok", None)] * 8
    here, there = cells[:4], cells[4:]
    assert [cell["rpc"] for cell in cells] == [[]] * 4 + [addresses] * 4
    for own, spread in zip(here, there, strict=True):
        assert own["mode"] == spread["mode"]
        assert own["output_tokens"] == spread["output_tokens"]
        assert (own["drafted"], own["accepted"]) == (spread["drafted"], spread["accepted"])
        assert own["layers"] is None
        first, second = spread["layers"].values()
        assert list(spread["layers"]) == [f"RPC0 {addresses[0]}", f"RPC1 {addresses[1]}"]
        # Twelve layers and the MTP block, none of them here and none on both.
        assert first and second and first + second == list(range(13))
        # The second round began with a kept prefill, put back over the network.
        assert [sample["filled"] for sample in spread["samples"]] == ["prefill", "restored"]
    assert there[2]["accepted"] and there[3]["accepted"]
    document = json.loads(out.read_text())
    told = document["provenance"]["rpc_servers"]
    assert [each["address"] for each in told] == addresses
    assert {each["code_sha256"] for each in told} == {with_rpc.manifest.code_sha256}
    assert {each["tree"] for each in told} == {with_rpc.manifest.tree}
    assert any(caveat.startswith("Layers lay on RPC servers") for caveat in document["caveats"])


def test_a_server_that_dies_is_a_row_and_the_sweep_goes_on(
    llt: Llt, tmp_path: Path, servers: list[RpcServer], with_rpc: Build
) -> None:
    out = tmp_path / "out.json"
    with RpcServer(with_rpc, ServerOptions("127.0.0.1", 0, 1)) as doomed:
        both = [servers[0].address, doomed.address]
        config = written(
            tmp_path, rpc=[both, [servers[0].address]], modes=["dense", "swa"], n_predict=400, rounds=1
        )
        killer = threading.Thread(target=_kill_while_it_decodes, args=(doomed, journal_path(out)))
        killer.start()
        done = llt("sweep", config, "--out", out)
        killer.join()
    assert done.returncode == 0, done.stderr
    dense, swa, *alive = cells_of(out)
    assert dense["status"] == "crashed"
    assert dense["reason"].startswith(
        f"the RPC server {doomed.address} died, or cannot be reached any more; the worker"
    )
    assert "Remote RPC server" in dense["reason"]
    assert swa["status"] == "skipped"
    assert swa["reason"].startswith(f"not begun: the RPC server {doomed.address} does not say who it is")
    assert swa["wall_s"] < 5
    assert [cell["status"] for cell in alive] == ["ok", "ok"]


def _kill_while_it_decodes(server: RpcServer, journal: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and not (journal.exists() and '"loaded"' in journal.read_text()):
        time.sleep(0.02)
    os.kill(server.pid, signal.SIGKILL)
    with contextlib.suppress(Exception):
        # As `llt rpc-server` does, which then stops saying that it is there.
        server.wait()


def test_a_plain_server_of_upstreams_is_refused(llt: Llt, tmp_path: Path, with_rpc: Build) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    plain = subprocess.Popen(
        [with_rpc.rpc_server, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        done = llt("sweep", written(tmp_path, rpc=[f"127.0.0.1:{port}"]), "--out", tmp_path / "out.json")
    finally:
        plain.kill()
        plain.wait()
    assert done.returncode == 3
    assert f"the RPC server 127.0.0.1:{port} does not say who it is on port {port + 1}" in done.stderr
    assert not (tmp_path / "out.json").exists()


def test_a_server_of_another_source_is_refused(
    llt: Llt, tmp_path: Path, servers: list[RpcServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = servers[0]
    monkeypatch.setattr(
        other, "identity", other.identity.model_copy(update={"tree": "0" * 40, "variant": "stock"})
    )
    assert ask(other.address).variant == "stock"
    done = llt("sweep", written(tmp_path, rpc=[other.address]), "--out", tmp_path / "out.json")
    assert done.returncode == 1
    assert f"the RPC server {other.address} is of another build (stock b9842" in done.stderr
    assert "start `llt rpc-server` again" in done.stderr
