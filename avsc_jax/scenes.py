"""The ten scenes of TAU Urban Audio-Visual Scenes 2021, and the names of its clips."""

from typing import NamedTuple

#: The names of the ten scenes, in the order of all probabilities.
SCENES = (
    'airport',
    'bus',
    'metro',
    'metro_station',
    'park',
    'public_square',
    'shopping_mall',
    'street_pedestrian',
    'street_traffic',
    'tram',
)

# Scene -> its kind of place, the three classes of DCASE 2020, task 1B.
PLACES = {
    **dict.fromkeys(('airport', 'metro_station', 'shopping_mall'), 'indoor'),
    **dict.fromkeys(('park', 'public_square', 'street_pedestrian', 'street_traffic'), 'outdoor'),
    **dict.fromkeys(('bus', 'metro', 'tram'), 'transportation'),
}


class ClipName(NamedTuple):
    """The four fields of a clip's name; location ids are unique to one city."""

    scene: str
    city: str
    location: str
    segment: str


def parse_clip_id(clip_id: str) -> ClipName | None:
    """Splits the name of a TAU clip into its four fields; None for any other name.

    Example:
      >>> parse_clip_id('airport-lisbon-1175-44106')
      ClipName(scene='airport', city='lisbon', location='1175', segment='44106')
      >>> parse_clip_id('holiday.mp4') is None
      True
    """
    fields = clip_id.split('-')
    if len(fields) != 4 or fields[0] not in SCENES or not all(fields):
        return None
    return ClipName(*fields)
