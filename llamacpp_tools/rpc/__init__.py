"""Layers on other machines: upstream's RPC server from our own build, and who it says it is."""
