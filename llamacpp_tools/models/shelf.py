"""Synthetic models that llt keeps under `LLT_HOME`, each written once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock

from llamacpp_tools import home
from llamacpp_tools.models.gguffile import Progress
from llamacpp_tools.models.reshape import reshaped
from llamacpp_tools.models.shapes import Shape, shape_named
from llamacpp_tools.models.synth import synth

PROOF_SHAPE = "tiny"


def synthetic(
    shape: str,
    seed: int = 0,
    dtype: str = "",
    sizes: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> Path:
    """The path of a synthetic model, written now if it is not there yet.

    The file's name holds a digest of the code that writes it, so an old file is never taken for a new one.

    Args:
        shape: a shape's name.
        seed: 0 or more.
        dtype: type of the matrices, empty for the shape's own.
        sizes: sizes other than the shape's (see `reshape`).
        progress: called with (bytes written, bytes in all) while it is written.

    Raises:
        BadInput: there is no such shape, dtype or size.
        MissingTool: not enough room on the disk.
    """
    wanted = reshaped(shape_named(shape), sizes or {})
    path = home.models_dir() / f"{file_stem(wanted, seed, dtype)}-{_generator_digest()}.gguf"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.is_file():
                synth(wanted, path, seed, dtype, progress)
    return path


def file_stem(shape: Shape, seed: int, dtype: str) -> str:
    """What a file of that shape, seed and type is called."""
    name = shape.name.replace(" with ", "-").replace(", ", "-").replace(" ", "")
    return f"{name}-s{seed}-{dtype or shape.dtype}"


def proof_model() -> Path:
    """The tiny f32 model that a finished build has to decode (see `build.proof`)."""
    return synthetic(PROOF_SHAPE)


def _generator_digest() -> str:
    digest = hashlib.sha256()
    for name in ("gguffile.py", "reshape.py", "shapes.py", "synth.py", "vocab.py"):
        digest.update((Path(__file__).parent / name).read_bytes())
    return digest.hexdigest()[:8]
