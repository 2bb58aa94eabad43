from .predictor import Predictor as Predictor
from .zero_shot import zero_shot as zero_shot
