"""What could only fail after training, for the length of the clips, fails before it."""

import pytest

from avsc_jax.input_pipeline.encoders import EncoderSpec
from avsc_jax.training import train, window_check


def specs_of(config):
    return [
        EncoderSpec(name, options.to_dict(), 'random:0')
        for name, options in config.get('encoders', {}).items()
    ]


@pytest.mark.parametrize('window_s', [0.8, 10.0, 30.0])
@pytest.mark.parametrize(
    'name', ['clip_fusion', 'hitachi_audio', 'hitachi_image', 'ioacas_audio', 'feng_fusion']
)
def test_systems_of_any_length_take_it(name, window_s, demo_config):
    config = demo_config(name)
    window_check.check(config, specs_of(config), window_s)


@pytest.mark.parametrize(
    ('name', 'window_s', 'changes', 'sentence'),
    [
        ('hou_dual_stream', 30.0, {}, r'^hou_final takes clips of 0.9 to 1.1 or 9.5 to 10.5 s, an'),
        ('hou_dual_stream', 5.0, {}, r'^hou_final takes clips of 0.9 to 1.1 or 9.5 to 10.5 s, an'),
        (
            'ioacas_audio',
            0.8,
            {'encoders': {'ioacas_logmel': {'piece_s': 0.8}}},  # five frames
            r'^clips of 0.8 s do not fit this config: .* not 6 frames of each second .*window_s',
        ),
        (
            'openl3_baseline',  # of one frame; its views number the frames
            0.5,
            {},
            r'^clips of 0.5 s do not fit this config: the frames of clip are not numbered 0, 1, 2',
        ),
    ],
)
def test_what_could_only_fail_later_is_a_sentence(name, window_s, changes, sentence, demo_config):
    config = demo_config(name, **changes)
    with pytest.raises(ValueError, match=sentence):
        window_check.check(config, specs_of(config), window_s)


def test_a_job_is_checked_before_its_data_are_prepared(demo_config, tmp_path, monkeypatch):
    config = demo_config('hitachi_audio')

    def check(config, specs, window_s):
        raise ValueError(f'{window_s:g} s')

    monkeypatch.setattr(window_check, 'check', check)
    folders = {'data_dir': tmp_path / 'data', 'weights_dir': tmp_path}
    with pytest.raises(ValueError, match=r'^10 s$'):
        train.run(config, workdir=tmp_path / 'run', **folders)
    assert not [*tmp_path.iterdir()]
