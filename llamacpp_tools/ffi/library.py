"""Loading libllama and our shim: from a manifest's folder, checked by hash, and from nowhere else."""

from __future__ import annotations

import functools
import json
import logging
import re
from collections import deque
from pathlib import Path
from typing import Any

from llamacpp_tools.build.abi import load_abi
from llamacpp_tools.build.manifest import Build, load
from llamacpp_tools.errors import BadInput, LltError
from llamacpp_tools.ffi.layout import check_functions, check_layout
from llamacpp_tools.ffi.opening import check_files, check_origin, open_files
from llamacpp_tools.ffi.symbols import FUNCTIONS, check_symbols

log = logging.getLogger("llamacpp_tools.libllama")

# `function: error loading model: error loading model hyperparameters: ` says where, not why.
_PREFIX = re.compile(r"^(?:[a-z_]\w*: )?(?:error loading model(?: \w+)?: )*")
_KEPT_LINES = 200


class LibraryError(LltError):
    """libllama refused or failed; the sentence ends with what it said."""

    exit_code = 1


class Library:
    """libllama and the shim of one build, loaded.

    Attributes:
        ffi: the cffi instance with the declarations of the built header.
        lib: every function of llama.h, ggml's headers and llt_shim.h.
        build: the build it came from.
        log_lines: the library's last lines at level warning and above.
    """

    def __init__(self, build: Build, ffi: Any, lib: Any, held: list[Any]) -> None:
        self.build = build
        self.ffi = ffi
        self.lib = lib
        # cffi unloads a library when its object goes.
        self._held = held
        self.log_lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self.all_lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._errors: deque[str] = deque(maxlen=_KEPT_LINES)
        self._partial = ""
        self._level = logging.DEBUG
        self._interrupt: BaseException | None = None
        self._continued = lib.GGML_LOG_LEVEL_CONT
        self._levels = {
            lib.GGML_LOG_LEVEL_DEBUG: logging.DEBUG,
            # What libllama informs of is of no use to a user who did not ask for --debug.
            lib.GGML_LOG_LEVEL_INFO: logging.DEBUG,
            lib.GGML_LOG_LEVEL_WARN: logging.WARNING,
            lib.GGML_LOG_LEVEL_ERROR: logging.ERROR,
        }
        self._callback = ffi.callback("ggml_log_callback", self._on_log, onerror=self._on_escape)
        lib.llama_log_set(self._callback, ffi.NULL)
        # The backends are linked into our ggml and are there without ggml_backend_load_all, which would search the
        # folder of the interpreter and the current one for more.
        lib.llama_backend_init()

    def _on_log(self, level: int, text: Any, _data: Any) -> None:
        try:
            if level != self._continued:
                self._level = self._levels.get(level, logging.DEBUG)
            self._partial += self.ffi.string(text).decode("utf-8", "replace")
            while "\n" in self._partial:
                line, self._partial = self._partial.split("\n", 1)
                self._take(line.rstrip())
        except Exception:
            self._partial = ""

    def _on_escape(self, _kind: Any, error: BaseException, _trace: Any) -> None:
        # A signal's handler runs wherever the interpreter next is, which is here when the library says something.
        self._interrupt = error

    def raise_interrupt(self) -> None:
        """Raise what a signal's handler raised while the library called back, where it could not get out.

        Raises:
            KeyboardInterrupt: or whatever else the handler raised.
        """
        if self._interrupt is not None:
            error, self._interrupt = self._interrupt, None
            raise error

    def _take(self, line: str) -> None:
        if not line.strip(". "):
            return
        self.all_lines.append(line)
        if self._level >= logging.WARNING:
            self.log_lines.append(line)
        if self._level >= logging.ERROR:
            self._errors.append(line)
        log.log(self._level, "%s", line)

    def forget_log(self) -> None:
        """Forget what was said so far, before a call that may fail."""
        self.log_lines.clear()
        self._errors.clear()

    def error(self, what: str) -> LibraryError:
        """An exception for a call that failed: `what`, and the library's own reason if it gave one.

        libllama says its reason first and then, in each caller, that something failed; a warning counts only where
        there was no error.
        """
        said = [_PREFIX.sub("", line) for line in [*self._errors, *self.log_lines]]
        self.forget_log()
        reason = next((line.strip() for line in said if line.strip()), "")
        return LibraryError(f"{what}: {reason}" if reason else what)


@functools.lru_cache(maxsize=1)
def _loaded(manifest: Path) -> Library:
    build = load(manifest)
    where = str(build.folder)
    check_files(build)
    ffi = load_abi(build.declarations)
    measured = json.loads(build.layout.read_text(encoding="utf-8"))
    check_layout(ffi, measured, where)
    lib, held = open_files(ffi, build)
    check_symbols(ffi, lib, where)
    check_origin(ffi, lib, build, FUNCTIONS)
    check_functions(ffi, lib, FUNCTIONS, measured, where)
    return Library(build, ffi, lib, held)


def open_library(build: Build) -> Library:
    """Load the library of a build, once per process.

    Raises:
        BadInput: there is no manifest of this version of llt, or `build` is no build.
        CheckFailed: its files are not those the manifest describes, they are not laid out as declared, a function is
            missing, or a foreign libllama is in the way.
        LibraryError: another build is loaded in this process already.
    """
    if not isinstance(build, Build):
        raise BadInput(f"open_library takes what build.manifest.find or load returns, not {build!r}")
    if _loaded.cache_info().currsize and _loaded_path[0] != build.path:
        raise LibraryError(
            f"this process has {_loaded_path[0].parent.name} loaded; use a new process for {build.path}"
        )
    library = _loaded(build.path)
    _loaded_path[:] = [build.path]
    return library


_loaded_path: list[Path] = []
