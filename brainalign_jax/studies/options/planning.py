"""The choices of a plan: which test, from how large an effect, over which numbers of people and words."""

import math

from brainalign_jax.options import described, option_class

TESTS = ("score", "layers", "size", "gap", "ablation")


def largest_effect(test: str) -> float:
    """What an effect in rank accuracy can be at most; a slope on size has no such limit."""
    return {"score": 0.5, "size": math.inf}.get(test, 1.0)


@option_class
class Planning:
    """How many people, words and repetitions a study needs: `studies.planning`."""

    test: str = described(
        "What is to be shown: a score above its null (score), one layer above another (layers), a slope on "
        "model size (size), a gap of generalisation (gap), a part of a model that is missed (ablation).",
        "score",
        choices=TESTS,
    )
    model: str | None = described("Which model's, of pilots with several.", None)
    method: str | None = described("Which method's, of pilots with several.", None)
    layers: tuple[int, ...] = described(
        "With test=layers, the two layers: the one that is to be above, and the other.",
        (),
        least=0,
        empty=True,
    )
    condition: str | None = described(
        "With test=gap, the condition that is tested on; all if not given.", None
    )
    component: str | None = described(
        "With test=ablation, the part: attention:3, head:2.7, positions. If not given, the part that falls "
        "most in the pilot, whose fall is too large by that choice.",
        None,
    )
    effect: float | None = described(
        "Effect to plan for in place of the pilot's, at the pilot's number of words, in units of rank "
        "accuracy: with score what it is above its null, at most .5; with size per tenfold parameters; else "
        "the difference or fall.",
        None,
        above=0.0,
        most=10.0,
    )
    people: tuple[int, ...] = described(
        "Numbers of people.", (4, 6, 8, 12, 16, 24, 32, 48), least=2, most=10_000
    )
    words: tuple[int, ...] | None = described(
        "Numbers of words that are tested; half, once, twice and four times the pilot's if not given.",
        None,
        least=10,
        most=10_000_000,
    )
    repetitions: tuple[float, ...] = described(
        "How often each word is recorded, times the pilot's; other than 1 needs a reliability.",
        (1.0,),
        above=0.0,
        most=1000.0,
    )
    reliability: float | None = described(
        "Split-half reliability of the pilot's word responses with all its repetitions (Spearman-Brown "
        "corrected), from which repetitions are planned.",
        None,
        above=0.0,
        below=1.0,
    )
    stable_share: float | None = described(
        "With gap and ablation, whose tables have no words: the share of the variance of people's effects "
        "that is between people, and not noise that more words average out. If not given, by each person's "
        "interval over words; 1 of a table of an earlier version, which has none.",
        None,
        above=0.0,
        most=1.0,
    )
    words_per_minute: float | None = described(
        "Tested words of a minute of recording, for the column of minutes.", None, above=0.0
    )
    power: float = described("Power that is wanted.", 0.8, above=0.0, below=1.0)
    n_tests: int | None = described(
        "With ablation, how many parts are switched off, of which the largest fall is tested; the pilot's "
        "if not given.",
        None,
        least=1,
        most=1_000_000,
    )
    fractions: tuple[float, ...] = described(
        "Of a pilot that is run here: shares of its words, from which it is learnt how the effect grows "
        "with words.",
        (0.5, 1.0),
        above=0.0,
        most=1.0,
    )
    n_nulls: int = described(
        "Null draws of a pilot that is run here, at each share of its words; with test=score 20 or more.",
        100,
        least=1,
        most=100_000,
    )
    n_simulations: int = described(
        "Simulated studies of each setting, tested as the package does; 0 for none.",
        200,
        least=0,
        most=100_000,
    )
    n_bootstraps: int = described(
        "Draws of what the pilot's effect and variances may be.", 300, least=100, most=100_000
    )
    confidence: float = described("Of the intervals.", 0.95, above=0.0, below=1.0)
    seed: int = described("Of every draw.", 0, least=0)

    def __post_init__(self):
        if self.test == "layers" and (len(self.layers) != 2 or self.layers[0] == self.layers[1]):
            raise ValueError(
                "test=layers needs two layers: give the one that is to be above and the other, as "
                "layers=(4, 0) (--layers=4,0)"
            )
        if self.reliability is None and set(self.repetitions) != {1.0}:
            raise ValueError(
                "repetitions needs the reliability of the pilot's responses: give reliability (--reliability)"
            )
        for name, tests in (
            ("layers", ("layers",)),
            ("condition", ("gap",)),
            ("component", ("ablation",)),
            ("n_tests", ("ablation",)),
        ):
            if getattr(self, name) not in (None, ()) and self.test not in tests:
                raise ValueError(
                    f"{name} is for test={tests[0]}, and the test is {self.test}: leave it out"
                )
        if self.effect is not None and self.effect > largest_effect(self.test):
            raise ValueError(
                f"effect={self.effect:g} is more than test={self.test} can have, "
                f"{largest_effect(self.test):g}: give what would matter in rank accuracy, as 0.02"
            )
        for name in ("people", "words", "repetitions", "fractions"):
            values = getattr(self, name)
            if values is not None:
                object.__setattr__(self, name, tuple(sorted(set(values))))
