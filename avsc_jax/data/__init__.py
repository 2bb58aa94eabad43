"""Reads media files and records, and makes batches of them."""
