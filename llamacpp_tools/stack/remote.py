"""Which commit a git remote or a bundle means by a version's name: a tag first, then a branch, by its full name."""

from __future__ import annotations

from pathlib import Path

from llamacpp_tools.errors import BadInput, MissingTool
from llamacpp_tools.stack.git import Git
from llamacpp_tools.stack.upstream import is_full_hash

ANSWER_S = 8.0


def remote_commit(git: Git, url: str, label: str) -> str:
    """The full hash of the commit that the remote at `url` calls `label`; a full hash is taken as it is.

    Full names are asked for: `ls-remote URL master` would also answer with `someone/master`.

    Raises:
        MissingTool: the remote does not answer within `ANSWER_S` seconds, or has no such tag or branch.
    """
    names = [f"refs/tags/{label}^{{}}", f"refs/tags/{label}", f"refs/heads/{label}", label]
    answer = git.run("ls-remote", "--", url, *names, check=False, timeout_s=ANSWER_S)
    if not answer.ok:
        raise MissingTool(answer.reason or "no answer")
    lines = (line.split("\t") for line in answer.text.splitlines() if "\t" in line)
    refs = {name: commit for commit, name in lines}
    found = next((refs[name] for name in names if name in refs), None)
    if found is None and not is_full_hash(label):
        raise MissingTool(f"it has no {label}")
    return found or label


def bundle_ref(git: Git, bundle: Path, label: str, *, only: bool = False) -> str:
    """The name of the reference in a bundle that holds `label`, else its HEAD.

    Args:
        git: any repository; the bundle's header is read with it.
        bundle: the file.
        label: a tag or branch.
        only: take the one reference of a bundle that has no other, whatever its name.

    Raises:
        BadInput: it is no bundle, or holds neither.
    """
    heads = git.run("bundle", "list-heads", str(bundle.absolute()), check=False)
    if not heads.ok or not heads.text:
        raise BadInput(f"{bundle} is not a git bundle")
    refs = [line.split(" ", 1)[1] for line in heads.text.splitlines()]
    asked = (f"refs/tags/{label}", f"refs/heads/{label}", f"refs/remotes/origin/{label}", "HEAD")
    found = next((ref for ref in asked if ref in refs), refs[0] if only and len(refs) == 1 else None)
    if found is None:
        raise BadInput(f"{bundle} holds neither {label} nor a HEAD")
    return found
