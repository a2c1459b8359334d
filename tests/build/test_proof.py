"""A build proves itself: the verdict on what the child said, and the real child with a broken kernel in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from llamacpp_tools.build.manifest import Build
from llamacpp_tools.build.proof import Ended, Proof, prove

WRONG = "void ggml_vec_dot_q8_0_q8_0(int n, float * s) { *s = 1.0f; }"
CRASH = "#include <signal.h>\nvoid ggml_vec_dot_q8_0_q8_0(int n, float * s) { raise(SIGSEGV); }"


def said(*rows: dict[str, object], status: int = 0, stderr: str = "") -> Proof:
    text = "\n".join(json.dumps(row) for row in rows)
    return prove(Path("p"), Path("m"), Path("f"), runner=lambda _command, _limit: Ended(status, text, stderr))


def decoded(name: str, n_batch: int, off: float, single: float = 0.0) -> dict[str, object]:
    return {"step": "decoded", "format": name, "n_batch": n_batch, "nmse_f32": off, "nmse_single": single}


DONE = {"step": "done", "format": "", "n_batch": 0}


def test_a_build_within_its_formats_rounding_passes() -> None:
    assert said(decoded("q8_0", 2, 1e-3), decoded("q4_K", 2, 0.02), DONE).failure == ""


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (decoded("q8_0", 2, 1.2), "q8_0 at batch 2 is 1.2"),
        (decoded("f16", 8, 1e9), "f16 at batch 8"),
        (decoded("q4_K", 16, 0.02, 0.5), "off batch 1"),
    ],
)
def test_a_build_that_disagrees_is_named(row: dict[str, object], words: str) -> None:
    assert words in said(row, DONE).failure


def test_a_death_is_named_with_what_was_being_done() -> None:
    doing = {"step": "decode", "format": "q8_0", "n_batch": 2}
    assert said(doing, status=-11).failure == "killed by SIGSEGV during decode q8_0 at batch 2"
    assert "status 1" in said(doing, status=1, stderr="no memory").failure
    assert said(status=0).failure


@pytest.mark.parametrize(
    ("status", "is_disturbed"), [(1, True), (124, True), (-9, True), (-11, False), (-6, False)]
)
def test_a_child_that_gave_up_or_was_killed_tells_nothing_of_the_build(
    status: int, is_disturbed: bool
) -> None:
    assert said({"step": "decode", "format": "f16", "n_batch": 2}, status=status).disturbed == is_disturbed


def test_a_build_that_disagrees_is_not_excused() -> None:
    assert not said(decoded("q8_0", 2, 1.2), DONE).disturbed


def poisoned(tmp_path: Path, source: str) -> Path:
    (tmp_path / "poison.c").write_text(source)
    library = tmp_path / "poison.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "poison.c")], check=True)
    return library


@pytest.mark.build
@pytest.mark.skipif(
    shutil.which("cc") is None or os.name != "posix", reason="needs a C compiler and LD_PRELOAD"
)
@pytest.mark.parametrize(
    ("source", "words"), [(WRONG, "q8_0 at batch 1 is"), (CRASH, "killed by SIGSEGV during")]
)
def test_the_real_child_notices_a_broken_q8_0_kernel(
    patched: Build, tiny: Path, tmp_path: Path, source: str, words: str
) -> None:
    library = poisoned(tmp_path, source)

    def run(command: Sequence[str], limit: float) -> Ended:
        env = os.environ | {"LD_PRELOAD": str(library)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=env, check=False)
        return Ended(done.returncode, done.stdout, done.stderr)

    proof = prove(patched.library.parent / "llt_prove", tiny, tmp_path, runner=run)
    assert words in proof.failure
    assert {row["format"] for row in proof.rows} >= {"f32", "f16"}


@pytest.mark.build
def test_layers_for_a_gpu_that_is_not_here_prove_nothing(patched: Build, tiny: Path, tmp_path: Path) -> None:
    proof = prove(patched.library.parent / "llt_prove", tiny, tmp_path, n_gpu_layers=999)
    assert (proof.failure, proof.rows) == ("", ())


@pytest.mark.build
def test_the_manifest_keeps_what_was_measured(patched: Build) -> None:
    rows = patched.manifest.proof
    assert {row["format"] for row in rows} == {"f32", "f16", "q8_0", "q4_K"}
    assert {row["n_batch"] for row in rows} >= {1, 2, 16, 64}
    assert {row["n_gpu_layers"] for row in rows} == {0}
    assert patched.manifest.is_proved
    assert not patched.manifest.model_copy(update={"backend": "vulkan"}).is_proved
