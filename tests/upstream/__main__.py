"""Upstream's own tests, compiled and run on the stock tree and on the patched one, and compared.

    make upstream-tests, or python -m tests.upstream

Ends with status 1 if a test that passes on the stock tree does not pass on the patched one. A test that fails on
both is upstream's matter, or this machine's; it is told, and does not count.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from llamacpp_tools.build import toolchain
from llamacpp_tools.build.build import build
from llamacpp_tools.build.manifest import Build
from llamacpp_tools.build.options import BuildOptions
from llamacpp_tools.build.toolchain import Toolchain
from llamacpp_tools.cli.output import step_progress
from llamacpp_tools.errors import LltError
from llamacpp_tools.home import shipped
from llamacpp_tools.models.shelf import proof_model
from llamacpp_tools.stack.rebase import rebase
from llamacpp_tools.stack.series import Series, load_series
from llamacpp_tools.stack.upstream import load_upstream

from .programs import CASES, TARGETS, Outcome, run
from .website import ggml_ai

TREES = ("stock", "patched")


def main() -> int:
    try:
        found = toolchain.require("cpu")
        builds = {tree: built(tree, found) for tree in TREES}
    except LltError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    regressions = 0
    with tempfile.TemporaryDirectory(prefix="llt-") as scratch, ggml_ai(found.cc, Path(scratch)) as web:
        for case in CASES:
            print(case.name, flush=True)
            outcomes = {}
            for tree, made in builds.items():
                log = made.folder / f"{case.name.replace(' ', '-')}.log"
                outcome = run(made.tool(case.program), case, web if case.is_online else {}, log)
                outcomes[tree] = outcome
                where = "" if outcome.passed else f"; all of it: {log}"
                print(f"  {tree:8}{line(outcome)}{where}", flush=True)
            word, is_regression = verdict(*(outcomes[tree].passed for tree in TREES))
            print(f"  {word}", flush=True)
            regressions += is_regression
    trees = f"{builds['patched'].manifest.pin} with the series, against stock"
    print(f"{trees}: {len(CASES)} cases, {regressions} fail on the patched tree where the stock one passes")
    return 1 if regressions else 0


def built(tree: str, found: Toolchain) -> Build:
    """The CPU build of a tree with upstream's tests, beside the ordinary one.

    Raises:
        LltError: upstream cannot be had, the series does not apply, or the tree does not compile.
    """
    patches = shipped("patches")
    series = load_series(patches) if tree == "patched" else Series(patches, ())
    options = BuildOptions(
        "cpu", f"{tree}-upstream-tests", added_cmake=("-DLLAMA_BUILD_TESTS=ON",), added_targets=TARGETS
    )
    with step_progress(f"building upstream's tests on the {tree} tree") as progress:
        return build(rebase(load_upstream(patches), series), options, found, proof_model, progress)


def line(outcome: Outcome) -> str:
    """One outcome in a line: pass or FAIL, seconds, what there is to say."""
    word = "pass" if outcome.passed else "FAIL"
    return f"{word}  {outcome.seconds:6.1f} s  {outcome.detail}".rstrip()


def verdict(stock: bool, patched: bool) -> tuple[str, bool]:
    """The two outcomes in words, and whether the series broke something."""
    if stock == patched:
        return ("the same on both: pass" if stock else "the same on both: FAIL"), False
    if patched:
        return "FAILS on the stock tree only: the series mends it", False
    return "FAILS on the patched tree only: the series breaks it", True


if __name__ == "__main__":
    sys.exit(main())
