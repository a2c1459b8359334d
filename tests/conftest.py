"""What the whole suite shares: one home for builds, one build of each kind, small models."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llamacpp_tools.build import manifest, toolchain
from llamacpp_tools.build.build import build
from llamacpp_tools.build.manifest import Build
from llamacpp_tools.build.options import MITIGATIONS, BuildOptions, Mitigation
from llamacpp_tools.models.shelf import proof_model, synthetic
from llamacpp_tools.stack.rebase import rebase
from llamacpp_tools.stack.series import load_series
from llamacpp_tools.stack.upstream import load_upstream
from tests import sanitizer

ROOT = Path(__file__).resolve().parent.parent
PATCHES = ROOT / "patches"

Llt = Callable[..., subprocess.CompletedProcess[str]]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it runs in the background so, and tests that press Ctrl-C start programs that inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty LLT_HOME for one test."""
    monkeypatch.setenv("LLT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def llt() -> Llt:
    """Run the command line as a user does: a process of its own."""

    def run(
        *words: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None, timeout_s: float = 1500
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "llamacpp_tools", *map(str, words)],
            cwd=cwd, env=os.environ | {"COLUMNS": "160", "PYTHONPATH": str(ROOT)} | (env or {}),
            capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip

    return run


def home_without_states(folder: Path, build: Build) -> Path:
    """An LLT_HOME with the builds and models of `build`'s, and no kept prefill.

    For a test that says which cells prefill: what an earlier run kept would be restored.
    """
    shared = build.path.parents[2]
    own = folder / "home"
    own.mkdir()
    for name in ("builds", "models"):
        (own / name).symlink_to(shared / name)
    return own


def made(llt: Llt, variant: str, *options: str, backend: str = "cpu", rpc: bool = False) -> Build:
    """Build through the command line (or find it built) and return what the manifest says.

    `LLT_TEST_ONTO=v0.5.0` runs what needs a build on another upstream version (`make test-onto`), and with
    `LLT_TEST_WITHOUT=small-graphs` without a patch that does not apply there.
    """
    onto, left_out = os.environ.get("LLT_TEST_ONTO"), os.environ.get("LLT_TEST_WITHOUT")
    if left_out and variant.startswith("patched"):
        variant, options = (
            variant.replace("patched", f"patched-without-{left_out}", 1),
            (*options, "--without", left_out),
        )
    options = (*options, *(["--rpc"] if rpc else []))
    done = llt("build", f"--{backend}", *options, *(["--onto", onto] if onto else []))
    assert done.returncode == 0, done.stderr
    return manifest.find(backend, f"{variant}-onto-{onto}" if onto else variant, rpc)


@pytest.fixture(scope="session")
def patched(llt: Llt) -> Build:
    """The patched CPU build with upstream's programs; for `make sanitize` with a sanitized shim."""
    found = made(llt, "patched", "--tools")
    return rebuilt(found, "sanitized", tools=True) if sanitizer.WANTED else found


@pytest.fixture(scope="session")
def with_rpc(llt: Llt) -> Build:
    """The patched CPU build with the RPC backend and its server."""
    return made(llt, "patched", rpc=True)


@pytest.fixture(scope="session")
def stock(llt: Llt) -> Build:
    """The stock CPU build."""
    return made(llt, "stock", "--variant", "stock")


@pytest.fixture(scope="session")
def without_mtp_iswa(llt: Llt) -> Build:
    """The CPU build with the recipe but without the mtp-iswa patch: SWA+MTP aborts."""
    return made(llt, "patched-without-mtp-iswa", "--without", "mtp-iswa")


@pytest.fixture(scope="session")
def alike(stock: Build, patched: Build) -> Build:
    """The patched build with the mitigation of the stock one: only so do equal sources give equal code.

    On a CPU with AMX, gcc 12 makes a stock library that crashes, so it is built without AMX; the patched one is not.
    """
    if patched.manifest.mitigation == stock.manifest.mitigation:
        return patched
    only = tuple(each for each in MITIGATIONS if each.name == stock.manifest.mitigation)
    return rebuilt(patched, "alike", only)


def rebuilt(
    like: Build, name: str, mitigations: tuple[Mitigation, ...] = MITIGATIONS, tools: bool = False
) -> Build:
    """The same stack built in another way, as a variant of its own: what `manifest.find` returns stays what it was."""
    series = load_series(PATCHES)
    upstream = load_upstream(PATCHES)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("llamacpp_tools.build.build.MITIGATIONS", mitigations)
        found = toolchain.require("cpu")
        options = BuildOptions("cpu", f"{like.manifest.variant}-{name}", tools, added_cmake=sanitizer.CMAKE)
        stack = rebase(upstream, series, like.manifest.pin)
        return build(stack, options, found, proof_model, lambda *_: None)


@pytest.fixture(scope="session")
def only_mtp_iswa(llt: Llt) -> Build:
    """The CPU build with the mtp-iswa patch and nothing else."""
    left_out = [entry.name for entry in load_series(PATCHES).patches if entry.name != "mtp-iswa"]
    variant = "patched" + "".join(f"-without-{name}" for name in left_out)
    return made(llt, variant, *(word for name in left_out for word in ("--without", name)))


@pytest.fixture(scope="session")
def tiny() -> Path:
    """A random-weight qwen35moe with an MTP block, 8 layers, full attention in 3 and 7."""
    return synthetic("tiny")


@pytest.fixture(scope="session")
def tiny_dense() -> Path:
    """The same for qwen35 (a dense FFN), with an MTP block."""
    return synthetic("tiny-dense")


@pytest.fixture(scope="session")
def tiny_next() -> Path:
    """The same for qwen3next, which has no MTP block at the pin."""
    return synthetic("tiny-next")
