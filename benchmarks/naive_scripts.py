"""Scripts that people would write without this package, for end_to_end.py; some 40 lines each.

PyAV decodes whole files, Pillow, librosa and open_clip prepare, and eager PyTorch runs the
networks, one file after the other. Each function prints a line a file.
"""

import numpy as np

CLASSES = ['beach', 'forest', 'city street', 'office', 'kitchen']
PICTURES, WINDOW_S = 12, 10.0


def clip(files, weights_file):
    """Zero-shot scenes by CLIP's ViT-B/32, from twelve pictures of each ten seconds."""
    import torch

    model, preprocess, texts = clip_model(weights_file)
    with torch.inference_mode():
        for file in files:
            probs = []
            for images in pictures(file):
                batch = torch.stack([preprocess(image) for image in images])
                seen = torch.nn.functional.normalize(model.encode_image(batch), dim=-1)
                probs.append((100 * seen @ texts.T).softmax(-1).mean(0))
            mean = torch.stack(probs).mean(0)
            print(file, CLASSES[int(mean.argmax())], flush=True)


def clip_model(weights_file):
    import torch
    from torch_peers import import_open_clip

    open_clip, name = import_open_clip(), 'ViT-B-32-quickgelu'
    model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=weights_file)
    tokens = open_clip.get_tokenizer(name)([f'a photo of a {c}.' for c in CLASSES])
    with torch.inference_mode():
        texts = torch.nn.functional.normalize(model.eval().encode_text(tokens), dim=-1)
    return model, preprocess, texts


def write_clip(weights_file):
    """Writes random weights of full size, as open_clip's file has them."""
    import safetensors.torch
    from torch_peers import import_open_clip

    model = import_open_clip().create_model('ViT-B-32-quickgelu')
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    safetensors.torch.save_file(state, weights_file)


def pictures(file):
    """Yields the pictures of each ten seconds, twelve of them evenly spaced."""
    import av

    images = []
    with av.open(file) as container:
        for frame in container.decode(video=0):
            at_s = frame.time % WINDOW_S
            if at_s >= (len(images) + 0.5) * WINDOW_S / PICTURES and len(images) < PICTURES:
                images.append(frame.to_image())
            if len(images) == PICTURES and at_s + 0.041 > WINDOW_S:
                yield images
                images = []
    if images:
        yield images


def sound(file, rate_hz):
    """Decodes a file's sound to one channel of some rate."""
    import av
    import librosa

    parts = []
    with av.open(file) as container:
        for frame in container.decode(audio=0):
            parts.append(frame.to_ndarray().mean(0))
            own_rate = frame.sample_rate
    samples = np.concatenate(parts)
    if own_rate != rate_hz:
        samples = librosa.resample(samples, orig_sr=own_rate, target_sr=rate_hz)
    return samples


def embedded(files, model, rate_hz, window, hop, spectrogram):
    """Prints how many embeddings a file's sound has, and saves them."""
    import torch

    for file in files:
        samples = sound(file, rate_hz)
        starts = range(0, max(1, len(samples) - window + hop), hop)
        windows = (np.pad(samples[s : s + window], (0, window))[:window] for s in starts)
        batch = torch.from_numpy(np.stack([spectrogram(w) for w in windows])).float()[:, None]
        with torch.inference_mode():
            rows = torch.cat([model(part) for part in batch.split(16)])
        np.save(f'{file}.npy', rows.numpy())
        print(file, tuple(rows.shape), flush=True)


def openl3(files, weights_file):
    """OpenL3's embeddings of sound, every half second."""
    import librosa

    filters = librosa.filters.mel(sr=48000, n_fft=2048, n_mels=256, htk=True)

    def spectrogram(window):
        power = np.abs(librosa.stft(window, n_fft=2048, hop_length=242)) ** 2
        return librosa.amplitude_to_db(np.sqrt(filters @ power), ref=np.max)[:, :199]

    embedded(files, openl3_model(), 48000, 48000, 24000, spectrogram)


def openl3_model():
    from torch import nn

    layers, before = [nn.BatchNorm2d(1)], 1
    for k, width in enumerate((64, 64, 128, 128, 256, 256, 512)):
        layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] * (k in (1, 3, 5))
        before = width
    last = nn.Conv2d(512, 512, 3, padding=1)
    return nn.Sequential(*layers, last, nn.AdaptiveMaxPool2d(1), nn.Flatten()).eval()


def yamnet(files, weights_file):
    """YAMNet's embeddings of sound, a log-mel CNN's, every 0.48 seconds."""
    import librosa

    shape = {'n_fft': 512, 'win_length': 400, 'hop_length': 160, 'center': False}
    filters = librosa.filters.mel(sr=16000, n_fft=512, n_mels=64, fmin=125, fmax=7500, htk=True)

    def spectrogram(window):
        magnitude = np.abs(librosa.stft(window, **shape))
        return np.log(filters @ magnitude + 0.001).T[:96]

    embedded(files, yamnet_model(), 16000, 15600, 7680, spectrogram)


def yamnet_model():
    from torch import nn

    def layer(before, width, kernel, stride, groups=1):
        conv = nn.Conv2d(before, width, kernel, stride, kernel // 2, groups=groups, bias=False)
        return [conv, nn.BatchNorm2d(width), nn.ReLU()]

    layers, before = layer(1, 32, 3, 2), 32
    widths = (64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)
    for width, stride in zip(widths, (1, 2, 1, 2, 1, 2, *[1] * 5, 2, 1), strict=True):
        layers += [*layer(before, before, 3, stride, before), *layer(before, width, 1, 1)]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def network(system, weights_file):
    """Returns the network alone, on all rows of one clip of ten seconds."""
    import torch

    shape = {'clip': (12, 3, 224, 224), 'openl3': (20, 1, 256, 199), 'yamnet': (21, 1, 96, 64)}
    batch = torch.randn(shape[system])
    model = {
        'clip': lambda: clip_model(weights_file)[0].encode_image,
        'openl3': openl3_model,
        'yamnet': yamnet_model,
    }[system]()
    return torch.inference_mode()(lambda: [model(part) for part in batch.split(16)])


SCRIPTS = {'clip': clip, 'openl3': openl3, 'yamnet': yamnet}
