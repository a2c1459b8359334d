"""Upstream's own tests on the patched tree and on the stock one: `make upstream-tests`."""
