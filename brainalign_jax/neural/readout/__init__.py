"""From scans to one response a word, by a kernel or by deconvolution, or to clean time courses; epochs."""

from brainalign_jax.neural.readout.courses import Reading, TimeCourses, read_time_courses
from brainalign_jax.neural.readout.epochs import EpochedResponses, Window
from brainalign_jax.neural.readout.options import Processing
from brainalign_jax.neural.readout.process import word_responses

__all__ = [
    "EpochedResponses",
    "Processing",
    "Reading",
    "TimeCourses",
    "Window",
    "read_time_courses",
    "word_responses",
]
