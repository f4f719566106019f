"""The choices of studies over time."""

from brainalign_jax.options import described, keep_known, option_class

TIME_METHODS = ("ridge", "procrustes", "rsa", "encoding")


@option_class
class TimeCourse:
    """When in an epoch which layers are found: `studies.timecourse`."""

    window: float = described(
        "Seconds over which each channel is averaged.", 0.05, above=0.0, most=3600.0
    )
    step: float = described("Seconds from window to window.", 0.025, above=0.0, most=3600.0)
    methods: tuple[str, ...] = described(
        "What is scored in each window: ridge and procrustes decode words, rsa compares dissimilarities, "
        "encoding predicts channels. The first is what the verdict goes by.",
        ("ridge", "rsa", "encoding"),
    )
    k: int = described("Of precision@k; fewer where there are fewer words.", 10, least=1)
    generalise_time: bool = described(
        "Also decode every window by the map that was fitted in every other, at the best layer, by the first "
        "method that decodes.",
        False,
    )
    n_nulls: int = described(
        "Draws in which isolated words are exchanged, or responses shifted in a circle against a text, 0 for "
        "none; the smallest p is 1 / (1 + n_nulls).",
        200,
        least=0,
        most=100_000,
    )
    hold_alpha: bool = described(
        "Keep ridge's penalty of the real data in draws that exchange isolated words: several times faster, "
        "a little in favour of the real data. It is chosen anew all the same by the paper protocol, where "
        "nobody has a word, and where folds fit scalings or axes (as of models that differ in width).",
        False,
    )
    n_flips: int = described(
        "Sign flips of people for clusters, which need MNE-Python and six people; 0 for none.",
        1000,
        least=0,
        most=100_000,
    )
    n_bootstraps: int = described(
        "Resamples of people, or of words where people are few.", 2000, least=100, most=1_000_000
    )
    confidence: float = described("Of the intervals.", 0.95, above=0.0, below=1.0)

    def __post_init__(self):
        keep_known(self, "methods", TIME_METHODS, what="method")
        decodes = {"ridge", "procrustes"} & set(self.methods)
        if self.generalise_time and not decodes:
            raise ValueError("generalise_time needs a method that decodes: add ridge or procrustes")
