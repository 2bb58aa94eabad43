from .console import text as text
from .page import write as write
from .scores import line as line
from .scores import make as make
from .scores import trained as trained
