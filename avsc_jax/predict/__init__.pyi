from .predictor import Predictor as Predictor
from .tags import tags as tags
from .zero_shot import zero_shot as zero_shot
