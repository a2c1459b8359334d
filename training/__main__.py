"""`python -m training`: train the miniature, write it as GGUF, check it against libllama."""

from __future__ import annotations

import sys

from training.command import main

sys.exit(main(sys.argv[1:]))
