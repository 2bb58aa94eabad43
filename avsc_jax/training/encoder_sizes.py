"""Fits a config's frozen encoders to its clips: which take what the clips hold, and their sizes."""

from ml_collections import ConfigDict

from avsc_jax.input_pipeline import clip_rows
from avsc_jax.input_pipeline.encoders import EncoderSpec

NETWORKS = ('probe', 'late_fusion')  # which take any encoders; others state the sizes of theirs
TAKEN = {'audio': 'sound', 'frames': 'picture'}  # what an encoder takes -> what a file must hold


def settle(config: ConfigDict) -> None:
    """Drops encoders of what the clips do not hold, and sets the sizes of the others' features.

    Where frames are pooled by the network, these are the numbers of a clip's frames, too.

    Raises:
      ValueError: no encoder is left.
    """
    specs = [EncoderSpec(name, options.to_dict(), '') for name, options in config.encoders.items()]
    needs = config.data.get('needs') or tuple(TAKEN.values())
    kept = [spec for spec in specs if TAKEN.get(spec.takes) in needs]
    if not kept:
        name = config.model.name
        raise ValueError(
            f'the clips hold {" and ".join(needs)}, and none of the encoders '
            f'{", ".join(config.encoders) or "(none)"} takes that; name others in the token of '
            f'encoders, such as {name},tf_efficientnet_lite0 for pictures and {name},yamnet for '
            'sound'
        )
    for spec in specs:
        if spec not in kept:
            del config.encoders[spec.name]
    config.model.encoders = {spec.name: spec.output_shape[0] for spec in kept}
    if config.get('pool') == 'sequence':
        window_s = config.data.get('window_s', 10.0)
        rule = {'frames': config.frames}
        counts = {spec.name: clip_rows.of_encoder(spec, rule, window_s) for spec in kept}
        config.model.frames = counts
        config.length = {f'features/{name}': count for name, count in counts.items()}
