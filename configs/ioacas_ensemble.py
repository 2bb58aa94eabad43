"""Decision fusions of IOA-CAS's hybrids: weights searched over all twelve, and systems I to IV.

Paper: Wang et al. 2021 (IOA-CAS technical report), Sec. 2.3.2, 3.3 and 4, Tables 4 and 5.
Expect: log loss 0.143, accuracy 95.2 % (III) on fold 1, seconds; SYSTEMS lists the others.
Needs: the finished runs of the members; it names the commands that train missing ones.
Command: python -m avsc_jax.main --config=configs/ioacas_ensemble.py:all,tau
Try it: python -m avsc_jax.main --config=configs/ioacas_ensemble.py:demo --config.train_missing=True
"""

from avsc_jax.configs import common, ioacas_fusion

HYBRIDS = {
    str(number): f'ioacas_fusion.py:{",".join(pair)}'
    for number, pair in enumerate(ioacas_fusion.PAIRS, start=1)
}
TWELVE = tuple(HYBRIDS)
NINE = TWELVE[3:]  # without resnet50, whose weights the paper found to be zero
SIX = ('4', '5', '7', '8', '10', '11')  # and without bark
DEMO = TWELVE[:3]

MEAN = dict(name='mean')
III = (0.4, 0.0, 0.15, 0.2, 0.15, 0.0, 0.1, 0.0, 0.0)  # Sec. 4, as the weights of I


def _searched(*weights):
    """Returns a recipe that searches the weights; the report lists the paper's beside them."""
    return dict(name='weights', paper=weights)


# Members, recipe, log loss and accuracy in the paper. About `all` the paper only says that
# resnet50's weights are zero; the search's weights for the others are those of III.
SYSTEMS = dict(
    all=(TWELVE, _searched(0.0, 0.0, 0.0, *III), None, None),
    I=(SIX, _searched(0.5, 0.0, 0.25, 0.15, 0.1, 0.0), 0.144, 0.950),
    II=(SIX, MEAN, 0.150, 0.951),
    III=(NINE, _searched(*III), 0.143, 0.952),
    IV=(NINE, MEAN, 0.151, 0.951),
)
VARIANTS = {'system': {row: f'{len(of[0])} networks' for row, of in SYSTEMS.items()}}


def get_config(argument=''):
    choice = common.parse(argument, VARIANTS)
    names = SYSTEMS[choice['system']][0]
    config = common.ensemble(choice, {'hybrids': HYBRIDS})
    config.groups.hybrids = names
    config.group_names = dict()
    config.data.update(config='segments', items='second')  # seconds are mixed

    # The search over all twelve shows which members to leave out; III is the best of the rest.
    headline = 'III' if choice['system'] == 'all' else choice['system']
    config.roles, config.recipe, log_loss, accuracy = SYSTEMS[headline]

    # Other systems of the same members that are scored too.
    beside = {row: system for row, system in SYSTEMS.items() if {*system[0]} <= {*names}}
    del beside[headline]
    config.lines = tuple(
        dict(row=f'IOA {row}', roles=roles, recipe=recipe)
        for row, (roles, recipe, *_) in beside.items()
    )

    networks = dict.fromkeys(ioacas_fusion.PAIRS[int(name) - 1][0] for name in names)
    config.paper = dict(
        row=f'IOA {headline}',
        source='Wang et al. 2021 (IOA-CAS), Table 5',
        log_loss=log_loss,
        accuracy=accuracy,
        granularity='second',
        note='; '.join(filter(None, map(common.ioacas_note, networks))),
    )

    # On demo data: three members in place of all, because each takes minutes to train.
    config.demo.train_missing = False
    config.demo.groups = dict(hybrids=DEMO)
    config.demo.paper = dict(note='')
    config.demo.roles = DEMO
    config.demo.recipe = _demo(config.recipe)
    config.demo.lines = (dict(row='IOA IV', roles=DEMO, recipe=MEAN),)
    return config


def _demo(recipe):
    """Returns the recipe without the paper's weights, which are for other members."""
    return dict(recipe, paper=()) if 'paper' in recipe else dict(recipe)
