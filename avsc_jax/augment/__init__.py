"""Augmentation on the device, inside the jitted step: `(key, x, **settings) -> x` of one example.

Callers vmap over a batch with one key for each example, so the result does not depend on how a
batch is split over devices.
"""
