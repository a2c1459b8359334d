"""What we link against upstream, as text."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_tools.build.options import native_dir

SOURCES = sorted(path for path in native_dir().iterdir() if path.suffix in {".cpp", ".h"})


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_no_source_asks_the_preprocessor_which_headers_there_are(source: Path) -> None:
    # ccache notes the headers that were found. One that was not there is none of them: the object of a stock tree
    # would come back for a patched one, as it did.
    assert "__has_include" not in source.read_text(encoding="utf-8")
