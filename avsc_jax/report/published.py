"""Layout of the papers' tables, and numbers in them that no config holds."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

# Okazaki et al. 2021, Table 5; parameters in millions.
EPOCHS = dict(V01=20, V02=20, V03=20, V04=60, C04=5)
PARAMETERS = dict(V01=24.60, V02=25.45, V03=19.27, V04=69.32, C04=1.35)

# Wang et al. 2021 (A curated dataset of urban scenes): accuracy of whole clips.
BASELINE_CLIPS = dict(B01=0.758, B02=0.684, EAV=0.822, B03=0.848)

# Feng, Tables 2 and 3 and Figure 3: row of the config -> scores of the classes in order.
FENG = {
    'Feng intermediate': dict(
        precision=(0.79, 0.92, 0.84, 0.85, 0.96, 0.63, 0.74, 0.74, 0.85, 0.71),
        recall=(0.66, 0.86, 0.88, 0.88, 0.85, 0.71, 0.77, 0.67, 0.90, 0.80),
        f1=(0.72, 0.89, 0.86, 0.86, 0.90, 0.67, 0.76, 0.70, 0.87, 0.75),
    ),
    'Feng audio': dict(
        precision=(0.75, 0.83, 0.67, 0.66, 0.93, 0.58, 0.71, 0.62, 0.78, 0.63),
        recall=(0.68, 0.69, 0.71, 0.69, 0.75, 0.68, 0.66, 0.62, 0.85, 0.73),
        f1=(0.71, 0.75, 0.69, 0.67, 0.83, 0.63, 0.69, 0.62, 0.81, 0.67),
    ),
    'Feng video': dict(
        precision=(0.62, 0.64, 0.80, 0.79, 0.87, 0.55, 0.58, 0.59, 0.77, 0.48),
        recall=(0.37, 0.80, 0.74, 0.87, 0.80, 0.52, 0.74, 0.62, 0.75, 0.42),
        f1=(0.46, 0.71, 0.77, 0.83, 0.83, 0.53, 0.65, 0.60, 0.76, 0.44),
    ),
    'Feng weighted': dict(
        precision=(0.80, 0.87, 0.85, 0.86, 0.95, 0.71, 0.81, 0.76, 0.85, 0.73),
        recall=(0.78, 0.85, 0.89, 0.87, 0.80, 0.78, 0.75, 0.73, 0.92, 0.80),
        f1=(0.79, 0.86, 0.87, 0.87, 0.87, 0.74, 0.78, 0.75, 0.88, 0.76),
        support=(281, 327, 360, 386, 386, 387, 387, 421, 402, 308),
    ),
}
FENG_AVERAGES = {  # Figure 3
    'accuracy': dict(f1=0.82, support=3645),
    'macro avg': dict(precision=0.82, recall=0.82, f1=0.82, support=3645),
    'weighted avg': dict(precision=0.82, recall=0.82, f1=0.82, support=3645),
}


# Wang et al. 2021 (IOA-CAS): names in its tables -> tokens of the configs.
IOA_FEATURES = {'log-mel': 'logmel', 'scalogram': 'scalogram', 'bark': 'bark'}
IOA_SOUND = {'DCNN': 'dcnn1d', '1D-ResNet': 'resnet1d'}
IOA_IMAGE = {
    'ResNet-50': 'resnet50',
    'EffNet-b5': 'tf_efficientnet_b5',
    'EffNetV2-S': 'tf_efficientnetv2_s',
    'SwinT': 'swin_tiny',
}


class Table(NamedTuple):
    """A table of a paper: a row for each system, or, without columns, one for each class.

    Attributes:
      rows: name of a system in the paper -> name of its row in our configs.
      columns: those with published numbers begin with 'paper: '.
    """

    title: str
    rows: Mapping[str, str]
    columns: Sequence[str] = ()


SIZES = ('epochs', 'paper: epochs', 'parameters', 'paper: parameters')
SCORES = ('log loss', 'paper: log loss', 'accuracy', 'paper: accuracy')
CLIPS = ('clips: accuracy', 'paper: clips: accuracy')


def _table(title: str, rows: str | Mapping[str, str], *columns: str) -> Table:
    rows = {row: row for row in rows.split()} if isinstance(rows, str) else rows
    return Table(title, rows, ('row', 'system', *columns, 'status'))


def _feng(table: str, about: str, by_class: bool = False, **tokens: str) -> Table:
    rows = {row.replace('_', '-'): f'Feng {token}' for row, token in tokens.items()}
    columns = () if by_class else ('row', 'system', *SCORES, 'parameters', 'status')
    return Table(f'Feng, {table}: {about}, test clips', rows, columns)


def _ioacas(about: str, rows: Mapping[str, str], *columns: str) -> Table:
    rows = {name: f'IOA {row}' for name, row in rows.items()}
    title = f'Wang et al. 2021 (IOA-CAS), {about}, seconds, development set'
    return _table(title, rows, *columns, *SCORES, 'parameters')


TABLES = dict(
    table2=_table(
        'Okazaki et al. 2021, Table 2: models, development set',
        'B01 A01 A02 A03 A04 B02 V01 V02 V03 V04 C01 C02 C03 C04 B03 E01 E02',
        *SCORES,
        'parameters',
    ),
    table3=_table(
        "Okazaki et al. 2021, Table 3: submissions; the paper: the challenge's test set, not "
        'public; ours: development set',
        'S01 S02 S03 S04',
        'models',
        *SCORES[:2],
    ),
    table4=_table(
        'Okazaki et al. 2021, Table 4: with and without CLIP, development set',
        'A04V04 E01 A04V04_pp E02',
        *SCORES,
    ),
    table5=_table(
        'Okazaki et al. 2021, Table 5: size and training, development set',
        'V01 V02 V03 V04 C04',
        *SIZES,
        *SCORES,
    ),
    baseline=_table(
        'Wang et al. 2021, the official baseline: seconds, mean of classes; clips, product of '
        'frames; development set',
        'B01 B02 EAV B03',
        *SCORES,
        *CLIPS,
        'parameters',
    ),
    feng1=_feng(
        'Table 1', 'fusions', Early='early', Intermediate='intermediate', Late='late_concat'
    ),
    feng2=_feng('Table 2', 'multimodal and audio-only', True, M='intermediate', A='audio'),
    feng3=_feng('Table 3', 'multimodal and video-only', True, M='intermediate', V='video'),
    feng4=_feng(
        'Table 4',
        'one modality and both',
        Audio_Only='audio',
        Video_Only='video',
        Multimodal='intermediate',
    ),
    feng5=_feng('Table 5', 'the weighted method', Baseline='intermediate', Weighted='weighted'),
    feng_figure3=_feng('Figure 3', 'best results', True, Weighted='weighted'),
    hou=_table(
        'Hou et al. 2021: the dual stream, clips; most likely those that select the best epoch',
        {row: f'Hou {row}' for row in ('final', 'model_1', 'model_3', 'model_4')},
        *SCORES,
        'parameters',
    ),
    ioacas2=_ioacas(
        'Table 2: sound',
        {
            f'{feature}, {network}': f'{name} {IOA_FEATURES[feature]}'
            for feature in IOA_FEATURES
            for network, name in IOA_SOUND.items()
        },
    ),
    ioacas3=_ioacas('Table 3: pictures', IOA_IMAGE),
    ioacas4=_ioacas(
        'Table 4: picture and sound',
        {
            f'{number}: {image}, {feature}': str(number)
            for number, (image, feature) in enumerate(itertools.product(IOA_IMAGE, IOA_FEATURES), 1)
        },
    ),
    ioacas5=_ioacas('Table 5: fusion systems', {n: n for n in ('I', 'II', 'III', 'IV')}, 'vote'),
)
