"""The draft length's rules in C++, from the build itself: what `--spec-draft-auto` does in the server beside it.

They are those of `control`, step for step (a test replays both). A decoder asks and tells them within the call of its
step (`decode.MtpDecoder.step`): between two decodes the caches are cold, and Python takes several times as long there.
Of a step of a millisecond that is a share to be seen.
"""

from __future__ import annotations

from llamacpp_tools.engine.control import Chooser, Control, Settings
from llamacpp_tools.ffi.library import Library


class NativeControl:
    """Chooses the draft length of each step of one sequence (see `control.Control`).

    Attributes:
        pointer: what the C side calls it by.
    """

    def __init__(self, library: Library, limit: int, gaps: bool = True) -> None:
        """Nothing is known.

        Args:
            library: of a build with the patch spec-draft-auto.
            limit: the longest draft, in tokens, at least 1.
            gaps: whether the draft context may leave out positions (`Model.positions_may_be_left_out`).

        Raises:
            ValueError: the library has no rules.
        """
        ffi, lib = library.ffi, library.lib
        made = lib.llt_auto_new(limit, gaps)
        if made == ffi.NULL:
            raise ValueError("the library was built without the patch spec-draft-auto")
        self.limit = limit
        self.pointer = ffi.gc(made, lib.llt_auto_free)
        self._begin, self._choose = lib.llt_auto_begin, lib.llt_auto_choose
        self._catch_up = lib.llt_auto_catch_up
        self._why, self._told = lib.llt_auto_why, lib.llt_auto_told
        self._own_ns = lib.llt_auto_own_ns

    @property
    def own_ns(self) -> int:
        """Time that choosing and being told have taken since it was made."""
        return int(self._own_ns(self.pointer))

    def begin(self) -> None:
        """A new text: what steps cost is kept until it is measured anew, how drafts survive is not."""
        self._begin(self.pointer)

    @property
    def why(self) -> int:
        """Why the length was chosen that `choose` gave last (`control.Why`)."""
        return int(self._why(self.pointer))

    @property
    def catch_up(self) -> int:
        """Tokens that the next draft catches up with, at most, after steps without one."""
        return int(self._catch_up(self.pointer))

    def choose(self) -> int:
        """Tokens to draft in the next step, 0 to `limit`."""
        return int(self._choose(self.pointer))

    def told(self, drafted: int, accepted: int, draft_ns: int, verify_ns: int) -> None:
        """What the step did that `choose` was asked for (see `control.Control.told`)."""
        self._told(self.pointer, drafted, accepted, draft_ns, verify_ns)


def control_of(library: Library, limit: int, gaps: bool) -> Chooser:
    """A controller that knows nothing: the library's own, or Python's where the library was built without one.

    Args:
        library: whatever it was built with.
        limit, gaps: as for `NativeControl`; without one of the library's own nothing is left out.
    """
    try:
        return NativeControl(library, limit, gaps)
    except ValueError:
        return Control(limit, Settings(gaps=False))
