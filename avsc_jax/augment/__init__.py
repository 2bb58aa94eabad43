"""Augmentation on the device, inside the jitted step: `(key, x, **settings) -> x` of one example.

Callers vmap with one key for each example, so a batch gives the same however it is split.
"""
