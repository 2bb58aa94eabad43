"""Decodes media files: sound to samples, films and pictures to RGB arrays.

The dataset builder, the feature extractor and predict all use it, so that a clip gives the same
frames and samples everywhere. Files are untrusted: sizes are checked before memory is allocated,
only local files are opened, and any defect becomes a ValueError that names the file.
"""

from avsc_jax.data.media.frame_rules import FRAME_RULES, evenly_spaced, frame_facts, pick_frames
from avsc_jax.data.media.frame_times import Stamps, timing
from avsc_jax.data.media.full_scale import (
    BadSamples,
    FullScale,
    clipped_field,
    clipping_note,
)
from avsc_jax.data.media.pixels import rgb
from avsc_jax.data.media.sound import (
    Sound,
    SoundTrack,
    audio_bit_depth,
    audio_channels,
    decode_flac,
    encode_flac,
    flac_length,
    read_audio,
    read_sound,
)
from avsc_jax.data.media.source import (
    MAX_DURATION_S,
    MAX_SAMPLE_RATE_HZ,
    MAX_SIDE_PX,
    PICTURES,
    SOUNDS,
    TITLES,
    VIDEOS,
    MediaFile,
    check_whole,
)
from avsc_jax.data.media.still import (
    check_picture_size,
    crop_picture,
    decode_jpeg,
    encode_jpeg,
    first_note,
    num_pictures,
    openl3_pictures,
    pad_picture,
    read_picture,
    resize_picture,
    scaled,
)
from avsc_jax.data.media.timeline import (
    GAP_S,
    ROUNDING,
    Clock,
    Extent,
    NoData,
    num_pieces,
    start_of,
    window_starts,
)
from avsc_jax.data.media.video import (
    Frames,
    Pick,
    PictureTrack,
    StillTrack,
    read_frames,
)

__all__ = (
    'FRAME_RULES',
    'GAP_S',
    'MAX_DURATION_S',
    'MAX_SAMPLE_RATE_HZ',
    'MAX_SIDE_PX',
    'PICTURES',
    'ROUNDING',
    'SOUNDS',
    'TITLES',
    'VIDEOS',
    'BadSamples',
    'Clock',
    'Extent',
    'Frames',
    'FullScale',
    'MediaFile',
    'NoData',
    'Pick',
    'PictureTrack',
    'Sound',
    'SoundTrack',
    'Stamps',
    'StillTrack',
    'audio_bit_depth',
    'audio_channels',
    'check_picture_size',
    'check_whole',
    'clipped_field',
    'clipping_note',
    'crop_picture',
    'decode_flac',
    'decode_jpeg',
    'encode_flac',
    'encode_jpeg',
    'evenly_spaced',
    'first_note',
    'flac_length',
    'frame_facts',
    'num_pictures',
    'num_pieces',
    'openl3_pictures',
    'pad_picture',
    'pick_frames',
    'read_audio',
    'read_frames',
    'read_picture',
    'read_sound',
    'resize_picture',
    'rgb',
    'scaled',
    'start_of',
    'timing',
    'window_starts',
)
