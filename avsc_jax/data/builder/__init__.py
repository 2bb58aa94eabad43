"""Builders of data sets: from media files to records, in a way that goes on after a kill."""

from avsc_jax.data.builder.base import RecordBuilder, WindowConfig, record_features
from avsc_jax.data.builder.clip_reader import Clip
from avsc_jax.data.builder.media_files import FolderFiles

__all__ = ['Clip', 'FolderFiles', 'RecordBuilder', 'WindowConfig', 'record_features']
