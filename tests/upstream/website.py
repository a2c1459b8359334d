"""The two pages of ggml.ai that upstream's test-arg-parser fetches, from a server on this machine.

With the real ones the test would need the network, and would be red when that site is down or moves to https.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_PAGE = b"<html><body>llama.cpp</body></html>"


class _Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/" else 404)
        self.send_header("Content-Length", str(len(_PAGE)))
        self.end_headers()
        # The client that bounds the size hangs up in the middle.
        with contextlib.suppress(ConnectionError):
            self.wfile.write(_PAGE)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def ggml_ai(cc: str, folder: Path) -> Iterator[dict[str, str]]:
    """Serve the pages, and give the environment in which a program finds them under `http://ggml.ai/`.

    Args:
        cc: the C compiler.
        folder: an existing folder for the library that is preloaded.
    """
    library = folder / "ggml_ai.so"
    source = Path(__file__).with_name("ggml_ai.c")
    subprocess.run([cc, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Pages)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield {"LD_PRELOAD": str(library), "LLT_GGML_AI_PORT": str(server.server_port)}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
