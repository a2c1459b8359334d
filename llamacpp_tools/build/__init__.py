"""Toolchain discovery, cmake, the manifest, and the proof that a finished build works."""
