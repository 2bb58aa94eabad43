"""The command on media files: what is written, what is told, what goes on after a stop."""

import csv
import functools
import io
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image

from avsc_jax import tables
from avsc_jax.data import decode_workers, windows
from avsc_jax.data.decode_workers import Event
from avsc_jax.predict import __main__ as predict
from avsc_jax.predict import media_files, outputs, predictor
from avsc_jax.predict.answer import Answer
from avsc_jax.predict.member import Member
from avsc_jax.predict.resume import Journal
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.runtime import files
from avsc_jax.score import __main__ as score
from avsc_jax.weights.cache import default_weights_dir


@pytest.fixture(scope='module', autouse=True)
def loaded_once():
    """The same tagger for every command, which compiles once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictor, 'load', functools.cache(predictor.load))
        yield


@pytest.fixture
def clips(tmp_path, film):
    """A folder: a clip, one without sound, one without pictures, a longer one, two broken ones."""
    folder = tmp_path / 'clips'
    film(folder / 'a.mp4')
    film(folder / 'b.mp4', sound=False, key=1)
    film(folder / 'c.m4a', pictures=False, key=2)
    film(folder / 'long.mp4', 5.0, key=3)
    (folder / 'text.mp4').write_text('no film')
    (folder / 'zero.mp4').touch()
    (folder / 'notes.txt').touch()
    return folder


def test_good_files_get_answers_and_bad_ones_a_line(both, clips, tmp_path, capsys):
    out = {name: tmp_path / f'out.{end}' for name, end in
           dict(csv='csv', timeline='tsv', jsonl='jsonl', embeddings='npz').items()}  # fmt: skip
    flags = [f'--model={both}', '--window=2', *(f'--{name}={path}' for name, path in out.items())]
    assert predict.main([str(clips), *flags]) == 1
    printed, err = capsys.readouterr()
    assert '! random variables' in err and 'note: sound of 16000 Hz is resampled' in err
    assert f'note: answered without sound: it has no sound track: {clips}/b.mp4' in err
    assert f'note: answered without picture: it has no picture track: {clips}/c.m4a' in err
    *_, other, text, zero, total = err.splitlines()
    assert other == f'left out: files of other kinds (1): {clips}/notes.txt'
    assert text.startswith(f'error: cannot decode {clips}/text.mp4')
    assert zero == f'error: {clips}/zero.mp4 is empty (0 bytes); copy it again'
    assert total == '4 of 6 files classified'
    shown = [line for line in printed.splitlines() if line.startswith(f'{clips}/long.mp4')]
    assert len(shown) == 1 and '0:00 to ' in printed

    table = tables.read(out['csv'], classes=['park', 'tram'])
    assert table.clip_id.tolist() == ['a.mp4', 'b.mp4', 'c.m4a', 'long.mp4']
    lines = [json.loads(line) for line in out['jsonl'].read_text().splitlines()]
    assert [Path(line['file']).name for line in lines] == [
        'a.mp4', 'b.mp4', 'c.m4a', 'long.mp4', 'text.mp4', 'zero.mp4'
    ]  # fmt: skip
    np.testing.assert_array_equal([[*line['probs'].values()] for line in lines[:4]], table.probs)
    assert [line['without'] for line in lines[:4]] == [[], ['sound'], ['picture'], []]
    assert 'error' in lines[4] and 'scene' not in lines[4]
    rows = [*csv.DictReader(io.StringIO(out['timeline'].read_text()), delimiter='\t')]
    assert [row['filename'] for row in rows] == [*table.clip_id, 'long.mp4', 'long.mp4']
    times = [[float(row[key]) for key in ('start_s', 'end_s')] for row in rows[3:]]
    np.testing.assert_allclose(times, [(0, 2), (2, 4), (3, 5)], atol=0.1)
    of_long = np.array([[float(row[name]) for name in ('park', 'tram')] for row in rows[3:]])
    np.testing.assert_allclose(of_long.mean(axis=0), table.probs[3], atol=1e-12)
    with np.load(out['embeddings']) as found:
        assert found['clip_id'].tolist() == table.clip_id.tolist()
        assert found['embedding'].shape == (4, len(lines[0]['embedding']))
    assert {path.name for path in tmp_path.iterdir()} == {'clips', *(p.name for p in out.values())}


def test_windows_of_many_files_are_answered_as_each_alone(both, clips, monkeypatch):
    system = predictor.load(both, default_weights_dir())
    still = Image.new('RGB', (64, 48))
    still.save(clips / 'two.webp', save_all=True, append_images=[Image.new('RGB', (64, 48), 'red')])
    found = {
        t.file.name: t for t in media_files.tag(system, media_files.find([clips], system.takes))
    }
    assert len(found) == 7
    assert 'the file holds 2 pictures; the first one is used' in found['two.webp'].notes
    assert not any('pictures' in note for note in found['a.mp4'].notes)
    for name in ('a.mp4', 'b.mp4', 'c.m4a'):
        (window,) = windows.read(clips / name, system.wants())
        (answer,) = system.answers([window])
        np.testing.assert_allclose(found[name].probs, answer.probs, atol=1e-6)
        np.testing.assert_allclose(found[name].embedding, answer.embedding, rtol=1e-4, atol=1e-5)
    strict = media_files.tag(system, [clips / 'b.mp4', clips / 'a.mp4'], fallback=False)
    told = {t.file.name: t.error for t in strict}
    assert told == {
        'a.mp4': None,
        'b.mp4': f'{clips}/b.mp4 is incomplete: {clips}/b.mp4 has no sound track',
    }


def test_a_finished_file_does_not_wait_for_its_slow_neighbour(monkeypatch, tmp_path):
    def decode(files, wants, *, pause_s, **_):
        window = {'start_s': 0.0, 'end_s': 1.0, 'missing': {}}
        quick, slow = files
        yield Event(slow, window, None)
        yield None
        yield Event(quick, window, None)
        yield Event(quick, None, None)
        yield None
        decoding.append(slow)
        yield Event(slow, None, None)

    class Stand:
        classes = ('park', 'tram')
        wants = staticmethod(lambda window_s: SimpleNamespace(window_s=1.0))
        notes = window_notes = staticmethod(lambda _: [])

        def answers(self, records):
            asked.append(len(records))
            return [Answer(np.ones(2) / 2, np.zeros(1), ())] * len(records)

    decoding, asked = [], []
    monkeypatch.setattr(decode_workers, 'decode', decode)
    tagged = media_files.tag(Stand(), [tmp_path / 'quick', tmp_path / 'slow'])
    assert next(tagged).file.name == 'quick' and not decoding
    assert [one.file.name for one in tagged] == ['slow']
    assert asked == [2, 0][: len(asked)]


def test_what_the_system_refuses_is_the_error_of_that_file_alone(both, clips, monkeypatch):
    system = predictor.load(both, default_weights_dir())

    def refuse(records, **options):
        if any(len(record.get('frames', ())) == 5 for record in records):
            raise ValueError('five are too many')
        return answers(records, **options)

    answers = system.answers
    monkeypatch.setattr(predictor.Predictor, 'answers', lambda self, *a, **k: refuse(*a, **k))
    names = [clips / name for name in ('a.mp4', 'long.mp4', 'c.m4a')]
    monkeypatch.setattr(predictor.Predictor, 'notes', lambda self, record: [])
    found = {t.file.name: t.error for t in media_files.tag(system, names)}
    assert found == {
        'a.mp4': None, 'c.m4a': None, 'long.mp4': f'{clips}/long.mp4: five are too many'
    }  # fmt: skip


def test_a_stopped_run_goes_on_and_each_file_comes_out_once(both, clips, tmp_path, monkeypatch):
    out, decode, asked = tmp_path / 'out.csv', decode_workers.decode, []

    def counted(names, *arguments, **options):
        names = [*names]
        asked.append([name.name for name in names])
        return decode(names, *arguments, **options)

    monkeypatch.setattr(decode_workers, 'decode', counted)
    tag = media_files.tag

    def stopped(*arguments, **options):
        for number, one in enumerate(tag(*arguments, **options)):
            if number == 2:
                raise KeyboardInterrupt
            yield one

    monkeypatch.setattr(media_files, 'tag', stopped)
    names = [str(clips / name) for name in ('a.mp4', 'b.mp4', 'c.m4a', 'long.mp4')]
    flags = [*names, f'--model={both}', f'--csv={out}', '--workers=1']
    with pytest.raises(KeyboardInterrupt):
        predict.main(flags)
    left = tmp_path / 'out.csv.unfinished.jsonl'
    assert not out.exists() and len(left.read_text().splitlines()) == 2
    with left.open('a') as torn:
        torn.write('{"file": "half')
    monkeypatch.setattr(media_files, 'tag', tag)
    assert predict.main(flags) == 0
    assert not left.exists() and sorted(asked[1]) == ['c.m4a', 'long.mp4']
    resumed = tables.read(out, classes=['park', 'tram'])
    out.unlink()
    assert predict.main(flags) == 0
    whole = tables.read(out, classes=['park', 'tram'])
    assert resumed.clip_id.tolist() == whole.clip_id.tolist()
    assert whole.clip_id.tolist() == ['a.mp4', 'b.mp4', 'c.m4a', 'long.mp4']
    np.testing.assert_allclose(resumed.probs, whole.probs, atol=1e-6)


def test_kept_lines_are_of_one_system_and_of_unchanged_files(both, clips, tmp_path, film, capsys):
    out = tmp_path / 'scenes.jsonl'
    flags = [f'--model={both}', f'--jsonl={out}']
    first = [str(clips / 'a.mp4'), str(clips / 'b.mp4')]
    assert predict.main([*first, *flags]) == 0
    film(clips / 'b.mp4', 3.0, key=7)
    capsys.readouterr()
    assert predict.main([*first, str(clips / 'c.m4a'), *flags]) == 0
    assert f'1 of 3 files are finished, according to {out}' in capsys.readouterr().err
    assert [json.loads(line)['without'] for line in out.read_text().splitlines()] == [
        [], [], ['picture']
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"holds answers of .*'window_s': 10.0.*, not of .*1.0"):
        predict.main([*first, *flags, '--window=1'])
    lines = out.read_text().splitlines()
    as_before = [json.loads(line)['made_with'] for line in lines]
    assert as_before[0]['platform'] == 'cpu' and all(one == as_before[0] for one in as_before)
    out.write_text('\n'.join(lines).replace(f'"av": "{as_before[0]["av"]}"', '"av": "3.9"') + '\n')
    assert predict.main([*first, *flags]) == 0
    told = capsys.readouterr().err
    assert 'holds 3 answers made with av 3.9 (now ' in told and '2 of 2 files are finished' in told
    assert predict.main([*first, *flags, '--fresh']) == 0
    told = capsys.readouterr().err
    assert 'made with' not in told and 'are finished' not in told
    assert [json.loads(line)['file'] for line in out.read_text().splitlines()] == first
    same = clips / 'same.mp4'
    shutil.copy2(clips / 'a.mp4', same)  # of the same size and time
    same.replace(clips / 'a.mp4')
    assert predict.main([*first, *flags]) == 0
    assert '1 of 2 files are finished' in capsys.readouterr().err
    out.write_text('{"scene": 3}\n')
    with pytest.raises(ValueError, match=r'is not a file of predictions \(see line 1\)'):
        predict.main([*first, *flags])


def test_a_run_that_was_trained_again_does_not_give_the_answers_of_before(
    both, clips, tmp_path, monkeypatch
):
    """Only the weights change; folder, config and classes stay."""
    monkeypatch.setattr(predictor, 'load', predictor.load.__wrapped__)  # not the one of before
    run, out = tmp_path / 'run', tmp_path / 'scenes.jsonl'
    shutil.copytree(both, run)
    line = [str(clips / 'a.mp4'), f'--model={run}', f'--jsonl={out}']
    assert predict.main(line) == 0
    before = json.loads(out.read_text())['probs']
    system = predictor.load(run)
    weight, path = system.content_hash, (run / 'checkpoints/best').absolute()
    with ocp.CheckpointManager(path) as manager:
        again = jax.tree.map(lambda x: x + 0.5, system.members[0].variables)
        manager.save(2, args=ocp.args.StandardSave(again))
    RunFolder(run).finish()
    assert predictor.load(run).content_hash != weight
    with pytest.raises(ValueError, match=r'holds answers of .*, not of .*give --fresh'):
        predict.main(line)
    assert json.loads(out.read_text())['probs'] == before  # nothing is deleted
    assert predict.main([*line, '--fresh']) == 0
    assert json.loads(out.read_text())['probs'] != before


def test_the_window_is_that_of_the_training_and_another_is_told(both, clips, capsys, monkeypatch):
    monkeypatch.setattr(Member, 'window_s', 2.0)
    clip = str(clips / 'long.mp4')
    for more, stretches in (([], 3), (['--window=5'], 1)):
        out = clips / f'{stretches}.jsonl'
        assert predict.main([clip, f'--model={both}', f'--jsonl={out}', *more]) == 0
        (line,) = map(json.loads, out.read_text().splitlines())
        assert (len(line['timeline']), line['window_s']) == (stretches, 5.0 if more else 2.0)
        note = 'windows of 5 s, but the system was trained on clips of 2 s'
        assert (note in line['notes']) == (note in capsys.readouterr().err) == bool(more)


def test_a_file_that_changes_between_its_reading_and_its_answer_is_answered_anew(tmp_path):
    (clip := tmp_path / 'a.wav').write_bytes(b'new')
    window = (0.0, 1.0, Answer(np.ones(2) / 2, np.zeros(1), ()))
    for stamp, is_known in ((files.stamp(clip), True), ([3, 1, 2], False)):
        journal = Journal(None, {})
        read = media_files.Prediction(clip, [window], [], [], None, ('park', 'tram'), stamp)
        journal.add(read, read.classes, embedding=False)
        assert journal.has(clip, embedding=False) == is_known


def test_a_line_that_was_torn_off_is_removed_before_others_follow(tmp_path):
    path = tmp_path / 'scenes.jsonl'
    path.write_text('{"file": "a", "error": "bad"}\n{"file": "hal')
    bad = media_files.Prediction(Path('b'), [], [], [], 'bad')
    Journal(path, {}).add(bad, ['park'], embedding=False)
    assert [*Journal(path, {}).lines] == ['a', 'b']


@pytest.mark.slow
def test_names_that_are_no_text_are_no_trouble(both, clips, tmp_path, capfd):
    strange = clips / os.fsdecode(b'\xff\x1b[2J.mp4')
    (clips / 'a.mp4').rename(strange)
    broken = clips / os.fsdecode(b'\xfe.mp4')
    (clips / 'text.mp4').rename(broken)
    out = {name: tmp_path / f'out.{end}' for name, end in
           dict(csv='csv', timeline='tsv', jsonl='jsonl').items()}  # fmt: skip
    flags = [f'--model={both}', *(f'--{name}={path}' for name, path in out.items())]
    assert predict.main([str(strange), str(broken), *flags, f'--report={tmp_path}/why']) == 1
    printed, err = capfd.readouterr()
    assert '��[2J.mp4' in printed and 'error: cannot decode' in err and '\x1b' not in printed
    assert tables.read(out['csv'], classes=['park', 'tram']).clip_id.tolist() == ['��[2J.mp4']
    assert [json.loads(line)['file'] for line in out['jsonl'].read_text().splitlines()] == [
        str(strange), str(broken)
    ]  # fmt: skip
    assert len([*(tmp_path / 'why').iterdir()]) == 1


def test_shards_share_the_files_and_write_apart(both, clips, tmp_path):
    flags = [f'--model={both}', f'--csv={tmp_path}/out.csv']
    names = [str(clips / name) for name in ('a.mp4', 'b.mp4', 'c.m4a')]
    for shard in ('0/2', '1/2'):
        assert predict.main([*names, *flags, f'--shard={shard}']) == 0
    found = [
        tables.read(tmp_path / f'out-{k}-of-2.csv', classes=['park', 'tram']).clip_id.tolist()
        for k in (0, 1)
    ]
    assert found == [['a.mp4', 'c.m4a'], ['b.mp4']]
    for wrong in ('2/2', '-1/2', 'one', '1/2/3'):
        with pytest.raises(ValueError, match='it must be i/n with i from 0 to n - 1'):
            media_files.shard([], wrong)


def test_files_are_found_once_below_folders_and_by_lists(clips, monkeypatch, capsys):
    for name in ('still.jpg', 'wave.WAV', 'sub/x.mkv'):
        (clips / name).parent.mkdir(exist_ok=True)
        (clips / name).touch()

    def names(takes, *paths, **options):
        return [f.name for f in media_files.find(paths or [clips], takes, **options)]

    videos = ['a.mp4', 'b.mp4', 'long.mp4', 'x.mkv', 'text.mp4', 'zero.mp4']
    assert sorted(names(['sound'])) == sorted([*videos, 'c.m4a', 'wave.WAV'])
    assert sorted(names(['picture'])) == sorted([*videos, 'still.jpg'])
    assert sorted(names(['picture'], stills=False)) == sorted(videos)
    monkeypatch.setattr('sys.stdin', io.StringIO(f'{clips}/a.mp4\n{clips}/sub\n'))
    assert names(['sound'], clips / 'a.mp4', Path('-')) == ['a.mp4', 'x.mkv']
    assert not capsys.readouterr().err
    (clips / '._a.mp4').write_bytes(b'Mac OS X')
    (clips / 'sub/y.mkv').symlink_to('x.mkv')
    (clips / 'sub/up').symlink_to(clips)
    (clips / 'z.mkv').mkdir()
    assert sorted(names(['picture'], stills=False)) == sorted(videos)
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith('note: in ')]
    for said in ('(1): ._a.mp4', '(1): sub/up', '(1): z.mkv', '(1): sub/y.mkv'):
        assert sum(said in note for note in notes) == 1
    assert len(notes) == 4 and names(['picture'], clips / 'sub/y.mkv') == ['y.mkv']  # as named
    (clips / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match=r'no media files in .*empty; name files'):
        media_files.find([clips / 'empty'], ['sound'])
    (clips / 'empty/a.pdf').touch()
    with pytest.raises(FileNotFoundError, match=r'empty \(left out: files of other .*a\.pdf\); n'):
        media_files.find([clips / 'empty'], ['sound'])


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['--window=0'], '--window is 0; it must be 0.5 to 60 seconds'),
        (['--jsonl=out.txt'], 'out.txt must end in .jsonl'),
        (['--timeline=none/out.tsv'], 'none is not a folder; make it first'),
        (['--shard=3/2'], "--shard is '3/2'; it must be i/n"),
        (
            ['--dataset=demo'],
            'give one input: files, --dataset or --follow',
        ),
    ],
)
def test_what_cannot_be_asked_of_files_is_a_sentence(both, clips, arguments, sentence):
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        predict.main([str(clips / 'a.mp4'), f'--model={both}', *arguments])


def test_neighbouring_windows_of_one_scene_are_one_line():
    from avsc_jax.predict import outputs

    timeline = [dict(start_s=10 * k, end_s=10 * k + 10, scene=s) for k, s in enumerate('aabcc')]
    timeline[-1]['end_s'] = 3723.4
    assert outputs.stretches(timeline) == [
        '0:00 to 0:20  a', '0:20 to 0:30  b', '0:30 to 1:02:03  c'
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('given', 'files', 'expected'),
    [
        (['own'], ['own/bus/a.wav', 'own/tram, old/a.wav'], ['bus/a.wav', 'tram, old/a.wav']),
        (['own/bus', 'x.wav'], ['own/bus/a.wav', 'x.wav'], ['a.wav', 'x.wav']),
        (['own/bus/a.wav', 'own/bus'], ['own/bus/a.wav'], ['a.wav']),
        (['.'], ['own/bus/a.wav'], ['own/bus/a.wav']),
    ],
)
def test_a_row_is_called_by_the_path_below_its_folder(
    tmp_path, monkeypatch, given, files, expected
):
    monkeypatch.chdir(tmp_path)
    for file in files:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).touch()
    paths = [*map(Path, given)]
    assert [*outputs.row_names([*map(Path, files)], paths).values()] == expected


def test_two_rows_of_one_name_are_refused_before_any_work(both, clips, tmp_path):
    (tmp_path / 'other').mkdir()
    other = shutil.copy(clips / 'a.mp4', tmp_path / 'other/a.mp4')
    flags = [f'--model={both}', f'--csv={tmp_path}/out.csv', '--shard=0/2']
    with pytest.raises(ValueError, match=r'a\.mp4 and .*other/a\.mp4 would both be called a\.mp4'):
        predict.main([str(clips / 'a.mp4'), str(other), *flags])
    assert not [*tmp_path.glob('out*')]


def test_what_predict_writes_is_scored(both, clips, tmp_path, capsys):
    (clips / 'bus, old').mkdir()
    for name in ('a.mp4', 'c.m4a'):
        (clips / name).rename(clips / f'bus, old/{name}')
    names = ['b.mp4', 'bus, old/a.mp4', 'bus, old/c.m4a', 'long.mp4']
    lines = [f'"{name}";park;{name[:3]}' for name in names]
    (tmp_path / 'list.csv').write_text('\n'.join(['path;label;group', *lines]))
    out = tmp_path / 'out.csv'
    flags = [f'--model={both}', f'--csv={out}', f'--timeline={tmp_path}/t.csv', '--window=2']
    assert predict.main([str(clips), *flags]) == 1  # two files are broken
    assert out.read_text().startswith('filename,scene_label,park,tram\nb.mp4,')
    capsys.readouterr()
    for table in (out, tmp_path / 't.csv'):
        assert score.main([str(table), f'--truth={tmp_path}/list.csv']) == 0
        assert 'clip, 4 items' in (printed := capsys.readouterr().out)
        assert '3 groups are too few for an interval' in printed and '! ' not in printed
