"""The fixtures of study_fixtures.py."""

from study_fixtures import dataset, planted, words  # noqa: F401
