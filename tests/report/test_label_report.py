"""Reports on labels of which a clip may have several."""

import numpy as np
import pytest

from avsc_jax import label_metrics, report, tables
from avsc_jax.report import label_scores

ABOUT = {'data': 'made up', 'protocol': 'none', 'weights': {}, 'warnings': []}
LIMITS = {'thresholds': [0.4, 0.6, 0.5], 'beta': 1.0, 'fitted_on': 'valid', 'not_fitted': ['snow']}


def made(count=40, thresholds=LIMITS, segments=1, label=None):
    draw = np.random.default_rng(0)
    probs = draw.random((count, 3))
    labels = draw.random((count, 3)) < probs * np.array([1, 0.5, 0])
    meta = {'classes': ['night', 'rain', 'snow'], 'kind': 'independent', 'granularity': 'frame'}
    meta |= {'thresholds': thresholds} if thresholds else {}
    clips = [f'{k // segments}.wav' for k in range(count)]
    labels = labels[np.arange(count) // segments * segments]
    group = np.array([f'g{k // 8}' for k in range(count)])
    segment = np.arange(count) % segments if segments > 1 else np.full(count, -1)
    return tables.Predictions(
        clips, segment, labels if label is None else label, probs, meta, group
    )


def told(table, **options):
    return report.make(table, title='a test', about=ABOUT, **options)


def test_the_scores_are_those_of_the_metrics_at_the_table_s_thresholds():
    table = made()
    scores = told(table)['scores']['frame']
    given = table.probs, table.label
    called = label_metrics.at_thresholds(*given, LIMITS['thresholds'])
    assert scores['average_precision_macro'] == pytest.approx(
        np.nanmean(label_metrics.average_precision(*given))
    )
    assert (
        scores['f1_micro'] == called['micro']['f1'] and scores['f1_macro'] == called['macro']['f1']
    )
    assert scores['per_class']['recall'][2] is None and scores['per_class']['support'][2] == 0
    assert scores['groups'] == 5 and scores['draws'] == label_scores.DRAWS
    low, high = scores['average_precision_macro_interval']
    assert low < scores['average_precision_macro'] < high


def test_rows_of_a_clip_are_pooled_for_the_headline():
    result = told(made(segments=4))
    assert [*result['scores']] == ['clip', 'frame'] and result['headline'] == 'clip'
    assert result['scores']['clip']['items'] == 10
    assert any(
        line.startswith('frame, 40 items: average') for line in report.text(result).split('\n')
    )


def test_a_label_that_is_true_of_nothing_is_left_out_and_said_so():
    result = told(made())
    (line,) = result['about']['warnings']
    assert line == (
        '1 of 3 labels are true of no item, and are left out of every mean over labels: snow'
    )
    text = report.text(result)
    assert 'average precision' in text and 'accuracy' not in text
    assert 'largest F1 on valid; 1 labels are true of no clip there and have 0.5: snow' in (
        ' '.join(text.split())
    )


def test_without_thresholds_they_are_a_half_and_the_report_says_so():
    result = told(made(thresholds=None))
    assert result['scores']['frame']['per_class']['threshold'] == [0.5] * 3
    assert 'a threshold of 0.5 each, as none was fitted' in report.text(result)


def test_a_table_without_labels_has_nothing_to_score():
    with pytest.raises(ValueError, match='none of the 40 rows has a known label'):
        told(made(label=np.full(40, -1)))


def test_many_labels_are_cut_on_the_console_to_the_worst():
    draw = np.random.default_rng(1)
    probs, labels = draw.random((60, 30)), draw.random((60, 30)) < 0.3
    meta = {'classes': [f'label {k:02}' for k in range(30)], 'kind': 'independent'}
    table = tables.Predictions([f'{k}' for k in range(60)], np.full(60, -1), labels, probs, meta)
    result = told(table)
    text = report.text(result)
    assert 'and 18 labels with higher average precision, in report.json' in text
    worst = int(np.argmin(label_metrics.average_precision(probs, labels)))
    assert f'label {worst:02}' in text


def test_large_tables_draw_fewer_times_and_say_so(monkeypatch):
    monkeypatch.setattr(label_scores, 'MOST_VALUES', 120 * 300)
    assert told(made())['scores']['frame']['draws'] == 300


def test_the_page_has_a_row_for_each_label_and_members_of_a_mix(tmp_path):
    result = told(
        made(),
        history=[
            {
                'epoch': 0,
                'train_loss': 1.0,
                'learning_rate': 0.1,
                'valid_mean_average_precision': 0.5,
                'best': True,
            }
        ],
    )
    result['members'] = [report.line('a', made()), report.line('result', made())]
    assert result['members'][0]['average_precision_macro'] > 0
    page = report.write(result, tmp_path).read_text()
    for word in ('Mean average precision', 'snow (0)', 'Members and their mix', 'a test'):
        assert word in page
    assert 'member (frame)' in report.text(result)
