"""What a person types wrongly at the door of the library, without any build."""

from pathlib import Path

import pytest

from llamacpp_tools.build.manifest import find
from llamacpp_tools.errors import BadInput
from llamacpp_tools.ffi.library import open_library


def test_a_backend_that_is_none_is_not_advised_to_be_built():
    with pytest.raises(BadInput, match="unknown backend 'cpuu'; llt builds cpu, cuda, vulkan"):
        find("cpuu")


def test_a_path_is_no_build():
    with pytest.raises(BadInput, match=r"takes what build\.manifest\.find or load returns"):
        open_library(Path("libllama.so"))
