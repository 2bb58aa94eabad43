"""The gallery: which clips it shows, in which order, with which numbers; a page that is safe."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from avsc_jax import tables
from avsc_jax.data import media, records
from avsc_jax.report import gallery
from avsc_jax.score import __main__ as score

CLASSES = ['park', 'tram', '<b>bus</b>']
GREENS = [200, 90, 30, 60, 10]  # of clips a to e


class Clips:
    """A dataset of green clips, which notes whose frames are decoded."""

    name = 'green/clips/1.0.0'

    def __init__(self):
        self.decoded = []

    def records(self, split, fields):
        assert (split, fields) == ('test', ('frames',))
        return self

    def __len__(self):
        return len(GREENS)

    def outline(self, index):
        return {'clip_id': 'abcde'[index]}

    def __getitem__(self, index):
        self.decoded.append(index)
        frames = [np.zeros((9, 16, 3), np.uint8) for _ in range(3)]
        for frame, more in zip(frames, (-9, 0, 12), strict=True):
            frame[..., 1] = GREENS[index] + more
        return self.outline(index) | {'frames': frames}


def member(answers, confidence=0.8, clips='abcde', labels=(0, 1, 2, 0, 1)):
    probs = np.full((len(clips), 3), (1 - confidence) / 2)
    probs[np.arange(len(clips)), answers] = confidence
    whole = np.full(len(clips), -1)
    return tables.Predictions(list(clips), whole, list(labels), probs, {'classes': CLASSES})


SOUND = member([0, 1, 2, 1, 1])  # all but d
PICTURE = member([0, 0, 1, 0, 0], 0.6)  # a and d


def write(tmp_path, members=None, data=None, **options):
    members = members or {'A02': SOUND, 'V02': PICTURE}
    options = {'sound': 'A02', 'picture': 'V02'} | options
    path = tmp_path / 'gallery.html'
    found = gallery.write(members, data or Clips(), 'test', path, **options)
    return found, path.read_text()


def shown(page):
    return re.findall(r'<p class="dim">(\w), ', page)


def test_the_sound_is_right_the_picture_is_wrong_and_the_darkest_comes_first(tmp_path):
    found, page = write(tmp_path)
    assert found == 3 and shown(page) == ['e', 'c', 'b']
    assert '<p class="dim">c, brightness 18 of 255</p>' in page  # 0.587 (30 + (12 - 9) / 3)
    found, page = write(tmp_path, sound='V02', picture='A02')
    assert found == 1 and shown(page) == ['d']


def test_seconds_and_frames_meet_at_the_clip(tmp_path):
    def parts(table, kind, num):
        columns = (np.repeat(x, num, axis=0) for x in (table.clip_id, table.label, table.probs))
        clip_id, label, probs = columns
        segment = np.tile(np.arange(num), len(table.clip_id))
        return tables.Predictions(
            clip_id, segment, label, probs, table.meta | {'granularity': kind}
        )

    members = {'A02': parts(SOUND, 'second', 2), 'V02': parts(PICTURE, 'frame', 3)}
    assert shown(write(tmp_path, members)[1]) == ['e', 'c', 'b']


def test_the_numbers_above_it_are_of_all_clips(tmp_path):
    # dark: e, c, d; light: d, b, a; the one in the middle counts in both
    sentence = (
        'A02 is right and V02 is wrong in 3 of 5 clips; '
        'in the dark half A02 is right in 66.7 %, V02 in 33.3 % and '
        'in the light half A02 is right in 66.7 %, V02 in 66.7 %.'
    )
    assert sentence in write(tmp_path)[1]
    found, page = write(tmp_path, count=2)
    assert found == 3 and shown(page) == ['e', 'c']
    assert f'{sentence} The 2 darkest are shown.' in page


def test_every_member_shows_its_answer_and_what_it_gives_the_true_scene(tmp_path):
    third = member([2, 2, 2, 2, 2], 0.5)
    _, page = write(tmp_path, {'A02': SOUND, 'V02': PICTURE, 'C04': third})
    card = page.split('<article')[1]
    rows = re.findall(
        r'<td>([^<]*)</td>' * 3 + r'.*?class="(\w+ ?\w*)" style="width:([\d.]+)%', card
    )
    assert rows == [
        ('A02', 'tram', '0.800', 'bar right', '80.0'),
        ('V02', 'park', '0.600', 'bar', '60.0'),
        ('', 'tram', '0.200', 'bar right', '20.0'),
        ('C04', '&lt;b&gt;bus&lt;/b&gt;', '0.500', 'bar', '50.0'),
        ('', 'tram', '0.250', 'bar right', '25.0'),
    ]


def test_a_thumbnail_is_the_middle_frame_in_the_page_itself(tmp_path):
    _, page = write(tmp_path)
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 3
    image = media.decode_jpeg(base64.b64decode(sources[1].removeprefix('data:image/jpeg;base64,')))
    assert image.shape == (225, 400, 3) and abs(image[..., 1].mean() - 30) < 2


def test_names_from_files_cannot_become_markup(tmp_path):
    bad = {'<img src=x>': SOUND, 'V\x1b[2J': PICTURE}
    _, page = write(tmp_path, bad, sound='<img src=x>', picture='V\x1b[2J')
    tags, parser = [], HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append(tag)
    parser.feed(page)
    assert tags.count('img') == 3 and 'b' not in tags and '\x1b' not in page


def test_without_such_a_clip_the_page_says_so(tmp_path):
    found, page = write(tmp_path, {'A02': PICTURE, 'V02': PICTURE})
    assert found == 0 and 'in none of the 5 clips; in the dark half' in page


def test_frames_of_clips_without_a_known_scene_are_not_decoded(tmp_path):
    data, labels = Clips(), (0, -1, -1, 0, 1)
    sound, picture = (
        member(answers, labels=labels) for answers in ([0, 1, 2, 1, 1], [0, 0, 1, 0, 0])
    )
    assert write(tmp_path, {'A02': sound, 'V02': picture}, data)[0] == 1
    assert set(data.decoded) == {0, 3, 4}


@pytest.mark.parametrize(
    ('members', 'options', 'sentence'),
    [
        (None, {'sound': 'A01'}, "'A01' is none of the tables A02, V02"),
        (None, {'picture': 'A02'}, "'A02' cannot be both the sound and the picture"),
        ([member([0] * 5, labels=[-1] * 5)] * 2, {}, 'none of the 5 clips has a true scene'),
        (
            [member([0] * 5, clips='abcxy')] * 2,
            {},
            r'2 of 5 clips are not in test of green.*: x, y;',
        ),
        ([SOUND, member([0] * 4, clips='abcd', labels=[0] * 4)], {}, 'table 2 has 4 rows'),
    ],
)
def test_what_is_wrong_is_one_sentence_and_nothing_is_written(tmp_path, members, options, sentence):
    members = members and dict(zip(('A02', 'V02'), members, strict=True))
    with pytest.raises(ValueError, match=sentence):
        write(tmp_path, members, **options)
    assert not list(tmp_path.iterdir())


def test_the_score_command_makes_it_from_seconds_frames_and_a_built_dataset(
    data_dir, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    dataset = records.open_dataset('tfds_tau', 'demo', data_dir)
    outlines = [dataset.records('test').outline(index) for index in range(10)]
    clips, labels = [o['clip_id'] for o in outlines], np.array([o['label'] for o in outlines])
    for name, parts, wrong in (('A02', 2, 0), ('V02', 3, 1)):
        probs = np.eye(10)[(labels + wrong * (np.arange(10) < 4)) % 10]
        segment = np.tile(np.arange(parts), 10)
        kind = {2: 'second', 3: 'frame'}[parts]
        meta = {'classes': list(dataset.classes), 'granularity': kind}
        columns = (np.repeat(column, parts, axis=0) for column in (labels, probs))
        tables.write(
            tables.Predictions(np.repeat(clips, parts), segment, *columns, meta), f'{name}.npz'
        )
    command = ['A02=A02.npz', 'V02=V02.npz', '--gallery=out.html', '--dataset=demo']
    assert score.main([*command, f'--data_dir={data_dir}']) == 0
    assert 'wrote out.html: A02 is right and V02 wrong in 4 clips' in capsys.readouterr().out
    page = (tmp_path / 'out.html').read_text()
    assert sorted(re.findall(r'<p class="dim">([^,]*), ', page)) == sorted(clips[:4])
    bright = [int(value) for value in re.findall(r'brightness (\d+) of', page)]
    assert bright == sorted(bright) and bright[0] > 0


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (['a=a.npz', '--gallery=out.html', '--dataset=demo'], 'needs two tables or more'),
        (['a=a.npz', 'b=b.npz', '--gallery=out.html'], 'and --dataset, which has the frames'),
        (
            ['a=a', 'b=b', '--gallery=no/out.html', '--dataset=demo'],
            'the folder of --gallery no/out.html does not exist',
        ),
    ],
)
def test_the_command_refuses_before_it_reads(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        score.main(options)
