"""Handles that are closed: by `close`, by a `with` block, and twice without harm."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Closing:
    """A context manager whose end calls `close`."""

    def close(self) -> None:
        """Free what is held; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
