"""Clips in, scenes out: finished runs and ensembles of them, on files of any kind."""
