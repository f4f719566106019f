"""What can be said of a word without knowing what it means: place, rate, length, frequency."""

from collections.abc import Mapping

import numpy as np

from brainalign_jax.names import check_known
from brainalign_jax.stimulus import Stimulus, clean_word

# Group -> its features, as `token_features` names them.
GROUPS = {
    "position": ("position_in_text", "position_in_run", "position_in_sentence"),
    "rate": ("words_per_second",),
    "length": ("letters",),
    "frequency": ("log_frequency",),
    "sentence_length": ("words_in_sentence",),
}
RATE_WINDOW = 4.0  # seconds around a word's onset
UNTIMED_NOTE = (
    "these are isolated words without times: the order of the rows is no order of presentation, so "
    "that they have neither position nor rate nor sentence"
)


_PER = 1e9  # frequencies are counts in so many words


def language_frequencies(stimulus: Stimulus) -> dict[str, float]:
    """How often each word is used in its language: word in lower case -> times in a billion words.

    Raises: ValueError for words whose language is not known, or of which there is no list; ImportError that
    names the extra to install.
    Reference: Speer 2022, rspeer/wordfreq.
    """
    language = stimulus.known_language()
    if language is None:
        raise ValueError(
            "the language of the words is not known, and their script is that of several: give language= "
            "(--language), as en"
        )
    try:
        import wordfreq
    except ImportError as error:
        raise ImportError(
            "frequencies by language need wordfreq: pip install 'brainalign_jax[languages]'"
        ) from error
    check_known("language of frequencies", language, wordfreq.available_languages())
    words = {clean_word(word).lower() for word in stimulus.words} - {""}
    return {word: _PER * wordfreq.word_frequency(word, language) for word in sorted(words)}


def is_text(stimulus: Stimulus) -> bool:
    """Whether the words were presented one after another: they have times, or sentences of words."""
    sentence = stimulus.sentence
    several = sentence is not None and len(np.unique(sentence)) < len(stimulus)
    return stimulus.onsets is not None or several


def is_isolated(stimulus: Stimulus) -> bool:
    """Whether nothing is known of the words' order: neither a text nor runs, as passages are."""
    return not is_text(stimulus) and stimulus.run is None


def token_features(
    stimulus: Stimulus,
    *,
    frequencies: Mapping[str, float] | None = None,
    rate_window: float = RATE_WINDOW,
) -> dict[str, np.ndarray]:
    """Features of the word tokens, name -> [N] float64; only those that the stimulus has.

    position_in_text: 0 for the first word to 1 for the last; position_in_run: the same within a run,
        where there are several, also of items without times, as the sentences of a passage are;
        position_in_sentence: words before it in its sentence.
    words_in_sentence: length of its sentence, or of an item of several words, in words.
    words_per_second: onsets of the run within `rate_window` / 2 seconds of the word's own, itself
        included, by the seconds of that window which lie in the run.
    letters: letters and digits of the cleaned word.
    log_frequency: log(1 + count) of the cleaned word in the stimulus, whatever its case; with
        `frequencies`, a table of words in lower case, log(1 + number there), 0 for words it lacks.

    Raises: ValueError for a rate_window that is not positive.
    """
    if not rate_window > 0:
        raise ValueError(f"rate_window is {rate_window}; give a positive number of seconds")
    n = len(stimulus)
    cores = [clean_word(word).lower() for word in stimulus.words]
    features = {"letters": np.array([sum(map(str.isalnum, core)) for core in cores], np.float64)}
    if frequencies is None:
        counts: dict[str, int] = {}
        for core in cores:
            counts[core] = counts.get(core, 0) + 1
        frequencies = counts
    features["log_frequency"] = np.log1p([float(frequencies.get(core, 0)) for core in cores])
    n_words = np.array([len(core.split()) for core in cores], np.float64)
    if n_words.max(initial=0) > 1:
        features["words_in_sentence"] = n_words
    run = np.zeros(n, np.int64) if stimulus.run is None else stimulus.run
    if len(np.unique(run)) > 1:
        within, size = _places(run[:, None])
        features["position_in_run"] = within / np.maximum(size - 1, 1)
    if not is_text(stimulus):
        return features
    features["position_in_text"] = np.arange(n) / max(n - 1, 1)
    if stimulus.sentence is not None:
        within, size = _places(np.stack([run, stimulus.sentence], axis=1))
        features["position_in_sentence"], features["words_in_sentence"] = within, size
    if stimulus.onsets is not None:
        features["words_per_second"] = _rate(stimulus.onsets, run, rate_window)
    return features


def _places(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows of the same labels [N, K] before each row, rows of them in all), both [N] float64."""
    _, group, counts = np.unique(labels, axis=0, return_inverse=True, return_counts=True)
    group = group.ravel()
    order = np.argsort(group, kind="stable")
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    within = np.empty(len(group))
    within[order] = np.arange(len(group)) - first[group[order]]
    return within, counts[group].astype(np.float64)


def _rate(onsets: np.ndarray, run: np.ndarray, window: float) -> np.ndarray:
    """Words a second [N] in the window around each word, within its run."""
    rate = np.empty(len(onsets))
    for label in np.unique(run):
        rows = np.flatnonzero(run == label)
        times = onsets[rows]
        # From the first onset to the last: outside of them nothing is known to be silent.
        low = np.maximum(times - window / 2, times[0])
        high = np.minimum(times + window / 2, times[-1])
        counts = np.searchsorted(times, high, "right") - np.searchsorted(times, low, "left")
        rate[rows] = counts / np.maximum(high - low, 1e-9) if times[-1] > times[0] else 0.0
    return rate
