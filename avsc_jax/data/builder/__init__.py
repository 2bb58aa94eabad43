"""Builders of data sets: from media files to records, in a way that goes on after a kill."""
