"""Synthetic models that llt keeps under `LLT_HOME`, each written once."""

from __future__ import annotations

import hashlib
from pathlib import Path

from filelock import FileLock

from llamacpp_tools import home
from llamacpp_tools.models.shapes import shape_named
from llamacpp_tools.models.synth import synth

PROOF_SHAPE = "tiny"


def synthetic(shape: str, seed: int = 0, dtype: str = "f32") -> Path:
    """The path of a synthetic model, written now if it is not there yet.

    The file's name holds a digest of the code that writes it, so an old file is never taken for a new one.

    Raises:
        BadInput: there is no such shape or dtype.
    """
    wanted = shape_named(shape)
    path = home.models_dir() / f"{shape}-s{seed}-{dtype}-{_generator_digest()}.gguf"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.is_file():
                synth(wanted, path, seed=seed, dtype=dtype)
    return path


def proof_model() -> Path:
    """The tiny f32 model that a finished build has to decode (see `build.proof`)."""
    return synthetic(PROOF_SHAPE)


def _generator_digest() -> str:
    digest = hashlib.sha256()
    for name in ("gguffile.py", "shapes.py", "synth.py", "vocab.py"):
        digest.update((Path(__file__).parent / name).read_bytes())
    return digest.hexdigest()[:8]
