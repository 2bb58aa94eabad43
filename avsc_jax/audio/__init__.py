"""Acoustic features: pure functions that jit, batched over leading axes."""
