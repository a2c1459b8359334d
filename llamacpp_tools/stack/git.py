"""The one git runner: every call to git in the package goes through `Git`.

It is hermetic. The user's and the system's configuration, hooks, signing, pager, editor, locale and
credential prompts have no say; `GIT_CEILING_DIRECTORIES` keeps a broken clone from making git walk up
into a repository that happens to enclose `LLT_HOME`; identity and dates are fixed, so the same input
gives the same commit hash on any machine, for any user, on any day.

GitPython's own `Git.execute` adds to the caller's environment and cannot take from it, so a stray `GIT_DIR`
or `GIT_INDEX_FILE` would leak in; it serves where a user's repository is only read (`results.provenance`).
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from llamacpp_tools.errors import CheckFailed, MissingTool

IDENTITY = ("llt", "llt@localhost")
FIXED_DATE = "2026-06-29T00:00:00 +0000"

_CONFIG = (
    ("core.hooksPath", os.devnull),
    ("core.autocrlf", "false"),
    ("core.fsmonitor", "false"),
    ("core.attributesFile", os.devnull),
    ("commit.gpgSign", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("advice.detachedHead", "false"),
    ("protocol.ext.allow", "never"),
    ("rerere.enabled", "false"),
    ("http.lowSpeedLimit", "1000"),
    ("http.lowSpeedTime", "20"),
    ("safe.directory", "*"),
)

_INHERITED = (
    "PATH",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SYSTEMROOT",
)

_UNREADABLE = "Could not read from remote repository"


@dataclass(frozen=True)
class GitResult:
    """What one git call answered: exit status, stdout (bytes as git wrote them), stderr (text)."""

    status: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        """Standard output as text without the trailing newline."""
        return self.stdout.decode("utf-8", "replace").rstrip("\n")

    @property
    def reason(self) -> str:
        """The line of stderr that says why git failed (advice may follow it); empty if git said nothing.

        Where SSH failed it is what SSH said, as git itself only knows that it cannot read.
        """
        said = [line for line in self.stderr.splitlines() if line.strip()]
        reasons = [line for line in said if line.startswith(("fatal: ", "error: "))] or said
        if not reasons:
            return ""
        before = said[: said.index(reasons[-1])]
        return before[-1] if before and _UNREADABLE in reasons[-1] else reasons[-1]

    @property
    def ok(self) -> bool:
        """True if git ended with status 0."""
        return self.status == 0


class GitFailed(CheckFailed):
    """A git call that had to work did not; `result` holds what git said."""

    def __init__(self, arguments: list[str], result: GitResult) -> None:
        super().__init__(f"git {' '.join(arguments[:2])} failed: {result.reason or 'no message'}")
        self.result = result


class Git:
    """Runs git in one folder (a work tree or a bare repository).

    Args:
        folder: where git runs.
        held: the open file of a lock (`stack.lock`) that each git call inherits, so that the lock outlives a
            killed llt until its last git has ended; None for calls that write nothing but objects.
    """

    def __init__(self, folder: Path, held: int | None = None) -> None:
        self.folder = folder
        self.held = held

    @functools.cached_property
    def git_dir(self) -> str:
        """The absolute path of the repository itself."""
        return self.text("rev-parse", "--absolute-git-dir")

    def run(
        self,
        *arguments: str,
        check: bool = True,
        env: dict[str, str] | None = None,
        stdin: bytes | None = None,
        timeout_s: float | None = None,
    ) -> GitResult:
        """Run `git ARGUMENTS` and return what it said.

        Args:
            arguments: the words after `git`; never a shell string.
            check: raise `GitFailed` on a status other than 0.
            env: variables on top of the hermetic environment (an index file, say).
            stdin: bytes for standard input.
            timeout_s: kill git after that many seconds; the result's status is then negative.

        Raises:
            GitFailed: with `check`, when git ended with another status than 0.
            MissingTool: there is no git on this machine.
        """
        result = _execute(
            self.folder, list(arguments), hermetic_env(self.folder) | (env or {}), stdin, timeout_s, self.held
        )
        if check and not result.ok:
            raise GitFailed(list(arguments), result)
        return result

    def text(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        """Standard output of a call that has to work, without the trailing newline."""
        return self.run(*arguments, env=env).text

    def resolve(self, revision: str) -> str | None:
        """The full commit hash of a revision, or None if this repository does not know it."""
        found = self.run(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}", check=False
        )
        return found.text if found.ok else None

    def tree_of(self, revision: str) -> str:
        """The tree hash of a commit."""
        return self.text("rev-parse", "--verify", "--end-of-options", f"{revision}^{{tree}}")


def hermetic_env(folder: Path) -> dict[str, str]:
    """The environment of every git call: nothing of the user's but PATH, TMPDIR and network settings."""
    env = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    env |= {
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CEILING_DIRECTORIES": str(folder.parent),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_PAGER": "cat",
        "GIT_EDITOR": "true",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "LC_ALL": "C",
        "TZ": "UTC",
        "GIT_AUTHOR_NAME": IDENTITY[0],
        "GIT_AUTHOR_EMAIL": IDENTITY[1],
        "GIT_AUTHOR_DATE": FIXED_DATE,
        "GIT_COMMITTER_NAME": IDENTITY[0],
        "GIT_COMMITTER_EMAIL": IDENTITY[1],
        "GIT_COMMITTER_DATE": FIXED_DATE,
        "GIT_CONFIG_COUNT": str(len(_CONFIG)),
    }
    for number, (key, value) in enumerate(_CONFIG):
        env[f"GIT_CONFIG_KEY_{number}"] = key
        env[f"GIT_CONFIG_VALUE_{number}"] = value
    return env


def _execute(
    folder: Path,
    arguments: list[str],
    env: dict[str, str],
    stdin: bytes | None,
    timeout_s: float | None,
    held: int | None,
) -> GitResult:
    try:
        with subprocess.Popen(
            ["git", *arguments],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=() if held is None else (held,),
        ) as process:
            try:
                stdout, stderr = process.communicate(stdin, timeout_s)
            except subprocess.TimeoutExpired:
                _end_group(process, signal.SIGKILL)
                return GitResult(-1, b"", f"no answer within {timeout_s:g} s")
            except BaseException:
                # git removes its lock files when it is asked to end.
                _end_group(process, signal.SIGTERM)
                raise
    except FileNotFoundError as error:
        if not folder.is_dir():
            raise CheckFailed(f"the folder {folder} is gone: run `llt rebase` to make it again") from error
        raise MissingTool("git is not on this machine: install it (`apt install git`)") from error
    return GitResult(process.returncode, stdout, stderr.decode("utf-8", "replace"))


def _end_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    # The helper that talks to a remote is a child of git's; it holds our pipes, so it has to end as well.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    process.communicate()
