"""Sound in, features out: pure functions that jit, batched over leading axes."""
