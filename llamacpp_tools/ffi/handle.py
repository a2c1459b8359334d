"""A pointer into the library, freed once and in the right order."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from llamacpp_tools.closing import Closing


class Handle(Closing):
    """What the library made and wants back. Close it, or use it as a context manager.

    It keeps its parents alive, and closing a parent closes it first: no order of calls leads to a pointer whose
    ground is gone.
    """

    def __init__(self, what: str, pointer: Any, free: Callable[[Any], None], *parents: Handle) -> None:
        """Take over `pointer`.

        Args:
            what: what it is, in words, for whoever uses it closed.
            pointer: never NULL.
            free: the library's function that takes it back.
            parents: what it was made from.
        """
        self._what = what
        self._pointer = pointer
        self._free = free
        self._parents = parents
        self._children: list[weakref.ref[Handle]] = []
        for parent in parents:
            parent._children = [child for child in parent._children if child() is not None]
            parent._children.append(weakref.ref(self))

    @property
    def handle(self) -> Any:
        """The C pointer.

        Raises:
            ValueError: it is closed.
        """
        if self._pointer is None:
            raise ValueError(f"{self._what} is closed")
        return self._pointer

    def close(self) -> None:
        """Free it, and what was made from it before; a second call does nothing."""
        for reference in reversed(self._children):
            child = reference()
            if child is not None:
                child.close()
        self._children = []
        pointer, self._pointer = self._pointer, None
        if pointer is not None:
            self._free(pointer)
