"""The one error root of the package and its typed children.

Every error that a user can cause or mend is an `LltError`: its text is one sentence that says what
happened, where, and what to do. `cli.main` is the only place that turns one into an exit code.
"""

from __future__ import annotations


class LltError(Exception):
    """Root of all expected failures.

    Attributes:
        exit_code: what the command line ends with (contract: 1 a check said no, 2 bad input,
            3 this machine lacks something, 130 interrupted).
    """

    exit_code = 1


class CheckFailed(LltError):
    """A check said no: a patch does not apply, a parity test differs, a build failed to compile."""

    exit_code = 1


class BadInput(LltError):
    """Wrong arguments, configuration or input file."""

    exit_code = 2


class MissingTool(LltError):
    """This machine lacks something: a compiler, a header, a driver, a source that can be reached."""

    exit_code = 3


class Interrupted(LltError):
    """The user stopped the command; what was finished is kept."""

    exit_code = 130
