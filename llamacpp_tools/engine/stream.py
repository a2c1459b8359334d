"""A text as it is generated: pieces to print, and the figures when it is through."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator

from llamacpp_tools.engine.generate import Generation, Run
from llamacpp_tools.engine.model import Model


class Stream:
    """Iterate over it, once, for the text of each step; `done` holds tokens, times and accepted drafts.

    A piece ends with a whole character. Nothing is computed before it is asked for.
    """

    def __init__(self, model: Model, begin: Callable[[], Iterator[Run]], ends: frozenset[int]) -> None:
        """Nothing runs yet.

        Args:
            model: whose tokens they are.
            begin: prefills and yields the run, once, and tidies up when it is asked again.
            ends: tokens that end the text and are no part of it.
        """
        self._model = model
        self._begin = begin
        self._ends = ends
        self._done: Generation | None = None

    def __iter__(self) -> Iterator[str]:
        """The text of each step, in order.

        Raises:
            LltError: a decode failed.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for run in self._begin():
            try:
                for tokens in run:
                    raw = b"".join(self._model.piece(token) for token in tokens if token not in self._ends)
                    text = decoder.decode(raw)
                    if text:
                        yield text
                rest = decoder.decode(b"", True)
                if rest:
                    yield rest
            finally:
                self._done = run.done

    @property
    def done(self) -> Generation:
        """What was generated, up to where the iteration stopped.

        Raises:
            ValueError: nobody has iterated yet.
        """
        if self._done is None:
            raise ValueError("nothing is generated before the stream is iterated over")
        return self._done
