"""Layers and small networks."""
