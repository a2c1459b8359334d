"""What a prefill leaves behind, as bytes: written into a buffer, and put back from one.

It is the state of the target context, of the draft context where there is one, and the trunk's hidden row at the last
position, which the next draft begins with. The whole context's state, not that of its one sequence: the latter leaves
out the cells of a sliding cache that the window has passed, so the others lie elsewhere after it is put back, flash
attention adds them up in another order (in f16), and a token between two that are as likely may fall the other way.
"""

from __future__ import annotations

from dataclasses import dataclass

from llamacpp_tools.engine.context import Context
from llamacpp_tools.engine.decode import MtpDecoder
from llamacpp_tools.engine.session import Session
from llamacpp_tools.errors import LltError


@dataclass(frozen=True)
class Parts:
    """Bytes of each part, in the order in which they lie: target, draft, carried row (both 0 without MTP)."""

    target: int
    draft: int
    carried: int

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return self.target + self.draft + self.carried


def parts_of(session: Session) -> Parts:
    """What `save` would write now."""
    draft = _size(session.draft) if session.draft is not None else 0
    decoder = session.decoder
    carried = len(decoder.carried()) if isinstance(decoder, MtpDecoder) else 0
    return Parts(_size(session.target), draft, carried)


def save(session: Session, parts: Parts, view: memoryview) -> None:
    """Write the state into `view`, which holds `parts.total` writable bytes.

    Raises:
        LltError: libllama wrote another number of bytes than it had said.
    """
    _get(session.target, view[: parts.target])
    if session.draft is not None:
        _get(session.draft, view[parts.target : parts.target + parts.draft])
    if isinstance(session.decoder, MtpDecoder):
        view[parts.target + parts.draft : parts.total] = session.decoder.carried()


def restore(session: Session, parts: Parts, view: memoryview) -> None:
    """Forget all and put back what `save` wrote in a session of the same mode and types.

    Raises:
        LltError: the state does not fit the session.
    """
    if (session.draft is not None) != (parts.draft > 0):
        raise LltError("a state with MTP does not fit a session without, nor the other way round")
    _set(session.target, view[: parts.target])
    if session.draft is not None:
        _set(session.draft, view[parts.target : parts.target + parts.draft])
    decoder = session.decoder
    if isinstance(decoder, MtpDecoder):
        decoder.reset()
        decoder.carried()[:] = view[parts.target + parts.draft : parts.total]


def _size(context: Context) -> int:
    return int(context.model.library.lib.llama_state_get_size(context.handle))


def _get(context: Context, view: memoryview) -> None:
    ffi, lib = context.model.library.ffi, context.model.library.lib
    with ffi.from_buffer("uint8_t[]", view, require_writable=True) as target:
        written = int(lib.llama_state_get_data(context.handle, target, len(view)))
    if written != len(view):
        raise LltError(f"libllama wrote {written} bytes of a state of {len(view)}")


def _set(context: Context, view: memoryview) -> None:
    ffi, lib = context.model.library.ffi, context.model.library.lib
    context.clear()
    with ffi.from_buffer("uint8_t[]", view) as source:
        read = int(lib.llama_state_set_data(context.handle, source, len(view)))
    if read != len(view):
        raise context.model.library.error(f"libllama took {read} bytes of a state of {len(view)}")
