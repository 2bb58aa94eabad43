"""Hitachi's ensembles (A04, V04, E01, E02) and submissions (S01 to S04), from members' tables.

Paper: Okazaki et al. 2021, Sec. 2.4, Fig. 1, Tables 2, 3 and 4.
Expect: log loss 0.149, accuracy 96.1 % (E02) on fold 1, clips; SYSTEMS lists the others.
Needs: the finished runs of the members; it names the commands that train missing ones.
Command: python -m avsc_jax.main --config=configs/hitachi_ensemble.py:E02,tau
Try it: python -m avsc_jax.main --config=configs/hitachi_ensemble.py:demo
"""

from avsc_jax.configs import common, hitachi_audio, hitachi_image

AV, AVC, VC = ('audio', 'visual'), ('audio', 'visual', 'clip'), ('visual', 'clip')
MEAN = dict(name='mean')
# Options of avsc_jax.ensemble.hitachi.
FUSED = dict(name='hitachi', restrict='per_class', gate='visual_mean', margin=0.20, clamp=None)
CLAMPED = dict(FUSED, clamp='per_model')  # the paper's post-processing

# Roles, recipe, place in the paper, log loss and accuracy in the paper.
SYSTEMS = dict(
    E02=(AVC, CLAMPED, 'Table 2', 0.149, 0.961),
    E01=(AVC, FUSED, 'Table 2', 0.238, 0.958),
    A04=(('audio',), MEAN, 'Table 2', 0.721, 0.781),
    V04=(('visual',), MEAN, 'Table 2', 0.316, 0.924),
    A04V04=(AV, FUSED, 'Table 4', 0.293, 0.924),
    A04V04_pp=(AV, CLAMPED, 'Table 4', 0.205, 0.930),
    S01=(VC, MEAN, 'Table 3', 0.312, None),
    S02=(AVC, CLAMPED, 'Table 3', 0.320, None),
    S03=(AVC, FUSED, 'Table 3', 0.303, None),
    S04=(AVC, CLAMPED, 'Table 3', 0.257, None),
)
VARIANTS = {'system': {row: ' and '.join(of[0]) for row, of in SYSTEMS.items()}}
TABLE_4 = ('A04V04', 'E01', 'A04V04_pp', 'E02')

GROUPS = dict(
    audio={row: f'hitachi_audio.py:{name}' for name, (row, *_) in hitachi_audio.PAPER.items()},
    visual={row: f'hitachi_image.py:{name}' for name, (row, *_) in hitachi_image.PAPER.items()},
    clip=dict(C04='clip_fusion.py'),
)
# Entries of the challenge's sheet.
DESCRIPTION = dict(
    visual_features='frames',
    embeddings='CLIP',
    data_augmentation='affine, Gaussian blur, random erasing',
    machine_learning_method='CNN, MLP',
    decision_making='average',
    external_data_usage='pre-trained models',
)
SOUND = dict(
    input_sampling_rate='48kHz',
    acoustic_features='log-mel energies, delta, delta-delta',
    data_augmentation='random gain, SpecAugment, affine, Gaussian blur, random erasing',
)
GROUP_NAMES = dict(audio='A04', visual='V04', clip='C04')


def get_config(argument=''):
    choice = common.parse(argument, VARIANTS)
    system = choice['system']
    roles, recipe, source, log_loss, accuracy = SYSTEMS[system]
    config = common.ensemble(choice, {role: GROUPS[role] for role in roles})
    config.group_names, config.recipe = {role: GROUP_NAMES[role] for role in roles}, recipe
    config.temperature = True  # ours: a line beside each clamped one

    # Other lines of the same members that are scored too, in the order of Table 4.
    beside = [line for line in TABLE_4 if line != system and {*SYSTEMS[line][0]} <= {*roles}]
    beside = beside if recipe['name'] == 'hitachi' else []
    config.lines = _lines(beside)
    if system.startswith('S'):
        common.submission(
            config,
            number=int(system[-1]),
            folds=5 if system in ('S03', 'S04') else 0,
            description=DESCRIPTION | (SOUND if 'audio' in roles else {}),
        )

    config.paper = dict(
        row=system,
        source=f'Okazaki et al. 2021, {source}',
        log_loss=log_loss,
        accuracy=accuracy,
        granularity='evaluation item' if source == 'Table 3' else 'clip',
    )

    # On demo data: one small member of each kind, trained if it is missing.
    config.demo.groups = {role: members[:1] for role, members in config.groups.items()}
    config.demo.recipe = _demo(recipe)
    own = _lines([system] * ('clamp' in recipe), name="{}, the paper's own stage")
    config.demo.lines = (*_lines(beside, _demo), *own)
    return config


def _lines(rows, change=dict, name='{}'):
    systems = {name.format(row): SYSTEMS[row] for row in rows}
    return tuple(dict(row=r, roles=s[0], recipe=change(s[1])) for r, s in systems.items())


def _demo(recipe):
    """Returns the recipe without its limits on sound: made-up sound is as good as the picture."""
    clamp = 'fused' if recipe.get('clamp') else None
    return recipe if recipe == MEAN else dict(recipe, restrict=None, gate=None, clamp=clamp)
