"""Fold lists and the inner split, at the full size of the real set."""

import csv
import io
import os
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import tensorflow_datasets as tfds

from avsc_jax.data.builder.media_files import MediaFiles
from avsc_jax.scenes import SCENES, parse_clip_id
from tfds_tau import splits
from tfds_tau.tfds_tau_dataset_builder import Builder

# Clips a scene in the two lists of fold 1. Source: the set's own lists.
TRAIN = (697, 806, 705, 893, 1006, 982, 841, 968, 985, 763)
TEST = (281, 327, 360, 386, 386, 387, 387, 421, 402, 308)


def full_size_names() -> tuple[list[str], list[str]]:
    """12,291 names at 431 made-up locations (305 + 126), as many a scene as in the real lists."""
    lists, segment = ([], []), 0
    for part, (counts, places) in enumerate(((TRAIN, 305), (TEST, 126))):
        for i, (scene, count) in enumerate(zip(SCENES, counts, strict=True)):
            here = range(i, places, 10)  # this scene's locations
            bounds = np.linspace(0, 1, len(here) + 1) ** 1.3 * count  # of uneven size
            for j in range(count):
                place = here[np.searchsorted(bounds, j, 'right') - 1] + 1000 * (part + 1)
                lists[part].append(f'{scene}-lyon-{place}-{segment}')
                segment += 1
    return lists


def fold_list(clip_ids, *, line_end='\n') -> str:
    rows = ['filename_audio\tfilename_video\tscene_label']
    rows += [f'audio/{c}.wav\tvideo/{c}.mp4\t{c.split("-")[0]}' for c in clip_ids]
    return line_end.join(rows) + line_end


def write_archives(folder: Path, train, test, wav=b'', mp4=b'', line_end='\r\n') -> None:
    """TAU's kind of archives: lists in one zip, sound and pictures in others, a folder around."""
    folder.mkdir()
    with zipfile.ZipFile(folder / 'TAU.meta.zip', 'w') as archive:
        for name, ids in (('train', train), ('evaluate', test)):
            text = '\ufeff' + fold_list(ids, line_end=line_end)
            archive.writestr(f'TAU/evaluation_setup/fold1_{name}.csv', text.encode())
    for kind, ending, data in (('audio', 'wav', wav), ('video', 'mp4', mp4)):
        with zipfile.ZipFile(folder / f'TAU.{kind}.1.zip', 'w') as archive:
            for clip_id in (*train, *test):
                archive.writestr(f'TAU/{kind}/{clip_id}.{ending}', data)


def tiny_media() -> tuple[bytes, bytes]:
    sound, picture = io.BytesIO(), io.BytesIO()
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (32, 2))
    soundfile.write(sound, noise, 48000, format='WAV', subtype='PCM_24')
    with av.open(picture, 'w', format='mp4') as container:
        stream = container.add_stream('libx264', rate=1)
        stream.width = stream.height = 16
        image = np.zeros((16, 16, 3), np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
        container.mux(stream.encode())
    return sound.getvalue(), picture.getvalue()


def sizes(found) -> dict[str, int]:
    return {name: len(clips) for name, clips in found.items()}


@pytest.mark.parametrize('line_end', ['\n', '\r\n', '\r'])
def test_lists_of_full_size_are_read_from_archives_whatever_their_line_ends(tmp_path, line_end):
    train, test = full_size_names()
    assert (len(train), len(test), len({*train, *test})) == (8646, 3645, 12291)
    assert len({parse_clip_id(name).location for name in (*train, *test)}) == 431
    write_archives(tmp_path / 'tau', train, test, line_end=line_end)
    found = splits.development(MediaFiles(tmp_path / 'tau'))
    assert list(found) == ['train_inner', 'validation', 'test']
    assert sizes(found)['test'] == 3645
    assert sizes(found)['train_inner'] + sizes(found)['validation'] == 8646
    assert [clip.clip_id for clip in found['test']] == test
    places = {s: {parse_clip_id(c.clip_id).location for c in found[s]} for s in found}
    assert not places['train_inner'] & places['validation']


def test_inner_split_moves_whole_locations_until_nine_tenths_of_each_scene_are_in():
    train, _ = full_size_names()
    inner = splits.inner_split(train)
    for scene in SCENES:
        everything = [name for name in train if name.startswith(f'{scene}-')]
        taken = [name for name in everything if name in inner]
        places = {parse_clip_id(name).location for name in taken}
        largest = max(
            sum(parse_clip_id(name).location == place for name in taken) for place in places
        )
        assert len(taken) >= int(0.9 * len(everything)) > len(taken) - largest
        assert not any(
            parse_clip_id(name).location in places for name in everything if name not in inner
        )


def test_inner_split_draws_from_one_generator_over_sorted_scenes_and_locations():
    names = [f'{scene}-lyon-{p}-{p}' for scene in ('bus', 'tram') for p in range(10)]
    # random.Random(30).choice on what remains of '0' ... '9' draws, for bus, 8 4 0 6 9 2 5 1 7 and
    # then, for tram, 6 2 1 5 0 9 4 3 7
    assert set(names) - splits.inner_split(names) == {'bus-lyon-3-3', 'tram-lyon-8-8'}
    assert splits.inner_split(names) == splits.inner_split(names[::-1])


def test_a_changed_generator_is_noticed_on_the_true_list(monkeypatch):
    names = [f'bus-lyon-{place}-{place}' for place in range(10)]
    monkeypatch.setattr(splits, 'TRAIN_SHA256', splits._sha256(names))
    with pytest.raises(ValueError, match='7,907'):
        splits.inner_split(names)


def test_missing_lists_and_columns_are_named(tmp_path):
    train, test = ['bus-lyon-1-1', 'bus-lyon-2-2'], ['bus-lyon-3-3']
    write_archives(tmp_path / 'tau', train, test)
    (tmp_path / 'tau/TAU.audio.1.zip').write_bytes(b'PK half an archive')
    with pytest.raises(ValueError, match=r'audio\.1\.zip'):
        MediaFiles(tmp_path / 'tau')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match=r'fold1_train\.csv'):
        splits.development(MediaFiles(tmp_path / 'empty'))
    (tmp_path / 'empty/fold1_train.csv').write_text('filename_audio,filename_video,scene_label\n')
    with pytest.raises(ValueError, match='tab-separated'):
        splits.development(MediaFiles(tmp_path / 'empty'))


@pytest.mark.parametrize(
    'row', ['audio/bus-lyon-1-1.wav\tvideo/x.mp4\ttram', 'audio/x.wav\tv\tbus']
)
def test_rows_whose_name_and_label_disagree_are_refused(tmp_path, row):
    for part in ('train', 'evaluate'):
        text = f'filename_audio\tfilename_video\tscene_label\n{row}\n'
        (tmp_path / f'fold1_{part}.csv').write_text(text)
    with pytest.raises(ValueError, match='<scene>-<city>-<location>-<segment>'):
        splits.development(MediaFiles(tmp_path))


def test_a_clip_in_both_lists_is_refused(tmp_path):
    for part in ('train', 'evaluate'):
        (tmp_path / f'fold1_{part}.csv').write_text(fold_list(['bus-lyon-1-1']))
    with pytest.raises(ValueError, match='bus-lyon-1-1 is both'):
        splits.development(MediaFiles(tmp_path))


def test_evaluation_items_are_paired_and_development_clips_left_out(tmp_path):
    write_archives(tmp_path / 'tau', ['2', '10'], ['bus-lyon-1-1'])
    found = splits.evaluation(MediaFiles(tmp_path / 'tau'))
    assert [clip.clip_id for clip in found['test']] == ['10', '2']
    assert found['test'][0].scene == ''
    (tmp_path / 'tau/audio').mkdir()
    (tmp_path / 'tau/audio/3.wav').touch()
    (tmp_path / 'tau/audio/._2.wav').touch()  # what macOS leaves beside files
    files = MediaFiles(tmp_path / 'tau')
    assert [clip.clip_id for clip in splits.evaluation(files)['test']] == ['10', '2', '3']
    assert [name in files for name in splits.evaluation(files)['test'][2][1:3]] == [True, False]


def test_extracted_files_win_over_archives(tmp_path):
    write_archives(tmp_path / 'tau', ['bus-lyon-1-1'], ['bus-lyon-3-3'])
    (tmp_path / 'tau/audio').mkdir()
    (tmp_path / 'tau/audio/bus-lyon-1-1.wav').write_bytes(b'fresh')
    files = MediaFiles(tmp_path / 'tau')
    assert files.source('audio/bus-lyon-1-1.wav').read_bytes() == b'fresh'
    assert files.source('video/bus-lyon-1-1.mp4').name.endswith('TAU.video.1.zip')


def build_with_tiny_media(tmp_path, train, test) -> dict[str, int]:
    write_archives(tmp_path / 'tau', train, test, *tiny_media())
    builder = Builder(config='clips', data_dir=tmp_path / 'data')
    config = tfds.download.DownloadConfig(manual_dir=tmp_path / 'tau')
    builder.download_and_prepare(download_config=config)
    return {name: split.num_examples for name, split in builder.info.splits.items()}


@pytest.mark.slow
def test_the_builder_handles_a_full_list_with_tiny_media(tmp_path):
    train, test = full_size_names()
    inner = len(splits.inner_split(train))
    assert build_with_tiny_media(tmp_path, train, test) == {
        'train': 8646,
        'train_inner': inner,
        'validation': 8646 - inner,
        'test': 3645,
    }


@pytest.mark.data
def test_the_real_names_give_the_official_counts(tmp_path):
    if not (folder := os.environ.get('AVSC_TAU_METADATA')):
        pytest.skip('AVSC_TAU_METADATA names no folder with fold1_train.csv, fold1_evaluate.csv')
    names = []
    for part in ('train', 'evaluate'):
        rows = csv.DictReader((Path(folder) / f'fold1_{part}.csv').open(), delimiter='\t')
        names.append([Path(row['filename_audio']).stem for row in rows])
    train, test = names
    inner = splits.inner_split(train)
    assert splits._sha256(train) == splits.TRAIN_SHA256
    assert splits._sha256(inner) == splits.TRAIN_INNER_SHA256
    assert len({parse_clip_id(name).location for name in inner}) == 278
    assert len({parse_clip_id(name).location for name in {*train} - inner}) == 27
    assert build_with_tiny_media(tmp_path, train, test) == {
        'train': 8646,
        'train_inner': 7907,
        'validation': 739,
        'test': 3645,
    }
