"""One file per experiment; installed as avsc_jax.configs."""
