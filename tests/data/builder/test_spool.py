"""Builds that meet bad media, are killed or run twice at once end like a clean one."""

import collections
import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python import array_record_module

from avsc_jax.data import media
from avsc_jax.data.builder import bad_media, base, spool
from avsc_jax.data.builder.clip_reader import Clip
from avsc_jax.data.builder.media_files import FolderFiles
from avsc_jax.runtime import files
from tfds_tau import demo
from tfds_tau.tfds_tau_dataset_builder import Builder

ROOT = Path(__file__).parents[3]
DUMMY = ROOT / 'tfds_tau/dummy_data'
IDS = sorted(path.stem for path in (DUMMY / 'audio').iterdir())


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(DUMMY, tmp_path / 'tau')


@pytest.fixture
def decoded(monkeypatch):
    """Counts the clips whose pictures are decoded."""
    counted, read_frames = collections.Counter(), media.read_frames

    def counting(source, *args, **kwargs):
        counted[Path(source).stem] += 1
        return read_frames(source, *args, **kwargs)

    monkeypatch.setattr(media, 'read_frames', counting)
    return counted


def build(data_dir, manual_dir=DUMMY, config='clips', **options):
    builder = Builder(config=config, data_dir=data_dir)
    chosen = tfds.download.DownloadConfig(manual_dir=manual_dir, **options)
    builder.download_and_prepare(download_config=chosen)
    return builder


def contents(builder):
    """All records of every split."""

    def plain(record):
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in record.items()}

    return {s: [plain(r) for r in builder.as_data_source(s)] for s in sorted(builder.info.splits)}


def stored_ids(builder):
    splits = ('train', 'test')
    return sorted(r['clip_id'].decode() for s in splits for r in builder.as_data_source(s))


def beside(builder):
    """What lies next to the finished data set."""
    return sorted(path.name for path in Path(builder.data_dir).parent.iterdir())


def report(data_dir, config='clips'):
    lines = (data_dir / f'tfds_tau/{config}/1.0.0.bad_media.tsv').read_text().splitlines()
    return [line.split('\t') for line in lines]


@pytest.fixture(scope='module')
def clean(tmp_path_factory):
    return build(tmp_path_factory.mktemp('clean'))


@pytest.mark.parametrize(
    ('clip', 'name'),
    [
        (Clip('a', 'a.wav', 'a.mp4', 'bus'), '8c136ebe43a7d0f00b02bfe2e42a1b10'),
        (Clip('a', 'a.wav', '', 'bus', 'here', 'test'), '64713a8822bdd1326ca9c1dd73044785'),
    ],
)
def test_clips_have_the_names_that_unfinished_builds_of_earlier_versions_gave_them(
    clip, name, tmp_path
):
    found = spool.Spool(tmp_path, FolderFiles(tmp_path), None, {'seconds': False}, None)
    assert found._path(clip).name == f'{name}.clip'


def break_three(folder):
    (folder / f'audio/{IDS[0]}.wav').write_bytes(b'')
    (folder / f'video/{IDS[0]}.mp4').write_bytes(b'no video')
    (folder / f'video/{IDS[3]}.mp4').unlink()
    (folder / f'audio/{IDS[5]}.wav').write_bytes(bytes(999))
    return [
        f'audio/{IDS[0]}.wav',
        f'video/{IDS[0]}.mp4',
        f'video/{IDS[3]}.mp4',
        f'audio/{IDS[5]}.wav',
    ]


def test_a_clean_build_leaves_only_the_data_set(clean):
    assert beside(clean) == ['1.0.0']
    assert clean.info.metadata['left_out'] == []


def test_records_are_the_same_bytes_in_each_build(clean):
    """By themselves, protobuf's maps are written in an order of the process."""
    fields = sorted(clean.info.features)
    for path in Path(clean.data_path).glob('*.array_record*'):
        with contextlib.closing(array_record_module.ArrayRecordReader(str(path))) as reader:
            for record in reader.read_all():
                named = [b'\n' + bytes([len(name)]) + name.encode() for name in fields]
                places = [record.index(name) for name in named]
                assert places == sorted(places)


def test_all_bad_files_are_listed_before_the_build_fails(folder, tmp_path, capsys):
    named = break_three(folder)
    sentence = rf'^3 of 6 clips have .*the first is {named[0]}; .*bad_media\.tsv.*--on_error=skip$'
    with pytest.raises(ValueError, match=sentence):
        build(tmp_path / 'data', folder)
    head, *rows = report(tmp_path / 'data')
    assert head == ['path', 'reason']
    assert [path for path, _ in rows] == named
    assert all(reason for _, reason in rows)
    printed = capsys.readouterr().err
    assert all(printed.count(f'{path}\t{reason}\n') == 1 for path, reason in rows)
    assert f'1 of 12 files are missing, such as {named[2]}' in printed
    assert not list((tmp_path / 'data').rglob('*.array_record-*'))
    assert not list((tmp_path / 'data').rglob('incomplete*'))


def test_whole_files_are_not_decoded_again_once_the_others_are_mended(
    folder, tmp_path, decoded, clean
):
    break_three(folder)
    with pytest.raises(ValueError):
        build(tmp_path / 'data', folder)
    good = [IDS[i] for i in (1, 2, 4)]
    assert [decoded[name] for name in good] == [1, 1, 1]
    decoded.clear()
    shutil.copytree(DUMMY, folder, dirs_exist_ok=True)
    builder = build(tmp_path / 'data', folder)
    assert sorted(decoded) == sorted(set(IDS) - set(good))
    assert contents(builder) == contents(clean)
    assert beside(builder) == ['1.0.0']  # the report is gone, too


def test_bad_files_may_be_left_out_and_the_data_set_says_so(
    folder, tmp_path, monkeypatch, capsys, clean
):
    monkeypatch.setattr(Builder, 'on_error', 'skip')
    named = break_three(folder)
    builder = build(tmp_path / 'data', folder)
    left_out = [IDS[0], IDS[3], IDS[5]]
    assert stored_ids(builder) == [IDS[i] for i in (1, 2, 4)]
    assert beside(builder) == ['1.0.0', '1.0.0.bad_media.tsv']
    assert [path for path, _ in report(tmp_path / 'data')[1:]] == named
    assert 'left out: 3 of 6 clips' in capsys.readouterr().err
    for again in (
        tfds.builder_from_directory(builder.data_dir),
        Builder(config='clips', data_dir=tmp_path / 'data'),
    ):
        assert again.info.metadata['left_out'] == left_out
    for split, records in contents(builder).items():
        whole = contents(clean)[split]
        assert records == [record for record in whole if record['clip_id'].decode() not in left_out]


def test_a_split_without_a_whole_clip_is_an_error(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(Builder, 'on_error', 'skip')
    for name in ('airport-lisbon-8-15', 'bus-london-18-35'):
        (folder / f'audio/{name}.wav').unlink()
    with pytest.raises(ValueError, match="no clip of 'test'"):
        build(tmp_path / 'data', folder)


def test_a_long_report_is_cut_on_the_console_only(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bad_media, 'MAX_LINES', 2)
    named = break_three(folder)
    with pytest.raises(ValueError):
        build(tmp_path / 'data', folder)
    printed = capsys.readouterr().err
    assert '... and 2 more' in printed
    assert f'{named[3]}\t' not in printed
    assert len(report(tmp_path / 'data')) == 5


class Killed(BaseException):
    """Ends a build at a chosen point."""


@pytest.mark.parametrize('moment', ['before', 'after'])
def test_a_build_stopped_at_any_file_ends_like_a_clean_one(
    tmp_path, monkeypatch, decoded, clean, moment
):
    monkeypatch.setattr(Builder, 'workers', 1)
    whole, done = files.whole, []

    @contextlib.contextmanager
    def stopping(path):
        if moment == 'before' and path not in done:
            done.append(path)
            path.with_name(f'{path.name}.1.tmp').write_bytes(b'half')
            raise Killed
        with whole(path) as beside:
            yield beside
        if path not in done:
            done.append(path)
            raise Killed

    monkeypatch.setattr(files, 'whole', stopping)
    for _ in range(50):
        try:
            builder = build(tmp_path)
            break
        except Killed:
            is_last = done[-1].name == 'content.json'  # made once all is built
            assert is_last or not list(tmp_path.rglob('dataset_info.json'))
    assert len(done) == 6 + 3 + 3 + 1  # clips; for each split a shard, and what it holds; digests
    assert contents(builder) == contents(clean)
    assert beside(builder) == ['1.0.0']
    if moment == 'after':
        assert set(decoded.values()) == {1}


def test_a_changed_file_is_encoded_again(folder, tmp_path, monkeypatch, decoded):
    merge = spool.Spool.merge

    def stop(*args):
        raise Killed

    monkeypatch.setattr(spool.Spool, 'merge', stop)
    with pytest.raises(Killed):
        build(tmp_path / 'data', folder)
    monkeypatch.setattr(spool.Spool, 'merge', merge)
    known = {name: decoded[name] for name in IDS if decoded[name]}
    changed = f'video/{sorted(known)[0]}.mp4'
    os.utime(folder / changed, ns=(1, 1))
    build(tmp_path / 'data', folder)
    assert decoded[Path(changed).stem] == 2
    assert [decoded[name] for name in sorted(known)[1:]] == [1] * (len(known) - 1)


@pytest.mark.parametrize('content', [b'', bytes(4), bytes(5000), b'\1\2\3\4half of it'])
def test_a_spooled_clip_damaged_by_a_power_failure_is_encoded_again(
    tmp_path, monkeypatch, clean, content
):
    fill = spool.Spool.fill

    def damaged(held, clip):
        fill(held, clip)
        if clip.clip_id == IDS[1]:
            held._path(clip).write_bytes(content)

    monkeypatch.setattr(spool.Spool, 'fill', damaged)
    patched = spool.Spool.records

    def mended(held, clip):
        monkeypatch.setattr(spool.Spool, 'fill', fill)
        return patched(held, clip)

    monkeypatch.setattr(spool.Spool, 'records', mended)
    assert contents(build(tmp_path)) == contents(clean)


def test_what_a_killed_build_left_of_tfds_own_is_removed(tmp_path):
    left = tmp_path / 'tfds_tau/clips/incomplete.ABCDEF_1.0.0'
    left.mkdir(parents=True)
    (left / 'tfds_tau-test.array_record-00000-of-00001').write_bytes(b'half')
    assert beside(build(tmp_path)) == ['1.0.0']


def test_merged_clips_take_no_room_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(base, 'CLIPS_PER_SHARD', 1)
    monkeypatch.setattr(Builder, 'workers', 1)
    counts, merge = [], spool.Spool.merge

    def counted(held, *args):
        counts.append(len(list(held.folder.glob('*.clip'))))
        return merge(held, *args)

    monkeypatch.setattr(spool.Spool, 'merge', counted)
    builder = build(tmp_path)
    assert builder.info.splits['train'].num_shards == 4
    assert len(counts) == 6
    assert max(counts) <= 3  # the one to be merged, and two that the worker is ahead
    shards = [path for path in Path(builder.data_dir).glob('*array_record*') if path.is_file()]
    assert {path.stat().st_nlink for path in shards} == {1}  # not held by the spool any more


@pytest.mark.parametrize('hard_links', [True, False])
def test_shards_are_linked_where_that_is_possible(tmp_path, monkeypatch, hard_links, clean):
    if not hard_links:
        monkeypatch.setattr(Path, 'hardlink_to', lambda *_: (_ for _ in ()).throw(OSError()))
    builder = build(tmp_path)
    assert contents(builder) == contents(clean)


def test_flags_of_tfds_for_shards_and_counts_work(tmp_path):
    builder = build(tmp_path, num_shards=2, max_examples_per_split=2)
    assert builder.info.splits['train_inner'].num_shards == 2
    assert stored_ids(builder) == IDS
    builder = build(tmp_path / 'one', max_examples_per_split=1)
    assert builder.info.splits['test'].num_examples == 1


def in_process(code, *arguments):
    environment = os.environ | {'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'}
    command = [sys.executable, '-c', code, *map(str, arguments)]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(command, env=environment, **pipes)


KILLED = """
import contextlib, sys, time
import tensorflow_datasets as tfds
from avsc_jax.runtime import files
from tfds_tau.tfds_tau_dataset_builder import Builder
whole = files.whole

@contextlib.contextmanager
def slowly(path):
    with whole(path) as beside:
        yield beside
    time.sleep(0.2)

files.whole = slowly
Builder.workers = 1
config = tfds.download.DownloadConfig(manual_dir=sys.argv[2])
Builder(config='clips', data_dir=sys.argv[1]).download_and_prepare(download_config=config)
"""


def test_a_killed_process_goes_on_without_decoding_what_it_had(tmp_path, decoded, clean):
    held = tmp_path / 'tfds_tau/clips/1.0.0.spool/array_record'
    with in_process(KILLED, tmp_path, DUMMY) as process:
        while len(list(held.glob('*.clip')) if held.exists() else []) < 2:
            time.sleep(0.01)
            assert process.poll() is None, process.stderr.read()
        process.kill()
    finished = len(list(held.glob('*.clip'))) + 2 * len(list(held.glob('*.shard')))
    assert 2 <= finished < 6
    builder = build(tmp_path)
    assert sum(decoded.values()) == 6 - finished
    assert contents(builder) == contents(clean)
    assert beside(builder) == ['1.0.0']


TWICE = """
import sys, time
from tfds_tau import demo
from tfds_tau.tfds_tau_dataset_builder import Builder
chosen, render = [demo.clips()[i] for i in (0, 2, 14)], demo.render
def slow(folder, **_):
    print('rendered')
    time.sleep(1)
    return render(folder, chosen=chosen, duration_s=1)
demo.render = slow
builder = Builder(config='demo', data_dir=sys.argv[1])
builder.download_and_prepare()
print({name: split.num_examples for name, split in builder.info.splits.items()})
print(len(builder.as_data_source('train')))
"""


@pytest.mark.slow
def test_two_processes_build_one_data_set_once(tmp_path):
    both = [in_process(TWICE, tmp_path) for _ in range(2)]
    told = [process.communicate(timeout=100) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    ends = [out.splitlines()[-2:] for out, _ in told]
    assert ends[0][1] == ends[1][1] == '2'
    assert ends[0][0].count(':') == ends[1][0].count(':') == 4
    assert sorted('rendered' in out for out, _ in told) == [False, True]
    assert 'waiting for process ' in ''.join(err for _, err in told)


@pytest.mark.tf
@pytest.mark.parametrize('config', ['clips', 'segments'])
def test_beam_builds_the_same_records_without_tensorflow(tmp_path, config, decoded):
    beam = pytest.importorskip('apache_beam')
    chosen = [demo.clips()[i] for i in (*range(0, 8), *range(14, 18), 40, 41)]
    source = demo.render(tmp_path / 'media', chosen=chosen, duration_s=2)
    plain = build(tmp_path / 'plain', source, config)
    assert len(decoded) == 14
    options = beam.options.pipeline_options.PipelineOptions(
        [], runner='DirectRunner', direct_running_mode='multi_processing', direct_num_workers=2
    )
    on_beam = build(tmp_path / 'beam', source, config, beam_options=options)
    assert sum(decoded.values()) == 14  # the others were decoded by Beam's workers
    assert contents(on_beam) == contents(plain)
    assert beside(on_beam) == ['1.0.0']
    assert 'tensorflow' not in sys.modules


@pytest.mark.tf
@pytest.mark.parametrize('on_error', ['fail', 'skip'])
def test_beam_lists_bad_files_too_and_keeps_the_others(folder, tmp_path, monkeypatch, on_error):
    beam = pytest.importorskip('apache_beam')
    monkeypatch.setattr(Builder, 'on_error', on_error)
    named = break_three(folder)
    options = beam.options.pipeline_options.PipelineOptions([], runner='DirectRunner')
    if on_error == 'skip':
        builder = build(tmp_path / 'data', folder, beam_options=options)
        assert stored_ids(builder) == [IDS[i] for i in (1, 2, 4)]
        assert builder.info.metadata['left_out'] == [IDS[0], IDS[3], IDS[5]]
    else:
        with pytest.raises(ValueError, match='3 of 6 clips'):
            build(tmp_path / 'data', folder, beam_options=options)
        assert len(list((tmp_path / 'data').rglob('*.clip'))) == 3
    assert [path for path, _ in report(tmp_path / 'data')[1:]] == named


@pytest.mark.tf
def test_beam_workers_that_do_not_share_the_folder_are_an_error(tmp_path, monkeypatch):
    beam = pytest.importorskip('apache_beam')
    options = beam.options.pipeline_options.PipelineOptions([], runner='DirectRunner')
    monkeypatch.setattr(spool.Spool, 'check_filled', lost(spool.Spool.check_filled))
    with pytest.raises(ValueError, match='have to share the folders'):
        build(tmp_path, beam_options=options)


def lost(check):
    def emptied(held, clips):
        next(held.folder.glob('*.clip')).unlink()
        check(held, clips)

    return emptied


def test_a_bad_file_whose_name_is_no_text_is_one_line_of_the_report(tmp_path):
    bad = [('a', [('caf\udce9\nb.wav', 'caf\udce9\nb.wav is empty')])]
    bad_media.report(bad, 2, tmp_path / 'bad.tsv', skip=True, flag='')
    assert (tmp_path / 'bad.tsv').read_text().splitlines()[1:] == [
        'caf� b.wav\tcaf� b.wav is empty'
    ]
