"""Data sets: where each comes from and how it is opened."""
