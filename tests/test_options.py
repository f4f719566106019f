"""Classes of choices: checked when one is made, each text of a field once."""

import dataclasses

import pytest

from brainalign_jax.options import described, keep_known, option_class


@option_class
class Choices:
    """Of a test."""

    count: int = described("How many.", 3, least=1)
    ways: tuple[str, ...] = described("Which ways.", ("zero",))

    def __post_init__(self):
        keep_known(self, "ways", ("zero", "mean"))


@option_class
class More(Choices):
    """Of a test, with a field more."""

    share: float = described("Which share.", 0.5, most=1.0)


def test_a_class_is_a_frozen_dataclass_that_says_its_fields():
    assert Choices(ways=("mean", "zero", "mean")) == Choices(3, ("mean", "zero"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        Choices().count = 4
    assert "count: How many. At least 1. Default: 3." in Choices.__doc__
    assert "share: Which share." in More.__doc__ and "Which share." not in Choices.__doc__


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "count=0 must be at least 1"),
        ({"ways": ("mode",)}, "unknown ways='mode'; known: zero, mean"),
        ({"ways": ()}, "ways is empty: give one or more of zero, mean"),
        ({"share": 2.0}, "share=2.0 must be at most 1"),
    ],
)
def test_what_is_no_choice_is_refused_in_the_class_that_extends_another_too(changes, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.").replace("(", r"\(")):
        More(**changes)
