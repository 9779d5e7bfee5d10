"""Optimisers and the one training loop."""
