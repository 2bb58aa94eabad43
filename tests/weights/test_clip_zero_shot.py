"""Zero-shot prediction of classes of one's own by whole networks, beside open_clip's."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from avsc_jax.predict import zero_shot

PICTURE = Path(__file__).parents[1] / 'data_files' / 'cat.jpg'
CLASSES = ['café', 'city street', "the dogs' beach", '北京の駅']
PROMPTS = ['a photo of a {}.', 'a sketch of {}, 2 of 3', '{}']
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# Ours, open_clip's with its activation, and the scale of pictures.
PEERS = [
    ('clip_vit_b32', 'ViT-B-32-quickgelu', 'quick_gelu', CLIP),
    ('clip_vit_b16', 'ViT-B-16-quickgelu', 'quick_gelu', CLIP),
    ('clip_vit_b16', 'ViT-B-16', 'gelu', HALF),
    ('clip_vit_l14', 'ViT-L-14-quickgelu', 'quick_gelu', CLIP),
    ('clip_vit_l14', 'ViT-L-14', 'gelu', HALF),
    ('clip_vit_l14_336', 'ViT-L-14-336-quickgelu', 'quick_gelu', CLIP),
]


def relative_error(ours, theirs) -> float:
    return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize(('name', 'peer', 'activation', 'scale'), PEERS)
def test_own_classes_and_prompts_are_those_of_open_clip(
    open_clip, randomized, tmp_path, name, peer, activation, scale
):
    """From a file of its names, whose hash is unknown, to the logits of a photograph."""
    import torch

    network = open_clip.create_model(peer).eval()
    state = randomized(network)
    safetensors.numpy.save_file(state, tmp_path / f'{name}.safetensors')
    tokenizer = open_clip.get_tokenizer(peer)
    preprocess = open_clip.image_transform(
        network.visual.image_size, is_train=False, mean=scale[0], std=scale[1]
    )
    picture = Image.open(PICTURE).convert('RGB')
    pixels = preprocess(picture)[None]
    with torch.no_grad():
        heads = open_clip.build_zero_shot_classifier(network, tokenizer, CLASSES, PROMPTS).numpy()
        seen = network.encode_image(pixels, normalize=True).numpy()
    del network, state

    options = f'activation={activation},mean={scale[0]},std={scale[1]}'
    predictor = zero_shot(
        CLASSES, encoder=f'{name}:{options}', prompts=PROMPTS, weights_dir=tmp_path
    )
    (member,) = predictor.members
    (encoder,) = member.preprocess.encoders
    same = np.asarray(encoder._encode(encoder._variables, pixels.permute(0, 2, 3, 1).numpy()))
    kernel = np.asarray(member.variables['params']['head']['kernel'])
    record = {'frames': [np.asarray(picture)], 'frame_times': np.zeros(1)}
    (answer,) = predictor.answers([record])
    texts, pictures = (
        relative_error(kernel, heads),
        relative_error(same / np.linalg.norm(same), seen),
    )
    own = relative_error(answer.embedding, seen[0])
    print(
        f'{name}, {activation}: relative error of classes {texts:.1e}, of pictures {pictures:.1e}, '
        f'with our own preprocessing {own:.1e}'
    )
    assert max(texts, pictures) < 1e-4  # float32 sums in another order
    assert own < 1e-3  # a few bytes of the picture are rounded to the other side
    logits = 100 * seen[0] @ heads
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    np.testing.assert_allclose(answer.probs, expected, atol=1e-3)
