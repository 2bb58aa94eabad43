"""Turns records and media files into the inputs of networks."""
