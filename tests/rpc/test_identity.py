import json
import socket
import time
from types import SimpleNamespace

import pytest

from llamacpp_tools.errors import CheckFailed
from llamacpp_tools.rpc.identity import MOST_BYTES, NoAnswer, ask, box_id, check_build
from tests.rpc.conftest import identity_of


def test_what_a_server_says_is_what_is_heard(saying, who):
    line = who.model_dump_json().encode() + b"\n"
    assert ask(saying(line)) == who
    assert ask(saying(line[:40], line[40:], pause_s=0.05)) == who


def test_nobody_there_is_said_with_what_to_start():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(NoAnswer, match=rf"port {port + 1} .*refused.*`llt rpc-server --port {port}`") as told:
        ask(f"127.0.0.1:{port}")
    assert told.value.exit_code == 3


def test_the_port_of_the_identity_is_not_the_servers(saying, who):
    host, port = saying(who.model_dump_json().encode() + b"\n").split(":")
    with pytest.raises(NoAnswer, match=rf"is where the RPC server {host}:{port} says who it is"):
        ask(f"{host}:{int(port) + 1}")


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH_9.2\r\n", b"", b"{}\n", b"\xff\xfe\n", b"x" * (MOST_BYTES * 2)]
)
def test_another_service_is_not_taken_for_a_server(saying, said):
    with pytest.raises(NoAnswer, match="is no `llt rpc-server` of this version"):
        ask(saying(said))


@pytest.mark.parametrize(
    "change",
    [
        {"llt_rpc": 2},
        {"more": 1},
        {"n_threads": "2"},
        {"devices": []},
        {"code_sha256": "no"},
        {"pin": "x" * 301},
    ],
)
def test_an_identity_that_does_not_fit_is_none(saying, who, change):
    row = {**json.loads(who.model_dump_json()), **change}
    with pytest.raises(NoAnswer):
        ask(saying(json.dumps(row).encode() + b"\n"))


def test_one_who_is_silent_or_dawdles_is_not_waited_for(saying, who):
    for address in (saying(b"", pause_s=5), saying(*[b" "] * 50, pause_s=0.05)):
        begun = time.monotonic()
        with pytest.raises(NoAnswer, match="no answer in time"):
            ask(address, timeout_s=0.3)
        assert time.monotonic() - begun < 2


def test_another_source_is_refused_and_another_compiler_is_not(who):
    here = SimpleNamespace(tree=who.tree, variant="patched", pin="b9842", series_digest=who.series_digest)
    check_build("a:1", identity_of(compiler="clang", code_sha256="f" * 64, backend="vulkan"), here)
    with pytest.raises(
        CheckFailed, match=r"a:1 is of another build \(stock b9842, .*; here patched b9842.*--rpc` there"
    ):
        check_build("a:1", identity_of(tree="0" * 40, variant="stock"), here)


@pytest.mark.parametrize(
    "change",
    [
        {"code_sha256": "f" * 64},
        {"box": "3" * 16},
        {"n_threads": 3},
        {"cpu_info": "x"},
        {"rpc_server_sha256": "f" * 64},
    ],
)
def test_a_figure_depends_on_code_and_box(who, change):
    assert identity_of(**change).figure_key != who.figure_key


def test_a_figure_does_not_depend_on_a_restart(who):
    assert identity_of(started="9" * 16, busy=True, llt_version="9").figure_key == who.figure_key


def test_a_box_has_an_id_of_its_own_that_does_not_name_it(tmp_path):
    one, two, none = tmp_path / "one", tmp_path / "two", tmp_path / "none"
    one.write_text("0123456789abcdef0123456789abcdef\n")
    two.write_text("fedcba9876543210fedcba9876543210\n")
    assert box_id([none, one]) == box_id([one]) != box_id([two])
    assert "0123" not in box_id([one]) and socket.gethostname() not in box_id([none])
