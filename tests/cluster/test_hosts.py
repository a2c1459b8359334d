"""Boxes over SSH: what the file may say, and a sweep through an sshd of the test's own."""

from __future__ import annotations

import contextlib
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

from llamacpp_tools import home
from llamacpp_tools.cluster.hosts import load, scheduler_options, settings, worker_options
from llamacpp_tools.errors import BadInput
from llamacpp_tools.results import document
from tests.conftest import ROOT


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "hosts.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("boxes: []", "boxes"),
        ("boxes: [{host: lab}]", "beyond this machine TLS is required"),
        ("boxes: [{host: localhost}, {host: localhost}]", "names localhost twice"),
        ("boxes: [{host: -oProxyCommand=x}]", "host"),
        ("boxes: [{host: localhost, nmae: a}]", "nmae"),
        ("boxes: [{host: localhost, name: 'a b'}]", "name"),
    ],
)
def test_what_a_file_may_not_say(tmp_path, text, told):
    with pytest.raises(BadInput, match=told):
        load(written(tmp_path, text))


def test_what_is_started_where(tmp_path):
    text = """
    python: /opt/llt/bin/python
    certs: /etc/llt
    port: 9000
    boxes:
      - {host: 10.0.0.5, name: strix, user: lab, models: [/models]}
      - {host: 10.0.0.6, port: 2222}
    """
    hosts = load(written(tmp_path, text))
    first = scheduler_options(hosts)
    assert first["address"] == first["kwargs"]["host"] == "10.0.0.5" and first["kwargs"]["protocol"] == "tls"
    strix, other = [worker_options(box, hosts) for box in hosts.boxes]
    assert strix["kwargs"]["name"] == "strix" and strix["connect_options"] == {"port": 22, "username": "lab"}
    assert other["kwargs"]["host"] == "10.0.0.6" and other["connect_options"]["port"] == 2222
    told = settings(hosts)
    assert told["distributed.comm.require-encryption"] is True
    assert told["distributed.comm.tls.worker.key"] == "/etc/llt/worker-key.pem"
    assert told["distributed.scheduler.idle-timeout"] == "15 minutes"


def started_over_ssh(known_by: Path) -> list[int]:
    """Schedulers and boxes that still run for this test: its folder stands in their environment or command."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            said = " ".join([*words, process.environ().get("LLT_TEST_SSH", "")])
            if "dask_spec" in said and str(known_by) in said:
                found.append(process.pid)
    return found


@pytest.mark.build
@pytest.mark.skipif(shutil.which("sshd", path="/usr/sbin:/usr/bin") is None, reason="there is no sshd here")
@pytest.mark.parametrize("sealed", [False, True], ids=["tcp", "tls"])
def test_a_sweep_over_ssh(tmp_path, patched, llt, sealed):
    keys = {name: tmp_path / name for name in ("host", "user")}
    for path in keys.values():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "known").write_text(f"[127.0.0.1]:{port} {(tmp_path / 'host.pub').read_text()}")
    Path("/run/sshd").mkdir(exist_ok=True)
    daemon = subprocess.Popen(
        [
            "/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-p", str(port), "-h", str(keys["host"]),
            "-o", "ListenAddress=127.0.0.1", "-o", f"AuthorizedKeysFile={tmp_path / 'user.pub'}",
            "-o", "StrictModes=no", "-o", "PasswordAuthentication=no", "-o", "PidFile=none",
        ],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        folder = tmp_path / "certs"
        if sealed:
            assert llt("cluster", "certs", folder).returncode == 0
        hosts = written(
            tmp_path,
            f"""
            certs: {folder if sealed else "null"}
            python: env LLT_TEST_SSH={tmp_path} PYTHONPATH={ROOT} LLT_HOME={home.llt_home()} {sys.executable}
            known_hosts: {tmp_path / "known"}
            key: {keys["user"]}
            port: 0
            boxes: [{{host: 127.0.0.1, port: {port}, user: {os.environ.get("USER", "root")}, name: one}}]
            """,
        )
        config = tmp_path / "ssh.yaml"
        config.write_text(
            "{name: ssh, model: miniature, modes: [dense], depths: [64], workloads: [maintenance_log], rounds: 1,"
            " generate: {n_predict: 4}, context: {threads: 1}}"
        )
        out = tmp_path / "out.json"
        done = llt("sweep", config, "--out", out, "--hosts", hosts)
        assert done.returncode == 0, done.stderr
        assert [cell.box for cell in document.read(out).cells] == ["one"]
        end = time.monotonic() + 20
        while started_over_ssh(tmp_path) and time.monotonic() < end:
            time.sleep(0.2)
        assert not started_over_ssh(tmp_path), "what was started over SSH outlives the sweep"
        if sealed:
            # With another authority's word nobody trusts anybody, so it was TLS that they spoke.
            assert llt("cluster", "certs", tmp_path / "others").returncode == 0
            shutil.copy(tmp_path / "others" / "ca.pem", folder / "ca.pem")
            refused = llt("sweep", config, "--out", tmp_path / "refused.json", "--hosts", hosts)
            assert refused.returncode == 1 and "could not be started over SSH" in refused.stderr, (
                refused.stderr
            )
    finally:
        # A scheduler that was still starting when its sweep was refused would stay until it has been idle for long.
        end = time.monotonic() + 3
        while sealed and time.monotonic() < end:
            for pid in started_over_ssh(tmp_path):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.2)
        daemon.terminate()
        daemon.wait()
