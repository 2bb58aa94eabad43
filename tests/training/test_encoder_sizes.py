import pytest

from avsc_jax.configs import late_fusion, own_data
from avsc_jax.input_pipeline.encoders import EncoderSpec
from avsc_jax.training import encoder_sizes


def of_demo(tokens, module=late_fusion):
    config = module.get_config(tokens)
    config.update(config.demo)
    return config


def test_widths_are_those_of_the_encoders_and_means_have_no_frames():
    config = of_demo('clip_vit_b32+yamnet,demo')
    with config.unlocked():
        encoder_sizes.settle(config)
    assert config.model.encoders.to_dict() == {'clip_vit_b32': 512, 'yamnet': 256}
    assert 'frames' not in config.model and 'length' not in config


@pytest.mark.parametrize('window_s', [10.0, 4.0])
def test_attention_takes_as_many_frames_as_a_clip_has(window_s):
    config = of_demo('clip_vit_b32+openl3_audio+yamnet,attention,demo')
    with config.unlocked():
        if window_s < 10:  # TAU's need not be named
            config.data.window_s = window_s
        encoder_sizes.settle(config)
    seconds = int(window_s)
    patches = -(-(seconds * 100 - 96) // 48) + 1  # of 0.96 s every 0.48 s
    # OpenL3's windows of a second are centred on every second, the last one's end included
    counts = {'clip_vit_b32': 12, 'openl3_audio': seconds + 1, 'yamnet': patches}
    assert config.model.frames.to_dict() == counts
    assert config.length.to_dict() == {f'features/{name}': n for name, n in counts.items()}


def test_encoders_of_what_the_clips_do_not_hold_are_left_out():
    config = of_demo('late_fusion,clip_vit_b32+yamnet,demo', own_data)
    with config.unlocked():
        config.data.needs = ('sound',)
        encoder_sizes.settle(config)
        assert [*config.encoders] == ['yamnet'] == [*config.model.encoders]
        config.data.needs = ('picture',)
        with pytest.raises(ValueError, match='none of the encoders yamnet takes that; name others'):
            encoder_sizes.settle(config)
    assert EncoderSpec('yamnet', {}, '').takes == 'audio'
