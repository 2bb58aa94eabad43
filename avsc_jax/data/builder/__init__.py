"""Builds data sets: media files in, records out; a killed build continues where it stopped."""

from avsc_jax.data.builder.base import RecordBuilder, WindowConfig, record_features
from avsc_jax.data.builder.clip_reader import Clip
from avsc_jax.data.builder.media_files import FolderFiles

__all__ = ['Clip', 'FolderFiles', 'RecordBuilder', 'WindowConfig', 'record_features']
