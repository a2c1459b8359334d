"""`llt rpc-server` as a user runs it."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from llamacpp_tools.build import manifest
from llamacpp_tools.errors import BadInput, CheckFailed
from llamacpp_tools.rpc.identity import NoAnswer, ask
from llamacpp_tools.rpc.server import RpcServer, ServerOptions

ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def started(*words: str):
    """A server that has said where it serves; what `--json` says, and its process."""
    command = [
        sys.executable,
        "-m",
        "llamacpp_tools",
        "rpc-server",
        "--port",
        "0",
        "--threads",
        "1",
        "--json",
        *words,
    ]
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        text = ""
        for line in process.stdout:
            text += line
            if line == "}\n":
                break
        yield json.loads(text), process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate()


def until(true, wait_s: float = 10.0) -> bool:
    end = time.monotonic() + wait_s
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return true()


@pytest.mark.parametrize("host", ["box", "::1", "127.0.0.1:5", ""])
def test_only_an_address_can_be_listened_on(host):
    with pytest.raises(BadInput, match="--host takes an IPv4 address"):
        ServerOptions(host, 5, 1)


@pytest.mark.parametrize("port", [-1, 65535])
def test_a_port_leaves_room_for_the_identity(port):
    with pytest.raises(BadInput, match="--port takes a port from 1 to 65534"):
        ServerOptions("127.0.0.1", port, 1)


@pytest.mark.build
def test_it_says_who_it_is_and_nothing_else_listens(with_rpc):
    made = with_rpc.manifest
    with started() as (told, process):
        found = ask(told["address"])
        assert (found.tree, found.series_digest) == (made.tree, made.series_digest)
        assert found.code_sha256 == made.code_sha256 == told["code_sha256"]
        assert (found.n_threads, found.busy, found.devices[0].name) == (1, False, "CPU")
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        listening = {
            f"{each.laddr.ip}:{each.laddr.port}"
            for member in family
            for each in member.net_connections()
            if each.status == psutil.CONN_LISTEN
        }
        assert listening == {told["address"], told["identity_address"]}
        assert {address.split(":")[0] for address in listening} == {"127.0.0.1"}
        host, port = told["address"].split(":")
        with socket.create_connection((host, int(port))):
            assert until(lambda: ask(told["address"]).busy)
        assert until(lambda: not ask(told["address"]).busy)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 130
        assert said == f"llt: the RPC server on {told['address']} was stopped\n"
        assert not any(member.is_running() for member in family[1:])


@pytest.mark.build
def test_a_server_that_dies_is_said_and_no_longer_spoken_for(with_rpc):
    with started() as (told, process):
        os.kill(told["pid"], signal.SIGKILL)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 1
        assert said == f"llt: the RPC server on {told['address']} was ended by SIGKILL\n"
        with pytest.raises(NoAnswer):
            ask(told["address"])


@pytest.mark.build
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_the_server_does_not_outlive_a_killed_llt(with_rpc):
    with started() as (told, process):
        process.kill()
        process.wait()
        assert until(lambda: not psutil.pid_exists(told["pid"]))


@pytest.mark.build
def test_an_open_address_is_warned_of_and_a_taken_one_named(with_rpc, llt):
    with started("--host", "0.0.0.0") as (told, process):
        port = int(told["address"].split(":")[1])
        for taken in (port, port - 1):
            done = llt("rpc-server", "--port", taken)
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr.startswith(
                f"llt: port {port} on 127.0.0.1 is in use: name another with --port"
            )
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
        assert said.startswith(
            "WARNING: 0.0.0.0 is not loopback, and the protocol has neither encryption nor"
        )


@pytest.mark.build
def test_a_device_that_is_not_there_is_named(with_rpc, llt):
    done = llt("rpc-server", "--port", "0", "--device", "Vulkan9")
    assert done.returncode == 1
    assert done.stderr == "llt: the RPC server ended with exit code 1: unknown device: Vulkan9\n"


@pytest.mark.build
def test_a_changed_program_is_not_started(with_rpc, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(with_rpc.folder, copy, symlinks=True)
    changed = manifest.load(copy / "manifest.json")
    with changed.rpc_server.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(CheckFailed, match="ggml-rpc-server is not what its manifest says"):
        RpcServer(changed, ServerOptions("127.0.0.1", 0, 1))


def test_a_build_without_the_server_is_named(home, llt):
    done = llt("rpc-server", "--vulkan")
    assert done.returncode == 3
    assert "no patched build for vulkan with RPC is here: run `llt build --vulkan --rpc`" in done.stderr
