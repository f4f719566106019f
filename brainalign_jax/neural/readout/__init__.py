"""From scans to one response a word, by a kernel or by deconvolution, or to clean time courses."""

from brainalign_jax.neural.readout.courses import Reading, TimeCourses, read_time_courses
from brainalign_jax.neural.readout.options import Processing
from brainalign_jax.neural.readout.process import word_responses

__all__ = ["Processing", "Reading", "TimeCourses", "read_time_courses", "word_responses"]
