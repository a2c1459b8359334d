import os
import shutil
import socket
import stat
from pathlib import Path

import psutil
import pytest

from llamacpp_tools.cluster import certs
from llamacpp_tools.cluster.security import ROLES, Address, address, knock, security
from llamacpp_tools.errors import BadInput, CheckFailed, MissingTool
from tests.cluster.conftest import listening


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> tuple[Path, Path]:
    """Two sets of certificates that know nothing of each other."""
    folder = tmp_path_factory.mktemp("certs")
    return certs.make(folder / "ours").folder, certs.make(folder / "theirs").folder


@pytest.mark.parametrize("text", ["tcp://10.0.0.7:8786", "tcp://lab:8786", "tcp://[2001:db8::1]:8786"])
def test_a_plain_connection_leaves_no_machine(text):
    with pytest.raises(BadInput, match="TLS is required"):
        address(text)


@pytest.mark.parametrize(
    "text", ["lab:8786", "http://lab", "tls://", "tls://lab:99999", "tls://me@lab", "tls://a/b"]
)
def test_what_is_no_address(text):
    with pytest.raises(BadInput, match="no address of a scheduler"):
        address(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("tcp://127.0.0.1:1", Address("tcp", "127.0.0.1", 1)),
        ("tcp://[::1]:1", Address("tcp", "::1", 1)),
        ("tcp://localhost", Address("tcp", "localhost", 8786)),
        ("tls://lab:9", Address("tls", "lab", 9)),
    ],
)
def test_addresses(text, found):
    assert address(text) == found


def test_a_set_is_for_its_owner_alone_and_never_overwritten(tmp_path):
    made = certs.make(tmp_path / "set")
    assert set(made.files) == {"ca.pem", *(f"{r}{end}" for r in ROLES for end in (".pem", "-key.pem"))}
    for role in ROLES:
        assert stat.S_IMODE((made.folder / f"{role}-key.pem").stat().st_mode) == 0o600
    with pytest.raises(BadInput, match="never overwritten"):
        certs.make(made.folder)


def test_a_key_that_lies_open_is_refused(tmp_path):
    made = certs.make(tmp_path / "set")
    (made.folder / "client-key.pem").chmod(0o644)
    with pytest.raises(BadInput, match="can be read by others"):
        security("client", address("tls://lab:1"), made.folder)


def test_certificates_that_are_missing(tmp_path, sets):
    with pytest.raises(BadInput, match="no folder"):
        security("client", address("tls://lab:1"), tmp_path / "none")
    with pytest.raises(BadInput, match="needs certificates"):
        security("client", address("tls://lab:1"), None)
    with pytest.raises(BadInput, match="plain connection"):
        security("client", address("tcp://127.0.0.1:1"), sets[0])


def test_who_may_not_speak_to_a_sealed_scheduler(start, sets, llt, tmp_path):
    ours, theirs = sets
    running = start("cluster", "scheduler", "--port", "0", "--certs", ours)
    where = address(listening(running))
    knock(where, security("client", where, ours))
    knock(where, security("worker", where, ours), "worker")

    with pytest.raises(CheckFailed, match="does not vouch for"):
        knock(where, security("client", where, theirs))
    # One that knows the scheduler's authority and was not signed by it.
    forged = tmp_path / "forged"
    shutil.copytree(theirs, forged)
    shutil.copy(ours / "ca.pem", forged / "ca.pem")
    with pytest.raises(CheckFailed, match="does not trust this certificate"):
        knock(where, security("client", where, forged))
    plain = Address("tcp", where.host, where.port)
    with pytest.raises(CheckFailed, match="as a scheduler with TLS does"):
        knock(plain, None)

    for words in (
        ("worker", str(where), "--certs", theirs),
        ("cluster", "boxes", str(where), "--certs", theirs),
    ):
        done = llt(*words)
        assert done.returncode == 1
        assert done.stderr.startswith("llt: the scheduler at") and "Traceback" not in done.stderr
    done = llt("worker", str(plain))
    assert done.returncode == 1 and "TLS" in done.stderr


def test_a_set_that_has_run_out(start, tmp_path):
    old = certs.make(tmp_path / "old", days=0).folder
    where = address(listening(start("cluster", "scheduler", "--port", "0", "--certs", old)))
    with pytest.raises(CheckFailed, match="has expired"):
        knock(where, security("client", where, old))


def test_tls_to_a_plain_scheduler(scheduler, sets):
    where = Address("tls", "127.0.0.1", address(scheduler).port)
    with pytest.raises(CheckFailed, match="does not speak TLS"):
        knock(where, security("client", where, sets[0]))


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = Address("tcp", "127.0.0.1", free.getsockname()[1])
    with pytest.raises(MissingTool, match="no scheduler answers"):
        knock(where, None)


def test_a_box_waits_for_a_scheduler_if_it_is_told_to(start):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    box = start("worker", f"tcp://127.0.0.1:{port}", "--name", "early", "--wait")
    box.said(rf"no scheduler listens at tcp://127.0.0.1:{port} yet")
    start("cluster", "scheduler", "--port", str(port))
    assert box.said("the box early has joined")


def test_a_scheduler_that_others_reach_needs_certificates(llt):
    done = llt("cluster", "scheduler", "--host", "0.0.0.0")
    assert done.returncode == 2 and "TLS is required" in done.stderr


def test_nothing_listens_that_was_not_asked_for(start):
    boss = start("cluster", "scheduler", "--port", "0")
    where = listening(boss)
    box = start("worker", where, "--name", "b1")
    heard = box.said(r"listens at tcp://127.0.0.1:(\d+) and")
    for process, port in ((boss.process, address(where).port), (box.process, int(heard[1]))):
        known = psutil.Process(process.pid).net_connections()
        assert [(c.laddr.ip, c.laddr.port) for c in known if c.status == psutil.CONN_LISTEN] == [
            ("127.0.0.1", port)
        ]


def test_two_boxes_of_one_name(start, scheduler, llt):
    start("worker", scheduler, "--name", "b1").said("has joined")
    done = llt("worker", scheduler, "--name", "b1")
    assert done.returncode == 1
    assert done.stderr.strip().endswith("name this one otherwise with --name")


def test_who_has_joined(start, scheduler, llt):
    assert "no box has joined" in llt("cluster", "boxes", scheduler).stdout
    start("worker", scheduler, "--name", "b1").said("has joined")
    done = llt("cluster", "boxes", scheduler)
    assert (
        done.returncode == 0 and done.stdout.startswith("b1: ") and f"{os.cpu_count()} threads" in done.stdout
    )
