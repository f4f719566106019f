"""When is it there? Decoding, RSA and encoding in windows of the epochs around words."""

from brainalign_jax.studies.timecourse.table import TimeCourseTable
from brainalign_jax.studies.timecourse.timecourse import run_timecourse
from brainalign_jax.studies.timecourse.verdict import headline, verdicts

__all__ = ["TimeCourseTable", "headline", "run_timecourse", "verdicts"]
