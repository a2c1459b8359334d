"""libllama through cffi: declarations from the built tree's own header, the library from the manifest.

How control crosses the border:

- A by-value struct starts from the library's own default function and is then set by field name.
- Every status is looked at right after the call and becomes a typed exception with the library's last words.
- A callback never raises into C and returns what its C type says.
- A child (context) keeps its parent (model) alive; handles are closed by context managers, twice is harmless.
- Whatever may abort the process (a failed assert does) belongs in a child process: see `sweep.executor`.
"""
