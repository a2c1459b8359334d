"""Upstream's source, our patch series, and the tree that the two make."""
