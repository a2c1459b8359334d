"""libllama through cffi: declarations from the built tree's own header, the library from the manifest.

Before anything crosses the border (`library.open_library`, each in a module of its own):

- Every file is the one whose hash the manifest holds (`opening`); nothing is searched for, ggml's backends included.
- What cffi believes of structs, enums and functions is what the compiler measured at build time (`layout`).
- Every function and constant that our Python names is there (`symbols`), and no other library answers for it.

How control crosses it:

- A by-value struct starts from the library's own default function and is then set by field name.
- Every status is looked at right after the call and becomes a typed exception with the library's last words.
- A callback never raises into C and returns what its C type says. What a signal's handler raises inside one is kept
  and raised once the call is back.
- A handle (`handle`) keeps its parents alive, and is closed before them whoever is told to close first; closing twice
  is harmless, and what is closed raises ValueError instead of handing out a pointer.
- The library's log goes to `logging`, as `llamacpp_tools.libllama`.
- A Ctrl-C during a long decode ends it through the abort callback, on the CPU at the next node of the graph.
- Whatever may abort the process (a failed assert does) belongs in a child process: see `sweep.executor`.
"""
