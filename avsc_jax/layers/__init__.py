"""Layers that two or more networks share, one class a file."""
