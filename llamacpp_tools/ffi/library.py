"""Loading libllama and our shim: from a manifest's folder, checked by hash, and from nowhere else."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import logging
import re
from collections import deque
from pathlib import Path
from typing import Any

import cffi

from llamacpp_tools.build.manifest import Build
from llamacpp_tools.errors import CheckFailed, LltError
from llamacpp_tools.files import sha256_file, write_atomic

log = logging.getLogger("llamacpp_tools.libllama")

_LEVELS = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.WARNING, 4: logging.ERROR}
_CONTINUED = 5
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
        self._callback = ffi.callback(
            "void(enum ggml_log_level, const char *, void *)", self._on_log, onerror=self._on_escape
        )
        lib.llama_log_set(self._callback, ffi.NULL)
        lib.ggml_backend_load_all()
        lib.llama_backend_init()

    def _on_log(self, level: int, text: Any, _data: Any) -> None:
        try:
            if level != _CONTINUED:
                self._level = _LEVELS.get(level, logging.DEBUG)
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
        return LibraryError(f"{what}: {said[0]}" if said else what)


@functools.lru_cache(maxsize=1)
def _loaded(manifest: Path) -> Library:
    from llamacpp_tools.build.manifest import load

    build = load(manifest)
    for path, expected in (
        (build.library, build.manifest.library_sha256),
        (build.shim, build.manifest.shim_sha256),
    ):
        found = sha256_file(path) if path.is_file() else "nothing"
        if found != expected:
            raise CheckFailed(
                f"{path} is not what its manifest says (sha256 {found[:12]}): run `llt build` again"
            )
    ffi = _abi(build).ffi
    return Library(build, ffi, *_open(ffi, build))


def open_library(build: Build) -> Library:
    """Load the library of a build, once per process.

    Raises:
        CheckFailed: its files are not those the manifest describes, or a foreign libllama is in the way.
        LibraryError: another build is loaded in this process already.
    """
    if _loaded.cache_info().currsize and _loaded_path[0] != build.path:
        raise LibraryError(
            f"this process has {_loaded_path[0].parent.name} loaded; use a new process for {build.path}"
        )
    library = _loaded(build.path)
    _loaded_path[:] = [build.path]
    return library


_loaded_path: list[Path] = []


def _open(ffi: Any, build: Build) -> tuple[Any, list[Any]]:
    folder = build.library.parent
    # By absolute path and in order of dependence: a name that is loaded is not searched for again, so
    # LD_LIBRARY_PATH and the system's own libllama have no say.
    held = []
    for pattern in ("libggml-base.so*", "libggml-*.so*", "libggml.so*", "libllama.so*"):
        for path in sorted(folder.glob(pattern)):
            if not path.is_symlink():
                held.append(ffi.dlopen(str(path), ffi.RTLD_NOW | ffi.RTLD_GLOBAL))
    lib = ffi.dlopen(str(build.shim), ffi.RTLD_NOW)
    for mapped in _mapped_libraries():
        path = Path(mapped)
        if path.name.startswith(("libllama.so", "libggml")) and not path.parent.samefile(folder):
            raise CheckFailed(
                f"{mapped} is loaded beside {build.library}: a process can hold one libllama only"
            )
    return lib, held


def _mapped_libraries() -> set[str]:
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return {line.split(maxsplit=5)[5] for line in lines if line.count(" ") >= 5 and ".so" in line}


def _abi(build: Build) -> Any:
    """The declarations as an importable module, made once per build: parsing C takes most of a second."""
    module = build.folder / "llt_abi.py"
    if not module.is_file() or module.stat().st_mtime < build.declarations.stat().st_mtime:
        builder = cffi.FFI()
        builder.set_source("llt_abi", None)
        builder.cdef(_prelude() + build.declarations.read_text(encoding="utf-8"), override=True)
        # cffi says on stdout what it writes, and stdout belongs to the verb's own document.
        with write_atomic(module) as part, contextlib.redirect_stdout(io.StringIO()):
            builder.emit_python_code(str(part))
    spec = importlib.util.spec_from_file_location("llt_abi", module)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def _prelude() -> str:
    # FILE and va_list come from system headers that are left out; nothing of ours passes either.
    return "typedef struct _IO_FILE FILE;\n"
