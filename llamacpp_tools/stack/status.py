"""What can become of one patch on a version of upstream."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Status(enum.StrEnum):
    """What became of one patch."""

    CLEAN = "clean"
    MOVED = "moved"
    THREE_WAY = "three-way"
    RESOLVED = "resolved"
    UPSTREAM = "already upstream"
    CONFLICT = "conflict"
    BLOCKED = "blocked"
    MISSING = "missing preimage"

    @property
    def applies(self) -> bool:
        """True if the patch is in the resulting tree."""
        return self in (Status.CLEAN, Status.MOVED, Status.THREE_WAY, Status.RESOLVED)

    @property
    def stops(self) -> bool:
        """True if a person has to do something before the patch can be in the tree."""
        return self in (Status.CONFLICT, Status.BLOCKED, Status.MISSING)


@dataclass(frozen=True)
class FailedFile:
    """A file that a patch could not change: the hunks that found no place, or why there is none for any."""

    path: str
    hunks: tuple[str, ...] = ()
    reason: str = ""

    def __str__(self) -> str:
        # Without the section's text: a line of C++ for each hunk would bury the numbers.
        places = (hunk[: hunk.rfind("@@") + 2] if hunk.startswith("@@") else hunk for hunk in self.hunks)
        return f"{self.path}: {self.reason or ', '.join(f'hunk {place}' for place in places)}"
