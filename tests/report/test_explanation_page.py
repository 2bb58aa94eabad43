"""The page that explains a prediction: all its parts, safe, and in one file."""

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from avsc_jax.report import explanation
from avsc_jax.report.explanation import Crop, Explanation, Picture, Spectrum

CLASSES = ['park', 'tram', '<b>bus</b>', 'metro', 'airport', 'mall']
PARK = np.array([0.7, 0.1, 0.1, 0.05, 0.03, 0.02])
BUS = PARK[[2, 1, 0, 3, 4, 5]]
FILE = '<script>alert(1)</script>.mp4'


def picture(heat=None, time_s=0.5):
    return Picture(time_s, np.full((90, 160, 3), 200, np.uint8), heat)


def sound(heat=None):
    level = np.linspace(-80, 0, 96 * 600).reshape(96, 600)
    return Spectrum(level, np.geomspace(20, 23000, 96), heat)


def told(**parts):
    nothing = dict(without={}, parts={}, pictures=[], sound=None, attention=None, maps={})
    return Explanation(**{'start_s': 0.0, 'end_s': 10.0, 'probs': PARK, **nothing, **parts})


def page(*explanations, timeline=((0.0, 10.0, PARK),), notes=(), warnings=(), file=FILE):
    return explanation.document(file, CLASSES, timeline, explanations, notes, warnings)


def images(html):
    found = re.findall(r'data:image/(\w+);base64,([A-Za-z0-9+/=]+)', html)
    return [(kind, Image.open(io.BytesIO(base64.b64decode(data)))) for kind, data in found]


def full():
    """An explanation with everything."""
    spot = np.zeros((90, 160), np.float32)
    spot[:45, :80] = 1
    return told(
        without={'sound': BUS, 'picture': PARK},
        parts={'A<1>': BUS, 'C04': PARK},
        pictures=[picture(spot), picture(np.zeros_like(spot), 75.5)],
        sound=sound(np.eye(96, 600, dtype=np.float32)),
        attention=(np.arange(10) + 0.5, np.linspace(0.5, 1.5, 10)),
        maps={'picture': ['clip<x>'], 'sound': ['A01']},
    )


class Structure(HTMLParser):
    """Notes tags and addresses, and that they nest."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.addresses = [], set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.addresses += [v for k, v in attrs if k in ('src', 'href', 'xlink:href')]
        if tag not in ('meta', 'img', 'path', 'use', 'image', 'link'):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag


def test_the_page_holds_every_part_and_nothing_from_elsewhere():
    windows = [(0.0, 10.0, PARK), (10.0, 20.0, BUS)]
    html = page(full(), timeline=windows, notes=['mono <i>'], warnings=['made-up & small'])
    for title in ('Sound and picture', 'Members', 'Pictures', 'Sound'):
        assert f'<h2>{title}</h2>' in html
    for label in ('Scenes over time', 'Attention over time', 'Spectrum'):
        assert f'aria-label="{label}"' in html
    assert '0:00 to 0:20, 2 windows' in html and '0:00 to 0:10: why park?' in html
    assert '<figcaption>1:15.5</figcaption>' in html
    assert 'Orange and yellow places' in html  # of the first picture; the second has none
    assert 'note: mono &lt;i&gt;' in html and 'made-up &amp; small' in html
    structure = Structure()
    structure.feed(html)
    assert not structure.open and 'script' not in structure.tags
    assert all(a.startswith(('data:image/', '#')) for a in structure.addresses)
    assert [kind for kind, _ in images(html)] == ['jpeg', 'jpeg', 'png', 'png']


def test_names_from_outside_are_escaped():
    told_of_bus = dataclasses.replace(full(), probs=BUS)
    html = page(told_of_bus, timeline=[(0.0, 10.0, BUS)] * 2)
    assert 'why &lt;b&gt;bus&lt;/b&gt;?' in html
    assert '&lt;script&gt;alert(1)&lt;/script&gt;.mp4' in html
    for raw in ('<script', '<b>bus', 'A<1>', 'clip<x>'):
        assert raw not in html
    assert '\x1b' not in page(told(), file='a\x1b[2Jb.mp4')


def test_the_contribution_of_a_part_is_what_is_lost_without_it():
    html = page(told(without={'sound': BUS, 'picture': PARK}))
    rows = re.findall(r'<td>(without[^<]*)</td><td>([^<]*)</td><td>([^<]*)</td>', html)
    assert rows == [
        ('without the sound', '0.100 (-0.600)', '&lt;b&gt;bus&lt;/b&gt; 0.700'),
        ('without the pictures', '0.700 (+0.000)', 'park 0.700'),
    ]


def test_bars_are_of_the_mean_of_the_windows_and_of_a_window_where_there_are_several():
    one = page(told())
    assert re.findall(r'<b>([\d.]+)</b>', one) == ['0.700', '0.100', '0.100', '0.050', '0.030']
    assert 'Scenes over time' not in one
    several = page(told(probs=BUS), timeline=[(0.0, 10.0, PARK), (10.0, 20.0, BUS)])
    shown = re.findall(r'<b>([\d.]+)</b>', several)
    assert shown[:5] == ['0.400', '0.400', '0.100', '0.050', '0.030'] and shown[5] == '0.700'


@pytest.mark.parametrize(
    ('heat', 'sentence'),
    [
        (None, 'Its network has no map to show.'),
        (np.zeros((90, 160), np.float32), 'No places of the pictures speak for park'),
        (
            np.ones((90, 160), np.float32),
            'Orange and yellow places of the pictures speak most for park',
        ),
    ],
)
def test_a_sentence_tells_how_to_read_a_heat_map(heat, sentence):
    assert sentence in page(told(pictures=[picture(heat)], maps={'picture': ['V01']}))


def test_a_picture_is_warm_where_its_heat_is_and_as_it_was_elsewhere():
    (_, heated), *_ = images(page(full()))
    (_, plain), *_ = images(page(told(pictures=[picture()])))
    assert heated.size == plain.size == (480, 270)
    tall = Picture(0.0, np.zeros((1600, 4, 3), np.uint8), None)
    assert images(page(told(pictures=[tall])))[0][1].size == (1, 480)
    warm, other = (np.int32(heated.getpixel(at)) for at in ((60, 60), (400, 200)))
    assert warm[0] - warm[2] > 60 and abs(other - 200).max() < 6
    assert abs(np.int32(plain.getpixel((60, 60))) - 200).max() < 3


def test_the_part_that_the_network_saw_has_an_outline_and_a_sentence():
    cold = picture(np.zeros((90, 160), np.float32))
    seen = dataclasses.replace(cold, crops=[Crop(0, 35, 90, 90)])
    html = page(told(pictures=[seen], maps={'picture': ['V01']}))
    assert 'The network saw what is inside of the white outline.' in html
    ((_, shown),) = images(html)
    across = np.int32([shown.getpixel((column, 135)) for column in range(480)]).mean(axis=1)
    # 3 pixels of the page for one of the picture: columns 105 to 374
    lines = [*np.flatnonzero(across > 235), *np.flatnonzero(across < 90)]
    assert lines and all(min(abs(k - 105), abs(k - 374)) < 6 for k in lines)
    assert (across[:98] > 190).all() and (across[120:360] > 190).all()  # nothing is darker
    whole = page(told(pictures=[cold], maps={'picture': ['V01']}))
    assert 'outline.' not in whole


def test_low_pitches_are_below():
    level = np.zeros((96, 600))
    level[:10] = 1
    heard = Spectrum(level, np.geomspace(20, 23000, 96), None)
    ((_, spectrum),) = images(page(told(sound=heard)))
    assert spectrum.size == (600, 96)
    assert sum(spectrum.getpixel((0, 95))) > sum(spectrum.getpixel((0, 0)))


def test_times_are_told_as_a_clock_does():
    times = (0, 5.04, 59.97, 75.5, 3600)
    assert [explanation.clock(t) for t in times] == ['0:00', '0:05', '1:00', '1:15.5', '60:00']
