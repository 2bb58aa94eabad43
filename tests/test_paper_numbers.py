"""Numbers quoted from the papers, with their place, and what they imply about each other.

Log losses are printed to three decimals, accuracies in per cent to one or as shares to three.
"""

import math

import numpy as np
import pytest

from avsc_jax import ensemble, metrics, scenes
from avsc_jax.configs import (
    clip_fusion,
    clip_zero_shot,
    ioacas_audio,
    ioacas_ensemble,
    ioacas_fusion,
    ioacas_image,
)

# ---- Okazaki, Kong, Yoshinaga 2021 (Hitachi), development set ----

# Table 1: encoder -> width of its features; layers of each branch; layers after concatenation
OKAZAKI_TABLE_1 = {'RN50x4': 640, 'RN101': 512, 'ViT-B/32': 512}
OKAZAKI_TABLE_1_BRANCH = (
    'Linear(dim, 512)',
    'BatchNorm1d(512)',
    'ReLU()',
    'Dropout(p=0.2)',
    'Linear(512, 256)',
)
OKAZAKI_TABLE_1_HEAD = ('Linear(256*3, 128)', 'Linear(128, 10)')

# Table 2: index -> architecture, audio, video, notes, log loss, accuracy
OKAZAKI_TABLE_2 = {
    'B01': ("OpenL3's model", 'log-mel CNN', '-', 'Baseline model of Audio-only', 1.048, 65.1),
    'A01': ('RegNet-6.4F', 'log-mel CNN', '-', 'Training with 1 sec. audio files', 0.711, 76.6),
    'A02': ('ResNeSt-50d', 'log-mel CNN', '-', 'Training with 1 sec. audio files', 0.732, 76.9),
    'A03': (
        'TF-Efficientnet-B1-NS',
        'log-mel CNN',
        '-',
        'Training with 1 sec. audio files',
        0.821,
        77.2,
    ),
    'A04': ("A01-A03's models", 'log-mel CNN', '-', 'Ensemble of A01-A03', 0.721, 78.1),
    'B02': ("OpenL3's model", '-', 'CNN', 'Baseline model of Visual-only', 1.648, 64.9),
    'V01': ('RegNet-6.4F', '-', 'CNN', '-', 0.328, 90.0),
    'V02': ('ResNeSt-50d', '-', 'CNN', '-', 0.367, 91.7),
    'V03': ('HRNet-W18', '-', 'CNN', '-', 0.336, 90.9),
    'V04': ("V01-V03's models", '-', 'CNN', 'Ensemble of V01-V03', 0.316, 92.4),
    'C01': ('ResNet-101', '-', 'CLIP CNN', 'No Training', 0.671, 76.7),
    'C02': ('ResNet-50x4', '-', 'CLIP CNN', 'No Training', 0.668, 74.5),
    'C03': ('ViT-B/32', '-', 'CLIP ViT', 'No Training', 0.725, 72.5),
    'C04': ("C01-C03's models", '-', 'CLIP CNN&ViT', 'Late Fusion of C01-C03', 0.273, 90.9),
    'B03': ("OpenL3's model", 'log-mel CNN', 'CNN', 'Baseline model of Audio-Visual', 0.658, 77.0),
    'E01': (
        "A04/V04/C04's models",
        'log-mel CNN',
        'CNN / CLIP CNN&ViT',
        'Ensemble of A04/V04/C04',
        0.238,
        95.8,
    ),
    'E02': (
        "A04/V04/C04's models",
        'log-mel CNN',
        'CNN / CLIP CNN&ViT',
        'E01 with Post-Processing',
        0.149,
        96.1,
    ),
}

# Table 3: index -> description, models, log loss on the challenge's test set
OKAZAKI_TABLE_3 = {
    'S01': ('only-visual, 1fold', 4, 0.312),
    'S02': ('audio-visual, 1fold, p.p.', 7, 0.320),
    'S03': ('audio-visual, 5folds', 35, 0.303),
    'S04': ('audio-visual, 5folds, p.p.', 35, 0.257),
}

# Table 4: description -> CLIP, log loss, accuracy
OKAZAKI_TABLE_4 = {
    'A04/V04 Fusion': ('no', 0.293, 92.4),
    'A04/V04/C04 Fusion': ('yes', 0.238, 95.8),
    'A04/V04 Fusion with p.p.': ('no', 0.205, 93.0),
    'A04/V04/C04 Fusion with p.p.': ('yes', 0.149, 96.1),
}

# Table 5: description -> epoch, parameters in millions, log loss, accuracy
OKAZAKI_TABLE_5 = {
    'V01': (20, 24.60, 0.328, 90.0),
    'V02': (20, 25.45, 0.367, 91.7),
    'V03': (20, 19.27, 0.336, 90.9),
    'V04': (60, 69.32, 0.316, 92.4),
    'C04': (5, 1.35, 0.273, 90.9),
}

# ---- Wang et al. 2021 (IOA-CAS), development set ----

# Table 2: (feature, model) -> log loss, accuracy
IOA_TABLE_2 = {
    ('log-mel', 'DCNN'): (0.703, 75.0),
    ('log-mel', '1D-ResNet'): (0.652, 77.5),
    ('scalogram', 'DCNN'): (0.661, 76.6),
    ('scalogram', '1D-ResNet'): (0.623, 78.5),
    ('bark', 'DCNN'): (0.764, 71.5),
    ('bark', '1D-ResNet'): (0.794, 71.5),
}

# Table 3: model -> log loss, accuracy
IOA_TABLE_3 = {
    'ResNet-50': (0.346, 90.7),
    'EffNet-b5': (0.274, 90.9),
    'EffNetV2-S': (0.270, 91.8),
    'SwinT': (0.371, 88.8),
}

# Table 4: ID -> V-model, A-feature, log loss, accuracy
IOA_TABLE_4 = {
    1: ('ResNet-50', 'log-mel', 0.189, 93.7),
    2: ('ResNet-50', 'scalogram', 0.187, 94.1),
    3: ('ResNet-50', 'bark', 0.211, 93.0),
    4: ('EffNet-b5', 'log-mel', 0.159, 94.1),
    5: ('EffNet-b5', 'scalogram', 0.170, 93.5),
    6: ('EffNet-b5', 'bark', 0.197, 93.3),
    7: ('EffNetV2-S', 'log-mel', 0.169, 94.4),
    8: ('EffNetV2-S', 'scalogram', 0.177, 94.2),
    9: ('EffNetV2-S', 'bark', 0.204, 92.9),
    10: ('SwinT', 'log-mel', 0.210, 91.8),
    11: ('SwinT', 'scalogram', 0.217, 91.7),
    12: ('SwinT', 'bark', 0.244, 91.1),
}

# Table 5: No. -> model IDs, vote method, log loss, accuracy
IOA_TABLE_5 = {
    'I': ((4, 5, 7, 8, 10, 11), 'Weighted', 0.144, 95.0),
    'II': ((4, 5, 7, 8, 10, 11), 'Unweighted', 0.150, 95.1),
    'III': ((4, 5, 6, 7, 8, 9, 10, 11, 12), 'Weighted', 0.143, 95.2),
    'IV': ((4, 5, 6, 7, 8, 9, 10, 11, 12), 'Unweighted', 0.151, 95.1),
}

IOA_WEIGHTS = {  # Sec. 4, in the order of Table 5's IDs
    'I': (0.5, 0, 0.25, 0.15, 0.1, 0),
    'III': (0.4, 0, 0.15, 0.2, 0.15, 0, 0.1, 0, 0),
}
IOA_STEP = 0.05  # Sec. 3.3

# ---- Feng, development test set ----

FENG_TABLE_1 = {  # fusion -> ACC, Loss
    'Early': (0.797, 0.528),
    'Intermediate': (0.798, 0.541),
    'Late': (0.792, 0.540),
}

# Table 2: type (1 airport ... 10 tram) -> M-P M-R M-F A-P A-R A-F; M multimodal, A audio only
FENG_TABLE_2 = {
    1: (0.79, 0.66, 0.72, 0.75, 0.68, 0.71),
    2: (0.92, 0.86, 0.89, 0.83, 0.69, 0.75),
    3: (0.84, 0.88, 0.86, 0.67, 0.71, 0.69),
    4: (0.85, 0.88, 0.86, 0.66, 0.69, 0.67),
    5: (0.96, 0.85, 0.90, 0.93, 0.75, 0.83),
    6: (0.63, 0.71, 0.67, 0.58, 0.68, 0.63),
    7: (0.74, 0.77, 0.76, 0.71, 0.66, 0.69),
    8: (0.74, 0.67, 0.70, 0.62, 0.62, 0.62),
    9: (0.85, 0.90, 0.87, 0.78, 0.85, 0.81),
    10: (0.71, 0.80, 0.75, 0.63, 0.73, 0.67),
}

# Table 3: type -> M-P M-R M-F V-P V-R V-F; V video only
FENG_TABLE_3 = {
    1: (0.79, 0.66, 0.72, 0.62, 0.37, 0.46),
    2: (0.92, 0.86, 0.89, 0.64, 0.80, 0.71),
    3: (0.84, 0.88, 0.86, 0.80, 0.74, 0.77),
    4: (0.85, 0.88, 0.86, 0.79, 0.87, 0.83),
    5: (0.96, 0.85, 0.90, 0.87, 0.80, 0.83),
    6: (0.63, 0.71, 0.67, 0.55, 0.52, 0.53),
    7: (0.74, 0.77, 0.76, 0.58, 0.74, 0.65),
    8: (0.74, 0.67, 0.70, 0.59, 0.62, 0.60),
    9: (0.85, 0.90, 0.87, 0.77, 0.75, 0.76),
    10: (0.71, 0.80, 0.75, 0.48, 0.42, 0.44),
}

FENG_TABLE_4 = {  # model -> ACC, Loss
    'Audio-Only': (0.706, 0.808),
    'Video-Only': (0.674, 0.854),
    'Multimodal': (0.798, 0.541),
}

FENG_TABLE_5 = {'Baseline': (0.798, 0.541), 'Weighted': (0.816, 0.507)}  # ACC, Loss

FENG_FIGURE_3 = {  # class -> precision, recall, f1-score, support
    'airport': (0.80, 0.78, 0.79, 281),
    'bus': (0.87, 0.85, 0.86, 327),
    'metro': (0.85, 0.89, 0.87, 360),
    'metro_station': (0.86, 0.87, 0.87, 386),
    'park': (0.95, 0.80, 0.87, 386),
    'public_square': (0.71, 0.78, 0.74, 387),
    'shopping_mall': (0.81, 0.75, 0.78, 387),
    'street_pedestrian': (0.76, 0.73, 0.75, 421),
    'street_traffic': (0.85, 0.92, 0.88, 402),
    'tram': (0.73, 0.80, 0.76, 308),
}
FENG_FIGURE_3_AVERAGES = {  # -> precision, recall, f1-score, support
    'macro avg': (0.82, 0.82, 0.82, 3645),
    'weighted avg': (0.82, 0.82, 0.82, 3645),
}
FENG_FIGURE_3_ACCURACY = 0.816
FENG_FIGURE_3_LOG_LOSS = 0.507

# ---- Data ----

ONE_SECOND_FILES = {'train': 86_460, 'val': 36_450}  # Okazaki 2021, poster, Sec. 1

# ---- What they imply ----


def test_okazaki_tables_4_and_5_repeat_rows_of_table_2():
    for index, (_, _, log_loss, accuracy) in OKAZAKI_TABLE_5.items():
        assert OKAZAKI_TABLE_2[index][-2:] == (log_loss, accuracy)
    assert OKAZAKI_TABLE_4['A04/V04/C04 Fusion'][1:] == OKAZAKI_TABLE_2['E01'][-2:]
    assert OKAZAKI_TABLE_4['A04/V04/C04 Fusion with p.p.'][1:] == OKAZAKI_TABLE_2['E02'][-2:]


@pytest.mark.parametrize(
    'config',
    [
        clip_fusion.get_config(),
        *(clip_zero_shot.get_config(encoder) for encoder in ('rn101', 'rn50x4', 'vit_b32')),
    ],
    ids=lambda config: config.paper.row,
)
def test_configs_quote_their_row_of_okazaki_table_2(config):
    paper = config.paper
    *_, log_loss, accuracy = OKAZAKI_TABLE_2[paper.row]
    assert paper.source == 'Okazaki et al. 2021, Table 2'
    assert (paper.log_loss, round(100 * paper.accuracy, 1)) == (log_loss, accuracy)
    networks = {'C01': 'clip_rn101', 'C02': 'clip_rn50x4', 'C03': 'clip_vit_b32'}
    assert set(config.encoders) == {networks.get(paper.row, n) for n in networks.values()}


def test_okazaki_table_5_sums_its_three_image_networks():
    parts = [OKAZAKI_TABLE_5[index] for index in ('V01', 'V02', 'V03')]
    epochs, millions = (sum(part[column] for part in parts) for column in (0, 1))
    assert (epochs, round(millions, 2)) == OKAZAKI_TABLE_5['V04'][:2]


def test_okazaki_table_1_has_the_parameters_of_c04_in_table_5():
    # a kernel and a bias a Linear, a scale and a bias a BatchNorm1d
    branches = [(dim * 512 + 512) + 2 * 512 + (512 * 256 + 256) for dim in OKAZAKI_TABLE_1.values()]
    head = (256 * 3 * 128 + 128) + (128 * 10 + 10)
    assert sum(branches) + head == 1_350_282
    assert round((sum(branches) + head) / 1e6, 2) == OKAZAKI_TABLE_5['C04'][1]


def test_okazaki_table_3_counts_c04_as_one_model():
    audio = visual = 3
    c04 = 1
    assert OKAZAKI_TABLE_3['S01'][1] == visual + c04
    assert OKAZAKI_TABLE_3['S02'][1] == audio + visual + c04
    assert OKAZAKI_TABLE_3['S03'][1] == OKAZAKI_TABLE_3['S04'][1] == 5 * (audio + visual + c04)


def test_okazaki_equation_1():
    x = np.array([[0.00001, 0.06, 0.0601, 0.20, 0.2001, 0.45, 0.70, 0.7001, 1.0]], np.float32)
    f = np.array([[0.001, 0.001, 0.06, 0.06, 0.2001, 0.45, 0.70, 0.99, 0.99]], np.float32)
    np.testing.assert_array_equal(ensemble.clamp(x), f)


def test_okazaki_section_2_4_example_of_an_extreme_confidence():
    loss = metrics.log_loss(np.array([[0.00001, 0.99999]]), np.array([0]))
    assert round(loss, 2) == 11.51
    clamped = ensemble.clamp(np.array([[0.00001, 0.99999]]))
    np.testing.assert_allclose(
        metrics.log_loss(clamped / clamped.sum(), np.array([0])), -math.log(0.001 / 0.991)
    )


def test_ioa_table_4_pairs_each_image_model_with_each_feature():
    pairs = [(model, feature) for model, feature, _, _ in IOA_TABLE_4.values()]
    features = dict.fromkeys(feature for feature, _ in IOA_TABLE_2)
    assert pairs == [(model, feature) for model in IOA_TABLE_3 for feature in features]


IOA_TOKENS = {
    'log-mel': 'logmel',
    'DCNN': 'dcnn1d',
    '1D-ResNet': 'resnet1d',
    'ResNet-50': 'resnet50',
    'EffNet-b5': 'tf_efficientnet_b5',
    'EffNetV2-S': 'tf_efficientnetv2_s',
    'SwinT': 'swin_tiny',
}


@pytest.mark.parametrize(
    ('number', 'configs', 'table'),
    [
        (2, ioacas_audio, IOA_TABLE_2),
        (3, ioacas_image, {(key,): scores for key, scores in IOA_TABLE_3.items()}),
        (4, ioacas_fusion, {tuple(row[:2]): row[2:] for row in IOA_TABLE_4.values()}),
        (5, ioacas_ensemble, {(key,): row[-2:] for key, row in IOA_TABLE_5.items()}),
    ],
)
def test_configs_quote_their_rows_of_ioa(number, configs, table):
    for names, scores in table.items():
        paper = configs.get_config(','.join(IOA_TOKENS.get(name, name) for name in names)).paper
        assert paper.source == f'Wang et al. 2021 (IOA-CAS), Table {number}'
        assert (paper.log_loss, round(100 * paper.accuracy, 1)) == tuple(scores)
        assert paper.granularity == 'second'


def test_configs_of_ioa_mix_the_hybrids_of_table_5_and_those_take_the_better_network_of_table_2():
    for name, (models, vote, *_) in IOA_TABLE_5.items():
        config = ioacas_ensemble.get_config(name)
        assert config.groups.hybrids == tuple(map(str, models))
        assert config.recipe.name == {'Weighted': 'weights', 'Unweighted': 'mean'}[vote]
        assert config.recipe.get('paper', ()) == IOA_WEIGHTS.get(name, ())
        for model in models:
            image, feature, *_ = IOA_TABLE_4[model]
            tokens = f'{IOA_TOKENS[image]},{IOA_TOKENS.get(feature, feature)}'
            assert config.members[str(model)].config == f'configs/ioacas_fusion.py:{tokens}'
            better = min(('DCNN', '1D-ResNet'), key=lambda name: IOA_TABLE_2[feature, name])
            audio = ioacas_fusion.get_config(tokens).members.audio.config
            feature = IOA_TOKENS.get(feature, feature)
            assert audio == f'configs/ioacas_audio.py:{IOA_TOKENS[better]},{feature}'


def test_ioa_abstract_quotes_the_lowest_log_losses():
    def best(table):
        return min(row[-2:] for row in table.values())

    assert best(IOA_TABLE_2) == (0.623, 78.5)
    assert best(IOA_TABLE_3) == (0.270, 91.8)
    assert best(IOA_TABLE_4) == (0.159, 94.1)
    assert best(IOA_TABLE_5) == (0.143, 95.2)


@pytest.mark.parametrize('number', IOA_WEIGHTS)
def test_ioa_weights_are_points_of_the_searched_grid(number):
    weights = np.array(IOA_WEIGHTS[number])
    assert len(weights) == len(IOA_TABLE_5[number][0])
    assert IOA_TABLE_5[number][1] == 'Weighted'
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-15)
    np.testing.assert_allclose(weights / IOA_STEP, np.round(weights / IOA_STEP), atol=1e-12)
    votes = np.eye(len(weights))[:, None]  # member k is sure of class k
    np.testing.assert_allclose(ensemble.mean(votes, weights), weights[None], rtol=1e-15)


@pytest.mark.parametrize(('number', 'points'), [('I', 53_130), ('III', 3_108_105)])
def test_ioa_grids_have_the_size_of_the_search(number, points):
    members, steps = len(IOA_WEIGHTS[number]), round(1 / IOA_STEP)
    assert math.comb(steps + members - 1, members - 1) == points


def test_feng_tables_quote_one_multimodal_system():
    assert FENG_TABLE_1['Intermediate'] == FENG_TABLE_4['Multimodal'] == FENG_TABLE_5['Baseline']
    assert FENG_TABLE_5['Weighted'] == (FENG_FIGURE_3_ACCURACY, FENG_FIGURE_3_LOG_LOSS)
    for scene in range(1, 11):
        assert FENG_TABLE_2[scene][:3] == FENG_TABLE_3[scene][:3]


def test_feng_figure_3_lists_the_test_clips_of_the_ten_scenes():
    assert tuple(FENG_FIGURE_3) == scenes.SCENES
    assert sum(row[3] for row in FENG_FIGURE_3.values()) == 3645
    assert ONE_SECOND_FILES['val'] == 10 * 3645


FENG_SCORES = {  # system -> its rows of precision, recall, F1 and its accuracy
    'multimodal': ([row[:3] for row in FENG_TABLE_2.values()], FENG_TABLE_4['Multimodal'][0]),
    'audio': ([row[3:] for row in FENG_TABLE_2.values()], FENG_TABLE_4['Audio-Only'][0]),
    'video': ([row[3:] for row in FENG_TABLE_3.values()], FENG_TABLE_4['Video-Only'][0]),
    'weighted': ([row[:3] for row in FENG_FIGURE_3.values()], FENG_FIGURE_3_ACCURACY),
}
SUPPORT = np.array([row[3] for row in FENG_FIGURE_3.values()])


@pytest.mark.parametrize('system', FENG_SCORES)
def test_feng_recalls_weighted_by_support_are_the_accuracy(system):
    rows, accuracy = FENG_SCORES[system]
    recall = np.array(rows)[:, 1]
    # each recall is rounded to .01, the accuracy to .001
    assert abs((recall * SUPPORT).sum() / SUPPORT.sum() - accuracy) <= 0.005 + 0.0005


@pytest.mark.parametrize('system', FENG_SCORES)
def test_feng_f1_lies_between_those_of_the_rounded_precision_and_recall(system):
    for precision, recall, f1 in FENG_SCORES[system][0]:
        low, high = (
            2 * (precision + d) * (recall + d) / (precision + recall + 2 * d)
            for d in (-0.005, 0.005)
        )
        assert low - 0.005 <= f1 <= high + 0.005


@pytest.mark.parametrize('average', FENG_FIGURE_3_AVERAGES)
def test_feng_figure_3_averages_are_those_of_its_rows(average):
    weights = SUPPORT if average == 'weighted avg' else np.ones(10)
    rows = np.array([row[:3] for row in FENG_FIGURE_3.values()])
    means = (rows * weights[:, None]).sum(axis=0) / weights.sum()
    *printed, support = FENG_FIGURE_3_AVERAGES[average]
    # rows and averages are both rounded to .01
    np.testing.assert_allclose(means, printed, atol=0.005 + 0.005)
    assert support == SUPPORT.sum()


def test_a_table_with_the_recalls_of_feng_figure_3_scores_its_accuracy():
    """A confusion that keeps every printed recall, scored by our own functions."""
    rows = [FENG_FIGURE_3[scene] for scene in scenes.SCENES]
    labels = np.repeat(np.arange(10), SUPPORT)
    right = np.concatenate([np.arange(n) < round(recall * n) for _, recall, _, n in rows])
    probs = np.eye(10)[np.where(right, labels, (labels + 1) % 10)]
    scores = metrics.per_class(probs, labels)
    np.testing.assert_array_equal(scores['support'], SUPPORT)
    np.testing.assert_allclose(scores['recall'].round(2), [row[1] for row in rows])
    assert abs(metrics.accuracy(probs, labels) - FENG_FIGURE_3_ACCURACY) <= 0.005 + 0.0005
    assert round(scores['macro']['recall'], 2) == FENG_FIGURE_3_AVERAGES['macro avg'][1]
