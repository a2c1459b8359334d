"""The trained miniature that ships with llt: where it is, what it must be, and the same with ballast.

`MINIATURE.md` beside this file is its model card.
"""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from llamacpp_tools import home
from llamacpp_tools.errors import CheckFailed
from llamacpp_tools.files import sha256_file
from llamacpp_tools.models.ballast import Ballast, add_ballast
from llamacpp_tools.models.gguffile import Progress

PATH = Path(__file__).with_name("miniature.gguf")
SHA256 = "8813583cdf9d20aafd0dc7215bcb3c0e7bea76a9baf81f941e4eb1c0b72894a5"


def miniature(ballast: Ballast | None = None, progress: Progress | None = None) -> Path:
    """The path of the miniature; with ballast, of a file under `LLT_HOME` that is written now if it is not there.

    Args:
        ballast: what the model is to cost; None for the miniature as it is.
        progress: called with (bytes written, bytes in all) while a file is written.

    Raises:
        CheckFailed: the file in the package is not the one that was shipped.
        BadInput: less ballast is asked for than the miniature weighs.
    """
    found = sha256_file(PATH) if PATH.is_file() else "missing"
    if found != SHA256:
        raise CheckFailed(
            f"{PATH} is not the miniature that ships with llt (sha256 {found[:12]}): install llt again"
        )
    if ballast is None or ballast == Ballast():
        return PATH
    path = home.models_dir() / f"miniature-w{ballast.weights}-kv{ballast.kv}-{_digest()}.gguf"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.is_file():
                add_ballast(PATH, path, ballast, progress)
    return path


def _digest() -> str:
    """Of the miniature and of the code that adds ballast, so that an old file is never taken for a new one."""
    return SHA256[:4] + sha256_file(Path(__file__).with_name("ballast.py"))[:4]
