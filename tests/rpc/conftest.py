"""A server's identity without a server."""

import contextlib
import socket
import threading

import pytest

from llamacpp_tools.rpc.identity import ServedDevice, ServerIdentity


@pytest.fixture
def who() -> ServerIdentity:
    """What a small server might say of itself."""
    return identity_of()


def identity_of(**changes) -> ServerIdentity:
    """The same with some of it changed."""
    hashes = ("code_sha256", "libllama_sha256", "ggml_sha256", "rpc_server_sha256")
    told = {
        "llt_rpc": 1, "llt_version": "0.1.0", "pin": "b9842", "tree": "ab" * 20, "series_digest": "cd" * 32,
        "variant": "patched", "backend": "cpu", "compiler": "g++ 12", "mitigation": "none", "protocol": "4.0.1",
        "n_threads": 2, "cpu_info": "a CPU", "memory_bytes": 8 << 30, "box": "1" * 16, "started": "2" * 16,
        "devices": (ServedDevice(name="CPU", description="a CPU", memory_bytes=8 << 30, free_bytes=8 << 30),),
        **dict.fromkeys(hashes, "e" * 64),
    }  # fmt: skip
    return ServerIdentity(**{**told, **changes})


@pytest.fixture
def saying():
    """Starts something that says given bytes to whoever connects; gives the address whose identity that would be."""
    with contextlib.ExitStack() as stack:

        def start(*parts: bytes, pause_s: float = 0.0) -> str:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            ended = threading.Event()
            stack.callback(ended.set)

            def serve() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        connection, _ = listener.accept()
                        with connection, contextlib.suppress(OSError):
                            for part in parts:
                                connection.sendall(part)
                                ended.wait(pause_s)

            threading.Thread(target=serve, daemon=True).start()
            return f"127.0.0.1:{listener.getsockname()[1] - 1}"

        yield start
