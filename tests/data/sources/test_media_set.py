"""One's own media read directly: what files hold, and what a record of them gives."""

import av
import numpy as np
import pytest
import soundfile
from ml_collections import ConfigDict
from PIL import Image

from avsc_jax.data import decode_workers, sources
from avsc_jax.data.sources import listing
from avsc_jax.input_pipeline import feature_cache
from avsc_jax.input_pipeline.encoders import EncoderSpec


def tone(path, seconds=0.5):
    soundfile.write(path, 0.1 * np.sin(np.arange(round(8000 * seconds)) / 3), 8000)


def still(path):
    Image.new('RGB', (40, 30), (9 * len(path.stem), 50 * (path.parent.name == 'zoo'), 0)).save(path)


def mute(path, seconds=0.6, rate=5):
    with av.open(path, 'w') as container:
        pictures = container.add_stream('mpeg4', rate=rate)
        pictures.width, pictures.height, pictures.pix_fmt = 32, 32, 'yuv420p'
        for k in range(round(rate * seconds)):
            image = np.full((32, 32, 3), 9 * k, np.uint8)
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
        container.mux(pictures.encode())


def film(path, seconds=0.6):
    shade = 9 * len(path.stem) + 90 * (path.parent.name == 'zoo')
    with av.open(path, 'w') as container:
        pictures = container.add_stream('mpeg4', rate=5)
        sound = container.add_stream('aac', rate=16000)
        pictures.width, pictures.height, pictures.pix_fmt = 32, 32, 'yuv420p'
        for k in range(round(5 * seconds)):
            image = np.full((32, 32, 3), shade + k, np.uint8)
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
        noise = np.random.default_rng(0).normal(0, 0.1, (1, round(16000 * seconds)))
        frame = av.AudioFrame.from_ndarray(noise.astype(np.float32), 'fltp', 'mono')
        frame.sample_rate = 16000
        for each in (frame, None):
            container.mux(sound.encode(each))
        container.mux(pictures.encode())


MADE = {'.wav': tone, '.png': still, '.mp4': film, '.mkv': mute}


def folder_of(folder, *names):
    """Two classes, each with the files of these names."""
    for scene in ('bar', 'zoo'):
        (folder / scene).mkdir(parents=True)
        for name in names:
            path = folder / scene / name
            MADE[path.suffix](path)
    return folder


@pytest.mark.parametrize(
    ('names', 'held'),
    [
        (['a.png', 'bb.png'], ('picture',)),
        (['a.wav'], ('sound',)),
        (['a.mp4'], ('sound', 'picture')),
        (['a.mkv'], ('picture',)),  # films that are mute
        (['a.mkv', 'b.mp4'], ('sound', 'picture')),
        (['a.png', 'b.mp4'], ('picture',)),
        (['a.wav', 'b.mp4'], ('sound',)),
    ],
)
def test_a_system_takes_what_all_files_hold(tmp_path, names, held):
    assert listing.held(folder_of(tmp_path / 'x', *names)) == held


def test_sounds_and_pictures_apart_are_an_error(tmp_path):
    folder = folder_of(tmp_path / 'x', 'a.png', 'b.wav')
    with pytest.raises(ValueError, match=r'sounds, such as bar/b\.wav, and pictures, .* bar/a\.p'):
        listing.held(folder)


def opened(folder, tmp_path, **changes):
    """The files of a folder as a run's data set."""
    data = dict(
        name='own_media', config='', source='auto', folder=str(folder), needs=(), window_s=1.0,
        sample_rate_hz=48000, frames='clip12', short_side=448, on_error='fail',
    )  # fmt: skip
    config = ConfigDict(dict(data=data | changes, paper={}))
    source = sources.find('own_media')
    source.choose(config, tmp_path, named=False)
    source.settle(config)
    return source.open(config.data, tmp_path)


def test_a_file_is_a_record_whose_windows_are_read_one_by_one(tmp_path):
    folder = folder_of(tmp_path / 'x', 'a.mp4', 'bb.mp4', 'ccc.mp4')
    tone(folder / 'bar/d.wav')  # has no pictures, and is left out for that
    film(folder / 'bar/a.mp4', seconds=2.2)
    dataset = opened(folder, tmp_path, needs=('sound', 'picture'))
    assert dataset.classes == ('bar', 'zoo') and dataset.num_records('train+test') == 6
    records = {record['clip_id']: record for record in dataset.records('train+test')}
    assert [*records] == [outline['clip_id'] for outline in dataset.outlines('train+test')]
    long = [*records['bar/a.mp4']['windows']]
    assert [round(w['end_s'] - w['start_s'], 1) for w in long] == [1.0, 1.0]
    assert all(w['sample_rate'] == 16000 and len(w['frames']) == 12 for w in long)
    of_sound = dataset.records('test', fields=('audio',))[0]
    assert all('frames' not in window for window in of_sound['windows'])
    assert of_sound['label'] == dataset.classes.index(of_sound['clip_id'].split('/')[0])
    with pytest.raises(ValueError, match=r"no split 'evaluation'; it has train_inner"):
        dataset.records('evaluation')


def test_another_content_is_another_data_set(tmp_path):
    folder = folder_of(tmp_path / 'x', 'a.png', 'bb.png', 'ccc.png')
    first = opened(folder, tmp_path)
    assert opened(folder, tmp_path).identities == first.identities
    Image.new('RGB', (50, 30)).save(folder / 'bar/a.png')
    assert opened(folder, tmp_path).identities != first.identities
    assert opened(folder, tmp_path, window_s=2.0).name != first.name


def test_a_file_that_cannot_be_read_is_an_error_or_left_out(tmp_path, capsys):
    folder = folder_of(tmp_path / 'x', 'a.png', 'bb.png', 'ccc.png')
    (folder / 'zoo/a.png').write_bytes(b'no picture')
    strict = opened(folder, tmp_path).records('train+test')
    place = next(k for k, c in enumerate(strict._clips) if c.clip_id == 'zoo/a.png')
    with pytest.raises(ValueError, match=r'zoo/a\.png.*leave out what cannot .*on_error=skip'):
        next(strict[place]['windows'])
    lenient = opened(folder, tmp_path, on_error='skip').records('train+test')
    assert [*lenient[place]['windows']] == []
    assert 'note: not read: ' in capsys.readouterr().err


def test_files_are_decoded_by_processes_that_may_die(tmp_path, monkeypatch):
    record = opened(folder_of(tmp_path / 'x', 'a.png', 'bb.png'), tmp_path).records('test')[0]
    monkeypatch.setattr(decode_workers, 'COMMAND', ('sh', '-c', 'exit 3'))
    with pytest.raises(ValueError, match=r'\.png: the decoder died \(exit code 3\).*mend the file'):
        next(record['windows'])


class Twice(feature_cache.Encoder):
    """Makes two rows of each window's sound: its length, and zero."""

    items_per_call = 4

    def __init__(self):
        self.spec = EncoderSpec('openl3_audio', {}, '')

    def items(self, record):
        return [np.float32([len(record['audio'])]), np.float32([0])]

    def count(self, items):
        return len(items)

    def __call__(self, items, *, of=0):
        return np.stack(items)


def test_features_of_all_windows_of_a_file_are_its_rows_and_mute_files_have_none():
    def clip(name, *lengths):
        windows = iter([{'audio': np.zeros(n)} if n else {'frames': []} for n in lengths])
        return {'clip_id': name, 'segment': -1, 'windows': windows}

    made = feature_cache._encoded([clip('a', 3, 5), clip('b', 0), clip('c', 7)], [Twice()])
    block = made['openl3_audio']
    assert block['counts'].tolist() == [4, 0, 2]
    assert block['features'][0, :, 0].tolist() == [3, 0, 5, 0]
    assert block['features'][2, :2, 0].tolist() == [7, 0]
    none = feature_cache._encoded([clip('b', 0), clip('d')], [Twice()])['openl3_audio']
    assert none['features'].shape == (2, 0, 512) and none['counts'].tolist() == [0, 0]
