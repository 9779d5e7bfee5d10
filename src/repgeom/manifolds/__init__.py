"""Spaces as modules of pure functions on batched tensors."""
