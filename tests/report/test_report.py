"""The report: numbers worked by hand, honest wording, a page that is safe and whole."""

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest

from avsc_jax import report, tables
from avsc_jax.report import comparison, scores

ABOUT = {
    'data': 'made-up clips',
    'protocol': 'trained on nothing',
    'weights': {'clip_rn101': 'random:0'},
    'warnings': ['random encoders: says nothing about scenes'],
}
HISTORY = [
    {
        'epoch': epoch,
        'step': 10 * epoch,
        'learning_rate': 0.01,
        'train_loss': 1 / (1 + epoch),
        'valid_loss': 0.5,
        'valid_log_loss': 0.7,
        'valid_accuracy': 0.6 + 0.1 * epoch,
        'best': epoch in (0, 2),
    }
    for epoch in range(4)
]


def predictions(clips, labels, probs, segments=None, classes=('cat', 'dog'), **meta):
    return tables.Predictions(
        clip_id=np.array(clips),
        segment=np.array(segments if segments is not None else [-1] * len(clips), np.int32),
        label=np.array(labels, np.int32),
        probs=np.array(probs, float),
        meta={'classes': list(classes), **meta},
    )


def make(table, **options):
    return report.make(table, **{'title': 'a test', 'about': ABOUT, **options})


@pytest.fixture
def frames():
    """Two clips of two frames; pooled to (.7, .3) and (.4, .6)."""
    return predictions(
        ['x', 'x', 'y', 'y'],
        [0, 0, 1, 1],
        [[0.9, 0.1], [0.5, 0.5], [0.6, 0.4], [0.2, 0.8]],
        segments=[0, 1, 0, 1],
        granularity='frame',
    )


def many(classes, rows=60, names=None):
    """Random rows over `classes` classes, one city in three."""
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(classes), rows)
    return predictions(
        [f'airport-{("oslo", "rome", "bern")[i % 3]}-{i % 7}-{i}' for i in range(rows)],
        rng.integers(classes, size=rows),
        probs,
        classes=names or [f'class {i}' for i in range(classes)],
    )


def test_frames_are_scored_and_so_are_their_clips(frames):
    result = make(frames)
    clip, frame = result['scores']['clip'], result['scores']['frame']
    assert list(result['scores']) == ['clip', 'frame'] and result['headline'] == 'clip'
    assert (clip['items'], frame['items'], frame['clips']) == (2, 4, 2)
    assert clip['log_loss_micro'] == pytest.approx(-(math.log(0.7) + math.log(0.6)) / 2)
    terms = [math.log(p) for p in (0.9, 0.5, 0.4, 0.8)]
    assert frame['log_loss_micro'] == pytest.approx(-sum(terms) / 4)
    assert (clip['accuracy_micro'], frame['accuracy_micro']) == (1.0, 0.75)
    assert clip['mean_confidence'] == pytest.approx(0.65)
    assert clip['calibration_error'] == pytest.approx(0.35)
    assert frame['confusion'] == [[2, 0], [1, 1]]
    assert frame['per_class']['recall'] == [1.0, 0.5]
    assert frame['per_class']['precision'] == pytest.approx([2 / 3, 1.0])


def test_micro_and_macro_differ_where_classes_do():
    table = predictions(['a', 'b', 'c'], [0, 0, 1], [[0.8, 0.2], [0.8, 0.2], [0.6, 0.4]])
    score = make(table)['scores']['clip']
    assert score['accuracy_micro'] == pytest.approx(2 / 3)
    assert score['accuracy_macro'] == 0.5
    assert score['log_loss_macro'] == pytest.approx(-(math.log(0.8) + math.log(0.4)) / 2)


def test_rows_that_do_not_sum_to_one_have_two_losses_and_a_warning_unless_meant():
    rows = [['a', 'b'], [0, 1], [[0.9, 0.3], [0.3, 0.9]]]
    result = make(predictions(*rows))
    score = result['scores']['clip']
    assert score['log_loss_micro'] == pytest.approx(-math.log(0.75))
    assert score['log_loss_micro_raw'] == pytest.approx(-math.log(0.9))
    assert '2 of 2 rows do not sum to one' in result['about']['warnings'][-1]
    assert make(predictions(*rows, calibrated=True))['about']['warnings'] == ABOUT['warnings']


def test_cities_and_locations_are_read_from_the_names():
    clips = ['park-oslo-1-1', 'park-oslo-1-2', 'park-oslo-2-3', 'tram-rome-3-4']
    probs = [[0.8, 0.2], [0.8, 0.2], [0.4, 0.6], [0.1, 0.9]]
    result = make(predictions(clips, [0, 0, 0, 1], probs))
    score = result['scores']['clip']
    assert (score['over'], score['groups']) == ('locations', 3)
    assert score['cities']['oslo']['items'] == 3
    assert score['cities']['oslo']['accuracy'] == pytest.approx(2 / 3)
    assert score['cities']['rome']['log_loss'] == pytest.approx(-math.log(0.9))
    low, high = score['accuracy_micro_interval']
    assert low < 0.75 < high
    assert '3 locations are too few for an interval, which needs 10' in report.text(result)


def test_other_names_have_no_cities_and_the_report_says_what_was_drawn(frames, tmp_path):
    result = make(frames)
    assert result['scores']['clip']['cities'] == {}
    few = '2 clips are too few for an interval, which needs 10'
    sentence = f'{few} (no locations or groups are known)'
    assert sentence in report.text(result)
    page = report.write(result, tmp_path).read_text()
    assert sentence in page and 'Accuracy by city' not in page


def test_one_clip_has_a_report_without_intervals(tmp_path):
    result = make(predictions(['a'], [1], [[0.2, 0.8]]), history=HISTORY[:1])
    assert result['scores']['clip']['log_loss_micro_interval'] == [None, None]
    assert result['scores']['clip']['per_class']['recall'] == [None, 1.0]
    assert 'one clip is too few for an interval' in report.text(result)
    assert 'no items' in report.write(result, tmp_path).read_text()


def test_unknown_labels_cannot_be_scored_and_some_are_left_out():
    probs = [[0.2, 0.8], [0.9, 0.1]]
    with pytest.raises(ValueError, match=r'none of the 2 rows has a known label.*--truth'):
        make(predictions(['a', 'b'], [-1, -1], probs))
    result = make(predictions(['a', 'b'], [-1, 0], probs))
    assert result['scores']['clip']['items'] == 1
    assert '1 of 2 rows have no label and are left out' in result['about']['warnings']


def test_the_papers_number_stands_beside_ours_at_its_own_level(frames):
    paper = {'row': 'C04', 'source': 'Table 2', 'log_loss': 0.4, 'accuracy': 0.9}
    result = make(frames, paper={**paper, 'granularity': 'clip'})
    ours = -(math.log(0.7) + math.log(0.6)) / 2
    assert result['paper']['difference']['log_loss'] == pytest.approx(ours - 0.4)
    assert '90.0 % (+10.0)' in report.text(result)
    framed = make(frames, paper={**paper, 'granularity': 'frame', 'average': 'macro'})
    assert framed['paper']['difference']['accuracy'] == pytest.approx(0.75 - 0.9)
    other = make(frames, paper={**paper, 'granularity': 'second'})
    assert other['paper']['difference'] == {'log_loss': None, 'accuracy': None}
    assert 'C04, Table 2 (second level, micro; not scored here)' in report.text(other)


def test_a_config_of_no_paper_has_no_line_of_one(frames):
    own = make(frames, paper=dict(row='ours', source='', log_loss=None, accuracy=None))
    assert own['paper'] is None and 'paper' not in report.text(own)


def test_the_last_best_epoch_is_the_one_that_was_kept(frames):
    result = make(frames, history=HISTORY)
    assert result['best_epoch'] == 2
    assert 'epoch 2 kept, of 4' in report.text(result)


def test_a_run_that_trained_on_all_there_is_has_no_score(tmp_path):
    keys = ('epoch', 'step', 'learning_rate', 'train_loss', 'best')
    history = [{key: line[key] for key in keys} for line in HISTORY]
    result = report.trained(
        title='a <final> run',
        about=ABOUT,
        meta={'classes': ['cat', 'dog'], 'step': 30, 'config_hash': 'abc'},
        history=history,
        learned={'weight': {'cat': 0.5}},
    )
    assert (result['headline'], result['scores'], result['paper']) == (None, {}, None)
    scored = make(many(10))
    assert result.keys() == scored.keys() and result['about'] == scored['about']
    page = report.write(result, tmp_path).read_text()
    assert json.loads((tmp_path / 'report.json').read_text()) == result
    lines = report.text(result).splitlines()
    assert lines[0] == f'! {ABOUT["warnings"][0]}' and 'epoch 2 kept, of 4' in lines
    sentence = 'no score: all labelled clips were trained on; training loss 0.250 at the end'
    assert sentence in lines and sentence in page
    assert lines[-1] == 'weight: cat 0.500'
    (drawing,) = re.findall(r'<svg.*?</svg>', page, flags=re.DOTALL)
    assert 'Learning rate' in drawing and 'training loss' in drawing
    assert not re.search(r'[Vv]alidation|[Aa]ccuracy|Log loss', page)
    assert 'a &lt;final&gt; run' in page and 'config hash' in page


def test_the_text_fits_a_console_and_warns_first(frames):
    paper = {'row': 'C04', 'source': 'Okazaki 2021, Table 2', 'log_loss': 0.273, 'accuracy': 0.909}
    long = {**ABOUT, 'protocol': 'word ' * 60, 'data': 'x' * 150}
    result = make(many(10), paper=paper, history=HISTORY, about=long)
    lines = report.text(result).splitlines()
    assert lines[0] == '! random encoders: says nothing about scenes'
    assert max(map(len, lines)) <= 100
    assert len(report.text(make(many(10), paper=paper, history=HISTORY)).splitlines()) <= 25


def test_of_many_classes_the_text_lists_the_weakest_and_the_page_draws_all(tmp_path):
    result = make(many(40, rows=400))
    lines = report.text(result).splitlines()
    assert lines[-1] == 'and 28 classes with higher recall, in report.json'
    recall = result['scores']['clip']['per_class']['recall']
    weakest = np.argsort([2 if r is None else r for r in recall], kind='stable')[:12]
    shown = [re.match(r'class \d+', line)[0] for line in lines if re.match(r'class \d', line)]
    assert shown == [f'class {index}' for index in weakest]
    assert 'class 39 (' in report.write(result, tmp_path).read_text()


def test_the_json_is_strict_and_the_same_every_time(tmp_path):
    history = [*HISTORY, {**HISTORY[0], 'epoch': 4, 'valid_loss': math.nan, 'best': False}]
    result = make(predictions(['a', 'b'], [1, 1], [[0.2, 0.8], [0.6, 0.4]]), history=history)

    def refuse(constant):
        raise AssertionError(f'{constant} is no JSON')

    page = report.write(result, tmp_path / 'once')
    text = (tmp_path / 'once' / 'report.json').read_text()
    assert json.loads(text, parse_constant=refuse) == result
    assert report.write(result, tmp_path / 'again').read_bytes() == page.read_bytes()
    assert sorted(path.name for path in page.parent.iterdir()) == ['report.html', 'report.json']


def test_a_report_that_cannot_be_written_leaves_the_old_one(frames, tmp_path):
    before = report.write(make(frames), tmp_path).read_bytes()
    with pytest.raises(ValueError):
        report.write({**make(frames), 'step': math.nan}, tmp_path)
    assert (tmp_path / 'report.html').read_bytes() == before


class Tags(HTMLParser):
    """Collects what a browser would act on."""

    def __init__(self, page):
        super().__init__()
        self.names, self.links, self.open = set(), [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.names.add(tag)
        self.links += [
            (key, value) for key, value in attributes if key in ('src', 'href', 'xlink:href')
        ]
        self.links += [(key, value) for key, value in attributes if key.startswith('on')]


def test_the_page_is_self_contained_and_its_plots_are_whole(tmp_path):
    page = report.write(make(many(10), history=HISTORY), tmp_path).read_text()
    tags = Tags(page)
    assert tags.names.isdisjoint({'script', 'link', 'iframe', 'img', 'object'})
    assert all(value.startswith('#') for _, value in tags.links)
    assert 'http' not in page and '@import' not in page
    assert set(re.findall(r'url\((.)', page)) <= {'#'}
    drawings = re.findall(r'<svg.*?</svg>', page, flags=re.DOTALL)
    assert len(drawings) == 4
    for drawing in drawings:
        ElementTree.fromstring(drawing.replace('<svg', '<svg xmlns:xlink="x"', 1))
        assert not re.search(r'#0[123]0[123]0[123]|font-family', drawing)  # the page's own instead


def test_hostile_names_are_shown_and_not_obeyed(tmp_path):
    evil = '<script>alert(1)</script>'
    names = [evil, '$\\frac{$', '_&"\'', 'a\x1b[2Jb\n', '東京']
    table = many(5, names=names)
    table.clip_id[:] = [name.replace('oslo', '<b>') for name in table.clip_id]
    about = {'data': evil, 'protocol': evil, 'weights': {evil: evil}, 'warnings': [evil]}
    paper = {'row': evil, 'source': evil, 'log_loss': 1.0, 'accuracy': 0.1}
    result = make(table, title=evil, about=about, paper=paper, history=HISTORY)
    result['members'] = [
        {'name': evil, 'level': evil}
        | dict.fromkeys(('log_loss_micro', 'log_loss_macro', 'mean_confidence'), 1.0)
        | dict.fromkeys(('accuracy_micro', 'accuracy_macro'), 1.0)
    ]
    page = report.write(result, tmp_path).read_text()
    assert 'script' not in Tags(page).names and '<script' not in page
    assert page.count('&lt;script&gt;') >= 10
    assert '&lt;b&gt;' in page and '$\\frac{$' in page and '東京' in page
    assert '\x1b' not in page + report.text(result)


def test_other_views_of_a_system_are_scored_beside_and_the_paper_is_found_there(frames, tmp_path):
    views = {
        'second': tables.seconds(frames, 2),
        'clip, multiplied': tables.pool(frames, 'product'),
    }
    views['second'].label[:2] = -1  # left out
    paper = {'row': 'B03', 'source': 'Table 2', 'log_loss': 0.9, 'accuracy': 0.25}
    paper |= {'granularity': 'second', 'average': 'macro'}
    result = make(frames, also=views, paper=paper)
    assert list(result['scores']) == ['clip', 'frame', 'second', 'clip, multiplied']
    assert result['headline'] == 'clip'
    second, clip = result['scores']['second'], result['scores']['clip, multiplied']
    ours = -(math.log(0.4) + math.log(0.8)) / 2
    assert (second['items'], second['log_loss_macro']) == (2, pytest.approx(ours))
    assert clip['log_loss_micro'] == pytest.approx(-(math.log(0.9) + math.log(0.32 / 0.44)) / 2)
    assert result['paper']['difference'] == pytest.approx(
        {'log_loss': ours - 0.9, 'accuracy': 0.5 - 0.25}
    )
    text, page = report.text(result), report.write(result, tmp_path).read_text()
    assert 'second, 2 items: log loss' in text and 'clip, multiplied, 2 items: log loss' in text
    assert re.search(r'micro +macro +paper \(second\)\n.* 0\.900 \(-0\.330\)\n', text)
    assert 'B03, Table 2 (second level, macro)' in text
    assert '<td>clip, multiplied, micro</td>' in page and 'paper (second) 0.900 (-0.330)' in page
    assert 'paper (' not in report.text(make(frames, paper={**paper, 'granularity': 'clip'}))


def test_a_metric_is_one_function_and_one_row(monkeypatch, tmp_path):
    """It is scored with intervals, on console and page, for members and in comparisons."""

    def brier(probs, labels):
        return ((probs - np.eye(probs.shape[1])[labels]) ** 2).sum(axis=1)

    row = scores.Metric(brier, percents=False, lower_is_better=True)
    monkeypatch.setitem(scores.METRICS, 'brier_score', row)
    monkeypatch.setitem(comparison.TERMS, 'brier_score', brier)
    draw = np.random.default_rng(0)
    clips = [f'park-oslo-{n}-1' for n in range(10)]
    table = tables.Predictions(
        clips, np.full(10, -1), np.arange(10) % 2, draw.dirichlet([1, 1], 10),
        {'classes': ['park', 'tram']},
    )  # fmt: skip
    expected = brier(table.probs, table.label).mean()
    told = report.make(table, title='a', about={})
    score = told['scores']['clip']
    assert score['brier_score_micro'] == pytest.approx(expected)
    assert len(score['brier_score_macro_interval']) == 2
    told['members'] = [report.line('a', table)]
    assert f'brier score           {expected:.3f} [' in report.text(told)
    assert report.text(told).count(f'{expected:.3f}') == 4  # two averages, the member
    page = report.write(told, tmp_path).read_text()
    assert page.count('brier score') == 2 and f'{expected:.3f}' in page
    compared = comparison.make({'a': table, 'b': table})
    assert compared['tests']['b']['brier_score'].difference == 0
    assert 'brier score' in comparison.text(compared)
