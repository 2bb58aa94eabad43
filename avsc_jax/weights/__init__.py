"""Weights of pretrained networks: files in, Flax variables out."""

from avsc_jax.weights.random import random_variables

__all__ = ['random_variables']
