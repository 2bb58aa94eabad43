import dataclasses
import json

import numpy as np
import pytest

from avsc_jax import scenes, tables
from avsc_jax.tables import text_files

CLIPS = ('airport-lisbon-1175-44106', 'bus-lyon-3-7', 'tram-paris-9-1')
META = {'classes': list(scenes.SCENES), 'granularity': 'clip', 'step': 3, 'versions': {'jax': '1'}}


def make(clip_id=CLIPS, segment=None, label=None, probs=None, **meta):
    rows = len(clip_id)
    return tables.Predictions(
        clip_id=np.array(list(clip_id), str),
        segment=np.full(rows, -1) if segment is None else np.array(segment),
        label=np.arange(rows) % 10 if label is None else np.array(label),
        probs=np.random.default_rng(0).dirichlet(np.ones(10), rows) if probs is None else probs,
        meta={**META, **meta},
    )


def same(one, other):
    np.testing.assert_array_equal(one.clip_id, other.clip_id)
    np.testing.assert_array_equal(one.segment, other.segment)
    np.testing.assert_array_equal(one.label, other.label)
    np.testing.assert_array_equal(one.probs, other.probs)
    assert one.meta == other.meta


def lines(*names, header=('filename', 'scene_label', *scenes.SCENES), separator='\t', end='\n'):
    """A table file in which class k has the probability (k + 1) / 55, found by the header."""
    values = {scene: (index + 1) / 55 for index, scene in enumerate(scenes.SCENES)}
    values |= {'scene_label': 'bus', 'scene_pred': 'tram'}
    rows = [[str(values.get(column, name)) for column in header] for name in names]
    return ''.join(separator.join(row) + end for row in [header, *rows])


def damaged(path, **changed):
    """Writes a table's arrays with some that no program of ours writes."""
    tables.write(make(), path)
    with np.load(path) as arrays:
        whole = {name: arrays[name] for name in arrays.files}
    np.savez(path, **whole | changed)


def meta(**changed):
    return np.array(json.dumps(META | changed))


HOSTILE = [
    dict(meta=np.array('[' * 100_000 + ']' * 100_000)), dict(meta=np.array('[]')),
    dict(meta=np.array('3')), dict(meta=np.array(3)), dict(meta=np.array(['{}'])),
    dict(meta=np.array('{"classes": [], "classes": []}')), dict(meta=meta(classes=7)),
    dict(meta=meta(classes={'a': 1})), dict(meta=meta(about=[])), dict(meta=meta(versions=3)),
    dict(meta=meta(about={'warnings': 'all'})), dict(meta=meta(learned={'w': {'a': 'x'}})),
    dict(meta=meta(granularity=3)), dict(clip_id=np.array([1, 2, 3])), dict(clip_id=np.array('a')),
    dict(clip_id=np.array([b'a', b'b', b'c'])), dict(probs=np.array(['a', 'b', 'c'])),
    dict(group=np.array([1, 2, 3])), dict(label=np.array(['a', 'b', 'c'])),
    dict(probs=np.zeros((3, 10), complex)), dict(segment=np.zeros((3, 1), int)),
]  # fmt: skip


@pytest.mark.parametrize('changed', HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_table_is_one_sentence(tmp_path, changed):
    damaged(tmp_path / 'a.npz', **changed)
    with pytest.raises(ValueError, match=r'\A.*a\.npz: .*\Z'):
        tables.read(tmp_path / 'a.npz')


def test_a_table_that_unpacks_to_much_is_one_sentence(tmp_path):
    np.savez_compressed(tmp_path / 'a.npz', clip_id=np.zeros(1 << 25, np.uint8))
    with pytest.raises(
        ValueError, match=r'a\.npz: not a readable .* 33,\d+,\d+ bytes or more, over'
    ):
        tables.read(tmp_path / 'a.npz')


def test_very_many_fields_or_bytes_of_text_are_one_sentence(tmp_path, monkeypatch):
    path = tmp_path / 'a.csv'
    path.write_text(lines('a', 'b', 'c'))
    monkeypatch.setattr(text_files, 'MAX_FIELDS', 47)
    with pytest.raises(
        ValueError, match='a row has 12 fields and the file 48 up to there; at most'
    ):
        tables.read(path)
    monkeypatch.setattr(text_files, 'MAX_COLUMNS', 11)
    with pytest.raises(
        ValueError, match='a row has 12 fields and the file 12 up to there; at most'
    ):
        tables.read(path)
    monkeypatch.setattr(text_files, 'MAX_BYTES', 100)
    with pytest.raises(ValueError, match='the file has more than 100 bytes; cut it in several'):
        tables.read(path)


def test_columns_take_their_types_and_keep_float32_values():
    table = make(probs=np.full((3, 10), 0.1, np.float32), label=np.array([0, -1, 9], np.int64))
    assert (table.segment.dtype, table.label.dtype) == (np.int32, np.int32)
    assert table.probs.dtype == np.float64 and table.clip_id.dtype.kind == 'U'
    assert table.probs[0, 0] == np.float32(0.1)


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (dict(label=[0, 10, 1]), r'label must hold integers from -1 to 9, not .*10'),
        (dict(label=[0, -2, 1]), r'label must hold integers from -1 to 9, not .*-2'),
        (dict(label=[0.0, 1.0, 2.0]), r'label must hold integers .*float64'),
        (dict(label=[0, 1]), r'label has shape \(2,\) beside 3 rows'),
        (dict(segment=[-2, 0, 0]), 'segment must hold integers from -1'),
        (dict(segment=[[1], [2], [3]]), r'segment has shape \(3, 1\)'),
        (dict(probs=np.full((3, 10), np.nan)), '3 of 3 rows hold NaN, .* first row 0'),
        (dict(probs=np.full((3, 9), 0.1)), '9 columns of probabilities and 10 class names'),
        (dict(classes=['a', 'b']), '10 columns of probabilities and 2 class names'),
        (dict(clip_id=['a', 'b', 'a']), r"1 rows repeat .*: \('a', -1\)"),
    ],
)
def test_wrong_tables_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        make(**wrong)


def test_repeated_rows_name_the_first_three():
    names = [name for name in 'abcde' for _ in range(2)]
    with pytest.raises(ValueError, match=r"5 rows .*\('a', -1\), \('b', -1\), \('c', -1\), \.\.\."):
        make(names)
    make(names, segment=[0, 1] * 5)  # two segments of one clip are no repetition


@pytest.mark.parametrize('rows', [0, 1, 3])
def test_npz_keeps_everything(tmp_path, rows):
    table = make([f'Straße-{row}' for row in range(rows)], segment=range(rows))
    tables.write(table, tmp_path / 'test.npz')
    same(tables.read(tmp_path / 'test.npz'), table)
    assert [path.name for path in tmp_path.iterdir()] == ['test.npz']


def test_npz_of_one_table_is_the_same_bytes(tmp_path):
    for name in ('a.npz', 'b.npz'):
        tables.write(make(), tmp_path / name)
    assert (tmp_path / 'a.npz').read_bytes() == (tmp_path / 'b.npz').read_bytes()


@pytest.mark.parametrize('damage', ['cut', 'flip', 'text', 'empty', 'array', 'column', 'pickle'])
def test_a_damaged_npz_is_one_sentence(tmp_path, damage):
    path = tmp_path / 'test.npz'
    tables.write(make(), path)
    content = bytearray(path.read_bytes())
    if damage == 'cut':
        path.write_bytes(content[: len(content) // 2])
    elif damage == 'flip':
        content[content.index(make().probs[1, 1].tobytes())] ^= 1
        path.write_bytes(content)
    elif damage == 'text':
        path.write_text('probabilities')
    elif damage == 'empty':
        path.write_bytes(b'')
    elif damage == 'array':
        with path.open('wb') as file:
            np.save(file, np.zeros(3))
    elif damage == 'column':
        np.savez(path, clip_id=np.array(CLIPS))
    elif damage == 'pickle':
        np.savez(path, clip_id=np.array(CLIPS, object), meta=np.array('{}'))
    with pytest.raises(ValueError, match=r'test\.npz: not a readable predictions table'):
        tables.read(path)


@pytest.mark.parametrize('meta', ['[]', '5', '{}', '{"classes": 5}', '{"classes": [1, 2]}', '{'])
def test_a_header_of_other_json_is_one_sentence(tmp_path, meta):
    table = make(label=[0, 1, -1], probs=np.full((3, 2), 0.5), classes=['yes', 'no'])
    columns = {name: getattr(table, name) for name in ('clip_id', 'segment', 'label', 'probs')}
    np.savez(tmp_path / 'test.npz', meta=np.array(meta), **columns)
    with pytest.raises(ValueError, match=r'test\.npz: not a readable predictions table'):
        tables.read(tmp_path / 'test.npz')


def test_a_failed_write_leaves_the_old_table(tmp_path):
    path = tmp_path / 'test.npz'
    tables.write(make(), path)
    with pytest.raises(TypeError):
        tables.write(make(system={1, 2}), path)  # a set is no JSON
    same(tables.read(path), make())


@pytest.mark.parametrize('suffix', ['.csv', '.tsv', '.txt'])
def test_dcase_file_keeps_clips_and_probabilities_to_the_last_bit(tmp_path, suffix):
    table = make()
    path = tmp_path / f'test{suffix}'
    tables.write(table, path)
    header, first, *_ = path.read_text().split('\n')
    assert header == (
        'filename\tscene_label\tairport\tbus\tmetro\tmetro_station\tpark\tpublic_square'
        '\tshopping_mall\tstreet_pedestrian\tstreet_traffic\ttram'
    )
    assert first.split('\t')[:2] == [CLIPS[0], scenes.SCENES[table.probs[0].argmax()]]
    back = tables.read(path)
    np.testing.assert_array_equal(back.probs, table.probs)
    np.testing.assert_array_equal(back.clip_id, table.clip_id)
    np.testing.assert_array_equal(back.label, [-1, -1, -1])  # scene_label is the prediction
    np.testing.assert_array_equal(back.segment, [-1, -1, -1])


def test_dcase_file_refuses_segments(tmp_path):
    with pytest.raises(ValueError, match=r'test\.csv can hold one row a clip .*pool it'):
        tables.write(make(segment=[0, 1, 2]), tmp_path / 'test.csv')
    assert not (tmp_path / 'test.csv').exists()


@pytest.mark.parametrize('name', ['filename', 'filename_audio', 'filename_video', 'aid'])
@pytest.mark.parametrize('separator', ['\t', ',', ';'])
@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
def test_text_files_of_every_layout_read_alike(tmp_path, name, separator, end):
    header = (name, 'scene_label', *reversed(scenes.SCENES))
    path = tmp_path / 'test.csv'
    text = lines('audio/a.wav', 'video/b.mp4', 'c', header=header, separator=separator, end=end)
    path.write_bytes((text + end).encode('utf-8-sig'))  # ends in an empty line
    table = tables.read(path)
    np.testing.assert_array_equal(table.clip_id, ['audio/a.wav', 'video/b.mp4', 'c'])
    np.testing.assert_allclose(table.probs, np.tile(np.arange(1, 11) / 55, (3, 1)))
    np.testing.assert_array_equal(table.label, [-1] * 3)
    assert table.meta['classes'] == list(scenes.SCENES)


def test_scene_label_beside_scene_pred_is_the_truth(tmp_path):
    header = ('aid', 'scene_pred', 'scene_label', *scenes.SCENES)
    (tmp_path / 'test.csv').write_text(lines('a', header=header))
    np.testing.assert_array_equal(tables.read(tmp_path / 'test.csv').label, [1])


def test_folders_are_separated_by_slashes(tmp_path):
    (tmp_path / 'test.csv').write_text(lines('st.pauli', 'x\\y.WAV', './z.wav'))
    table = tables.read(tmp_path / 'test.csv')
    np.testing.assert_array_equal(table.clip_id, ['st.pauli', 'x/y.WAV', 'z.wav'])


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'empty'),
        (lines('a', header=('filename', *scenes.SCENES[:-1])), 'missing class columns: tram;'),
        (lines('a', header=('filename', *scenes.SCENES, 'zoo')), 'unknown class columns: zoo;'),
        (lines('a').encode('utf-16')[2:], 'zero bytes, as UTF-16 does; save it as UTF-8'),
        (lines('a', separator=';').replace('0.1', '0,1'), "row 1: .*'0,1.*with a point, not"),
        (lines('a', separator=',').replace('0.1', '0,1'), 'row 1 has 17 fields .* with a point'),
        (lines('"a', 'b'), r'line \d cannot be read .*; a quote at the start'),
        (lines(' ', 'b'), 'data row 1 names no clip'),
        (lines('a', header=('filename', *scenes.SCENES, 'bus')), 'doubled class columns: bus;'),
        (lines('a', header=('file', *scenes.SCENES)), 'name the clips in one of filename '),
        (lines('a').replace('0.1818', 'O.1818'), 'data row 1: could not convert .*O.1818'),
        (lines('a', 'b') + 'c\tbus\n', 'data row 3 has 2 fields for 12 columns'),
        (lines('a', 'a '), r"1 rows repeat .*\('a', -1\)"),
        (lines('a').replace('0.1818', '1.1818'), '1 of 1 rows hold values outside'),
        (
            lines('a', header=('aid', 'scene_pred', 'scene_label', *scenes.SCENES)).replace(
                '\tbus\t0', '\tbuss\t0'
            ),
            'true labels buss are none of airport',
        ),
        (',filename,yes,no\n0,a,0.25,0.75\n', 'column 1 has no name in the header; name it'),
        ('filename,yes,no\na,25,75\n', 'sum to about 100, so they are per cent; divide them'),
        (
            'filename,start_s,end_s,yes,no\na,0,10,0.5,0.5\na,0.0,10,0.5,0.5\n',
            'rows repeat the clip and segment',
        ),
        ('filename,start_s,end_s,yes,no\na,x,10,0.5,0.5\n', "start_s: .*'x'; give seconds"),
    ],
)
def test_wrong_text_files_are_refused_by_name(tmp_path, text, message):
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / 'test.csv').write_bytes(content)
    with pytest.raises(ValueError, match=rf'test\.csv: .*{message}'):
        tables.read(tmp_path / 'test.csv')


def test_a_binary_text_file_is_refused_by_name(tmp_path):
    (tmp_path / 'test.csv').write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match=r'test\.csv: .*utf-8'):
        tables.read(tmp_path / 'test.csv')


def test_reading_warns_of_rows_that_do_not_sum_to_one(tmp_path):
    probs = np.full((3, 10), 0.1)
    probs[1:, 0] = 0.2
    for name in ('test.npz', 'test.csv'):
        tables.write(make(probs=probs), tmp_path / name)
        with pytest.warns(UserWarning, match=f'{name}: 2 of 3 rows do not sum to 1, first row 1'):
            tables.read(tmp_path / name)


def test_other_files_are_refused(tmp_path):
    (tmp_path / 'test.pkl').touch()
    with pytest.raises(
        ValueError, match=r"^\S+test\.pkl must end in \.npz, \.csv, \.tsv, \.txt, not '\.pkl'"
    ):
        tables.read(tmp_path / 'test.pkl')
    with pytest.raises(ValueError, match=r"not '\.pkl'"):
        tables.write(make(), tmp_path / 'test.pkl')
    with pytest.raises(FileNotFoundError, match=r'none\.npz is not a file'):
        tables.read(tmp_path / 'none.npz')


def test_other_classes_are_read_from_the_file_or_named_by_the_caller(tmp_path):
    (tmp_path / 'test.csv').write_text('filename,yes,no\na,0.25,0.75\n')
    table = tables.read(tmp_path / 'test.csv', classes=('no', 'yes'))
    np.testing.assert_array_equal(table.probs, [[0.75, 0.25]])
    table = tables.read(tmp_path / 'test.csv')
    assert table.meta['classes'] == ['yes', 'no']
    np.testing.assert_array_equal(table.probs, [[0.25, 0.75]])
    (tmp_path / 'test.csv').write_text('filename,group,other\na,0.25,0.75\n')
    table = tables.read(tmp_path / 'test.csv', classes=('group', 'other'))
    assert table.group is None and table.probs.tolist() == [[0.25, 0.75]]
    with pytest.raises(ValueError, match=r"cannot hold a class called 'group'; write \.npz"):
        tables.write(table, tmp_path / 'out.csv')


# Names that need care, and classes with separators in theirs.
NAMES = ('a,b.wav', 'the "5" inch.wav', 'x;y/z.mp4', 'Straße/Zoë.wav', 'C d.flac', "l'eau=1.jpg")


@pytest.mark.parametrize('separator', ['\t', ',', ';'])
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_what_is_written_is_read(tmp_path, separator, encoding):
    classes = ['park, urban', 'bus;tram', 'q"uote', 'Ärger']
    probs = np.random.default_rng(0).dirichlet(np.ones(4), 6)
    group = ['line 5', '', 'a,b', 'c;d', 'e\tf', 'ü']
    table = dataclasses.replace(
        make(NAMES, label=[-1] * 6, probs=probs, classes=classes), group=np.array(group)
    )
    path = tmp_path / 'test.csv'
    tables.write(table, path, separator)
    path.write_bytes(path.read_text().replace('\n', '\r\n\r\n').encode(encoding))
    back = tables.read(path)
    assert back.meta['classes'] == classes
    for name in ('clip_id', 'probs', 'group', 'label'):
        np.testing.assert_array_equal(getattr(back, name), getattr(table, name))


def test_a_group_is_kept_in_npz_and_by_every_change_of_rows(tmp_path):
    table = frames({'a': 2, 'b': 2})
    table = dataclasses.replace(table, group=np.char.add('of ', table.clip_id))
    tables.write(table, tmp_path / 'test.npz')
    back = tables.read(tmp_path / 'test.npz')
    order = np.lexsort((back.segment, back.clip_id))
    for changed in (
        back,
        tables.pool(back),
        tables.seconds(back, 2),
        tables.grouped(tables.rows(back, order), 2),
        tables.aligned([table, tables.rows(back, order)])[1],
        tables.joined([tables.rows(back, back.segment == k) for k in (0, 1)]),
    ):
        np.testing.assert_array_equal(changed.group, np.char.add('of ', changed.clip_id))


def test_an_answer_that_contradicts_the_probabilities_is_a_caution(tmp_path):
    path = tmp_path / 'test.csv'
    path.write_text(lines('a', 'b', 'c').replace('a\tbus', 'a\tzoo'))
    (caution,) = tables.read(path).meta['about']['warnings']
    assert 'scene_label contradicts the probabilities in 3 of 3 rows' in caution
    assert "a 'zoo', b 'bus', c 'bus'" in caution
    path.write_text(lines('a', header=('aid', 'scene_pred', 'scene_label', *scenes.SCENES)))
    assert 'about' not in tables.read(path).meta  # scene_pred is the likeliest, the last one


def test_windows_of_a_timeline_are_segments_of_their_files(tmp_path):
    header = ('filename', 'start_s', 'end_s', 'scene_label', *scenes.SCENES)
    text = lines('a.wav', 'b.wav', 'a.wav', header=header)
    for start_s, name in enumerate(('a.wav', 'b.wav', 'a.wav')):
        text = text.replace(f'{name}\t{name}', f'{name}\t{start_s}', 1)
    (tmp_path / 'windows.csv').write_text(text)
    table = tables.read(tmp_path / 'windows.csv')
    assert table.clip_id.tolist() == ['a.wav', 'b.wav', 'a.wav']
    assert (table.segment.tolist(), table.meta['granularity']) == ([0, 0, 1], 'window')


def test_windows_are_numbered_by_their_starts_in_whatever_order_they_stand(tmp_path):
    path = tmp_path / 'windows.csv'
    rows = [f'{clip},{start},{start}5,0.5,0.5' for clip in 'ab' for start in (0, 100, 20)]
    path.write_text('\n'.join(['filename,start_s,end_s,yes,no', *rows]))
    assert tables.read(path).segment.tolist() == [0, 2, 1] * 2


@pytest.mark.parametrize('end', [',', ', \t'])
def test_columns_without_name_and_content_are_left_out(tmp_path, end):
    path = tmp_path / 'test.csv'
    path.write_text(f'filename,yes,no,\na,0.25,0.75{end}\n')
    assert tables.read(path).meta['classes'] == ['yes', 'no']


def test_letters_are_the_same_composed_or_not(tmp_path):
    apart, composed = 'U\u0308bel', '\u00dcbel'
    path = tmp_path / 'test.csv'
    path.write_text(f'filename,{apart},b\na,0.25,0.75\n')
    for classes in (None, [apart, 'b'], [composed, 'b']):
        assert tables.read(path, classes).meta['classes'] == [composed, 'b']
    path.write_text(f'path,label\na,{apart}\n')
    table = make('a', probs=np.array([[0.25, 0.75]]), classes=['b', apart])
    assert tables.with_truth(table, tables.truth(path)).label.tolist() == [1]


def test_classes_in_another_order_are_put_in_the_first_ones():
    first = make('abc')
    order = [*range(9, -1, -1)]
    other = make('abc', label=9 - first.label, probs=first.probs[:, order])
    other.meta['classes'] = [first.meta['classes'][k] for k in order]
    same(tables.aligned([first, other])[1], first)
    unknown = dataclasses.replace(other, label=np.full(3, -1))
    assert tables.with_classes(unknown, first.meta['classes']).label.tolist() == [-1] * 3


FOLD = (
    'filename_audio\tfilename_video\tscene_label\r\n'
    'audio/airport-lisbon-1175-44106.wav\tvideo/airport-lisbon-1175-44106.mp4\tairport\r\n'
    'audio/bus-lyon-3-7.wav\tvideo/bus-lyon-3-7.mp4\tbus\r\n'
)


def test_truth_of_a_fold_file_labels_a_table(tmp_path):
    (tmp_path / 'fold1_evaluate.csv').write_bytes(FOLD.encode())
    truth = tables.truth(tmp_path / 'fold1_evaluate.csv')
    assert truth == {CLIPS[0]: 'airport', CLIPS[1]: 'bus'}
    table = make(CLIPS[:2][::-1] * 2, segment=[0, 0, 1, 1], label=[-1] * 4)
    np.testing.assert_array_equal(tables.with_truth(table, truth).label, [1, 0, 1, 0])
    np.testing.assert_array_equal(table.label, [-1] * 4)


@pytest.mark.parametrize(
    'text',
    [
        'path,label,group\nbus/a.wav,bus,x\ntram/a.wav,tram,y\n',
        'audio;video;class;location\nbus/a.wav;bus/a.mp4;bus;x\ntram/a.wav;tram/a.mp4;tram;y\n',
        'scene_label\tfilename\tidentifier\nbus\tbus\\a.wav\tx\ntram\ttram\\a.wav\ty\n',
        'label,path,scene_label,location,group\n1,bus/a.wav,bus,z,x\n9,tram/a.wav,tram,z,y\n',
    ],
)
def test_lists_of_ones_own_are_truth_and_name_groups(tmp_path, text):
    path = tmp_path / 'list.csv'
    path.write_text(text)
    table = make(['tram/a.wav', 'bus/a.wav'], label=[-1, -1])
    table = tables.with_truth(table, *tables.truth_and_groups(path))
    assert table.label.tolist() == [9, 1] and table.group.tolist() == ['y', 'x']


def test_groups_that_a_program_wrote_as_missing_are_unknown(tmp_path):
    path = tmp_path / 'test.csv'
    rows = [f'{n}.wav,bus,{group}' for n, group in enumerate(['nan', 'NaN', 'None', '', 'x'])]
    path.write_text('\n'.join(['path,label,group', *rows]))
    assert [*tables.truth_and_groups(path)[1].values()] == ['', '', '', '', 'x']
    for name in ('group', 'location', 'identifier'):
        path.write_text(f'filename,{name},yes,no\na,nan,0.5,0.5\nb,7,0.5,0.5\n')
        table = tables.read(path)
        assert table.group.tolist() == ['', '7'] and table.meta['classes'] == ['yes', 'no']


def test_clips_that_only_the_truth_has_are_a_caution():
    table = tables.with_truth(make('ab'), dict.fromkeys('abcdefg', 'bus'))
    (caution,) = table.meta['about']['warnings']
    assert caution.startswith('5 of the 7 clips with a true scene are not in the table')
    assert caution.endswith(': c, d, e, ...')
    assert 'about' not in tables.with_truth(make('ab'), dict.fromkeys('ab', 'bus')).meta


def test_truth_must_name_every_clip_of_a_table():
    table = make(list('abcde'))
    with pytest.raises(ValueError, match=r'4 of 5 clips have no true label: a, c, d, \.\.\.;'):
        tables.with_truth(table, {'b': 'bus', 'z': 'bus'})
    with pytest.raises(ValueError, match='true labels zoo are none of airport'):
        tables.with_truth(table, dict.fromkeys('abcde', 'zoo'))


def test_truth_files_without_or_with_two_labels_are_refused(tmp_path):
    path = tmp_path / 'fold.csv'
    path.write_text('filename_audio\tfilename_video\naudio/a.wav\tvideo/a.mp4\n')
    with pytest.raises(
        ValueError, match=r'fold\.csv: .*scene_label or label or class must be there'
    ):
        tables.truth(path)
    path.write_text('filename_audio\tscene_label\na.wav\tbus\na.wav\ttram\n')
    with pytest.raises(ValueError, match=r"a\.wav is 'bus' and 'tram'; a clip has one scene"):
        tables.truth(path)
    path.write_text('filename,group,label\na.wav,x,bus\na.wav,y,bus\n')
    with pytest.raises(ValueError, match=r"a\.wav is 'x' and 'y'; a clip has one group"):
        tables.truth(path)
    path.write_text('filename,label\na.wav,bus\nb.wav,\n')
    with pytest.raises(ValueError, match=r'1 of 2 rows have no label: b\.wav; give their scenes'):
        tables.truth(path)


def test_a_table_of_predictions_is_no_truth_whatever_its_classes(tmp_path):
    path = tmp_path / 'test.csv'
    for classes in (['yes', 'no'], scenes.SCENES):
        probs = np.full((2, len(classes)), 1 / len(classes))
        tables.write(make('ab', label=[-1, -1], probs=probs, classes=[*classes]), path)
        with pytest.raises(ValueError, match='this is a file of predictions, whose scene_label'):
            tables.truth(path)
    path.write_text('path,label,group\na,group,x\n')  # a class may be called like a column
    assert tables.truth(path) == {'a': 'group'}


def test_pool_averages_the_rows_of_a_clip_in_order_of_appearance():
    probs = np.eye(10)[[0, 1, 2, 3, 3]]
    table = make(['b', 'a', 'b', 'a', 'c'], segment=[0, 0, 1, 1, 0], label=[4, 5, 4, 5, -1])
    table = make(table.clip_id, table.segment, table.label, probs, granularity='second')
    pooled = tables.pool(table)
    np.testing.assert_array_equal(pooled.clip_id, ['b', 'a', 'c'])
    np.testing.assert_array_equal(pooled.label, [4, 5, -1])
    np.testing.assert_array_equal(pooled.segment, [-1, -1, -1])
    np.testing.assert_array_equal(pooled.probs[0], (probs[0] + probs[2]) / 2)
    assert (pooled.meta['granularity'], pooled.meta['pooled']) == ('clip', True)
    assert table.meta['granularity'] == 'second'
    same(tables.pool(pooled), pooled)


def test_pool_refuses_clips_with_two_labels():
    with pytest.raises(ValueError, match='rows of 1 clips have several labels: b;'):
        tables.pool(make(['a', 'b', 'b'], segment=[0, 0, 1], label=[1, 2, 3]))


def test_pool_of_an_empty_table_is_empty():
    assert tables.pool(make([])).probs.shape == (0, 10)


def test_aligned_tables_have_the_rows_of_the_first():
    first = make('abab', segment=[0, 0, 1, 1], label=[1, 2, 1, -1], system='V01')
    order = [3, 1, 0, 2]
    other = make(
        first.clip_id[order], first.segment[order], [5, 2, -1, 1], first.probs[order], system='V02'
    )
    one, two = tables.aligned([first, other])
    assert one is first
    np.testing.assert_array_equal(two.probs, first.probs)
    np.testing.assert_array_equal(two.clip_id, first.clip_id)
    np.testing.assert_array_equal(two.segment, first.segment)
    np.testing.assert_array_equal(two.label, [-1, 2, 1, 5])  # -1 contradicts nothing
    assert two.meta['system'] == 'V02'
    assert tables.aligned([first]) == [first]


@pytest.mark.parametrize(
    ('other', 'message'),
    [
        (dict(clip_id='abcdefg'), r'table 3 has 7 rows, the first has 3, and 4 .*\(.d., -1\)'),
        (dict(clip_id='ab'), r'table 3 has 2 rows, the first has 3, and 1 .*\(.c., -1\);'),
        (dict(clip_id='abx'), 'and 2 are in one only'),
        (dict(segment=[0, 1, 2]), 'and 6 are in one only'),
        (dict(granularity='second'), 'table 3 has the granularity second, the first has clip'),
        (dict(classes=list('0123456789')), 'table 3 has the classes 0 1 2 .* has airport bus'),
        (dict(label=[0, 2, 2]), r'different true labels in 1 rows: \(.b., -1\)'),
    ],
)
def test_unlike_tables_are_refused(other, message):
    first = make('abc')
    with pytest.raises(ValueError, match=message):
        tables.aligned([first, first, make(**{'clip_id': 'abc', **other})])


def test_classes_may_be_a_tuple(tmp_path):
    table = make(classes=scenes.SCENES)
    tables.write(table, tmp_path / 'test.npz')
    back = tables.read(tmp_path / 'test.npz')
    same(back, table)
    assert json.dumps(back.meta) and tables.aligned([table, back])


def frames(clips, **meta):
    """Of each clip as many frames as it is given, shuffled; a frame's number is its only class."""
    names = [name for name, count in clips.items() for _ in range(count)]
    segment = np.array([index for count in clips.values() for index in range(count)])
    order = np.random.default_rng(0).permutation(len(names))
    classes = [str(index) for index in range(max(clips.values()))]
    probs = np.eye(len(classes))[segment]
    label = [list(clips).index(name) for name in names]
    return make(
        np.array(names)[order], segment[order], np.array(label)[order], probs[order],
        **{'classes': classes, 'granularity': 'frame', **meta},
    )  # fmt: skip


def test_a_second_is_the_single_frame_that_the_baseline_takes():
    table = frames({'z': 96, 'a': 6, 'm': 10})
    found = tables.seconds(table)
    assert found.meta['granularity'] == 'second' and table.meta['granularity'] == 'frame'
    chosen = {
        name: found.probs[found.clip_id == name].argmax(axis=1).tolist() for name in ('z', 'a', 'm')
    }
    assert chosen == {
        'z': [0, 9, 19, 28, 38, 48, 57, 67, 76, 86],
        'a': [0, 0, 1, 1, 2, 3, 3, 4, 4, 5],
        'm': list(range(10)),
    }
    np.testing.assert_array_equal(found.segment, [*range(10)] * 3)
    assert list(dict.fromkeys(found.clip_id)) == list(dict.fromkeys(table.clip_id))
    assert {*zip(found.clip_id, found.label, strict=True)} == {('z', 0), ('a', 1), ('m', 2)}
    assert tables.seconds(table, count=3).probs.argmax(axis=1).tolist().count(64) == 1
    assert tables.seconds(make([])).probs.shape == (0, 10)


@pytest.mark.parametrize('segment', [[0, 2], [-1, 0], [1, 2]])
def test_seconds_need_all_frames_of_a_clip(segment):
    with pytest.raises(ValueError, match=r'the frames of b are not numbered 0, 1, 2 \.\.\.'):
        tables.seconds(make('abb', segment=[0, *segment]))


def test_the_product_is_that_of_the_probabilities_of_a_clip():
    table = make('baba', segment=[0, 0, 1, 1], label=[1, 2, 1, 2])
    pooled = tables.pool(table, 'product')
    np.testing.assert_array_equal(pooled.clip_id, ['b', 'a'])
    for row, (one, other) in enumerate([(0, 2), (1, 3)]):
        product = table.probs[one] * table.probs[other]
        np.testing.assert_allclose(pooled.probs[row], product / product.sum(), rtol=1e-12)
    with pytest.raises(ValueError, match="is 'max'; it must be one of mean, product"):
        tables.pool(table, 'max')


def test_the_product_of_many_frames_neither_vanishes_nor_is_decided_by_the_mean():
    # two frames are sure of class 0, 1998 prefer class 1 by little; 0.5 ** 1998 underflows
    probs = np.array([[0.999, 0.001, 0]] * 2 + [[0.4985, 0.5015, 0]] * 1998)
    table = make(['a'] * 2000, range(2000), [0] * 2000, probs, classes=list('xyz'))
    first = 1 / (1 + np.exp(1998 * np.log(0.5015 / 0.4985) - 2 * np.log(999)))
    np.testing.assert_allclose(tables.pool(table, 'product').probs, [[first, 1 - first, 0]])
    assert 0.1 < first < 0.9 and tables.pool(table).probs[0].argmax() == 1
    # a single exact zero does not forbid what all other frames say
    table = make('aa', [0, 1], [0, 0], np.array([[0, 1.0], [1.0, 0]]), classes=list('xy'))
    np.testing.assert_allclose(tables.pool(table, 'product').probs, [[0.5, 0.5]])
