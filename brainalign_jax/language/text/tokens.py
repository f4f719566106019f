"""Words and sub-tokens: which sub-tokens are which word's, in text a model reads as running text.

The words of a text are joined as their language or script joins them (`writing`: by single spaces, or by
nothing) and tokenised as one string; a sub-token belongs to the word whose characters its offsets cover.
Neither `is_split_into_words` (wrong ids for byte-level BPE in transformers 5) nor `word_ids()` (splits
"isn't") is used. The rules:

- the space before a word is that word's, so a sub-token that is only that space ("Ġ") is too;
- a word is pooled over the sub-tokens that overlap its core, from its first to its last letter or
  digit: "dog." is pooled over "dog" only, "isn't" over "isn", "'" and "t". A sub-token that spans
  core and punctuation counts. A word without a core ("--") is pooled over all its sub-tokens;
- the byte tokens of one character share its offsets and count alike;
- between words with nothing between them, a sub-token that would be of both is none: the text is cut there,
  and what follows is tokenised as the middle of a text.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from brainalign_jax.language.models.weights.gguf.config import config_fields
from brainalign_jax.language.models.weights.gguf.header import is_gguf
from brainalign_jax.language.models.weights.gguf.tokenizer import gguf_tokenizer
from brainalign_jax.language.models.weights.json_files import read_json
from brainalign_jax.language.writing import RunningText, running_text
from brainalign_jax.names import check_known
from brainalign_jax.stimulus import core_span

BOS = ("auto", "always", "never")
_BOTH_WAYS = ("bert", "distilbert", "roberta")  # they never get a first token beside their own
_LLAMAS = ("llama", "mistral")
_LINE_END = "\n"
_SEPARATOR = "<|endoftext|>"  # between texts in the training of GPT-2, Pythia, Qwen and SmolLM


class EncodedText(NamedTuple):
    """One text. ids: [n] sub-token ids without special tokens; pooled: for every word the indices
    into ids that make its vector; bounds: [words + 1], word w with its punctuation and the space
    before it is ids[bounds[w]:bounds[w + 1]]; pretokens: [n] which of the tokenizer's own words a sub-token
    is of, -1 for none."""

    ids: np.ndarray
    pooled: tuple[tuple[int, ...], ...]
    bounds: np.ndarray
    pretokens: np.ndarray


class _SubTokens(NamedTuple):
    """Of a text: ids, the characters that each covers, its form, and its pretoken or None."""

    ids: list[int]
    offsets: list[tuple[int, int]]
    tokens: list[str]
    word_ids: list[int | None]


@dataclass(frozen=True, eq=False)
class WordTokenizer:
    """A fast tokenizer and the special tokens its model expects around a text.

    prefix, suffix: ids before and after the text ([CLS] and [SEP]; "</s>" for OPT; none for GPT-2).
    unknown_id: the id that stands for anything outside the vocabulary; None for byte-level BPE.
    bos_id: the id that a text of a causal model began with in training, where `prefix` is empty:
        "<|endoftext|>" if the vocabulary has it, else the bos_token of the files; None without either.
    """

    backend: Tokenizer
    name: str
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    pad_id: int
    unknown_id: int | None
    bos_id: int | None = None

    def with_bos(self, bos: str, *, causal: bool) -> WordTokenizer:
        """The tokenizer with the model's first token (BOS) before each text, as `bos` asks.

        The first token of a text draws the attention of a causal model: from the middle layers on its
        norm is many times that of the others (Xiao et al. 2024, "attention sinks"). Where that is a
        word, the geometry of all words is that of one question: is this the first word?

        bos: "auto" puts the first token before the texts of a causal model whose tokenizer puts nothing
            there; "always" refuses a model that names none; "never" leaves the texts as the tokenizer's
            files make them. Nothing changes for a model of both directions, which has [CLS] or <s>.

        Raises ValueError for bos="always" without a first token. Warns for bos="auto" without one.
        """
        check_known("bos=", bos, BOS)
        if not causal or self.prefix or bos == "never":
            return self
        if self.bos_id is not None:
            return dataclasses.replace(self, prefix=(self.bos_id,))
        missing = (
            f"the files of the tokenizer {self.name} name no first token (bos_token in "
            "tokenizer_config.json, bos_token_id in config.json)"
        )
        if bos == "always":
            raise ValueError(f"{missing}: name it there, or give bos='never'")
        warnings.warn(
            f"{missing}: the first word of each text will take its place, with a vector unlike the others'",
            stacklevel=3,
        )
        return self

    def first_token(self) -> str | None:
        """What stands before each text, as the vocabulary writes it; None where nothing does."""
        return self.backend.id_to_token(self.prefix[0]) if self.prefix else None

    def encode(
        self,
        texts: Sequence[Sequence[str]],
        *,
        blank: bool = False,
        language: str | None = None,
    ) -> list[EncodedText]:
        """Tokenise each text, given as its words; whitespace inside a word becomes one space.

        blank: a space before the first word, too, as where it follows another. language: by whose rule the
        words are joined, see `writing.gap`; None goes by their script.
        """
        spaced = [[" ".join(word.split()) for word in words] for words in texts]
        written = [running_text(words, blank=blank, language=language) for words in spaced]
        encodings = self.backend.encode_batch(
            [text for text, _ in written], add_special_tokens=False
        )
        encoded = []
        for words, running, encoding in zip(spaced, written, encodings, strict=True):
            sub_tokens = _SubTokens(
                encoding.ids, encoding.offsets, encoding.tokens, encoding.word_ids
            )
            encoded.append(_assign(words, running, self._uncrossed(words, running, sub_tokens)))
        return encoded

    def _uncrossed(
        self, words: Sequence[str], running: RunningText, sub_tokens: _SubTokens
    ) -> _SubTokens:
        """The sub-tokens with the text cut where one would be of two words that nothing stands between."""
        text, starts = running
        ends = [start + len(word) for start, word in zip(starts, words, strict=True)]
        tight = {after for end, after in zip(ends, starts[1:], strict=False) if end == after}
        if not tight:
            return sub_tokens
        cuts: set[int] = set()
        # A cut can move the others' sub-tokens; there are no more rounds than words.
        while crossed := tight & {
            place for begin, end in sub_tokens.offsets for place in range(begin + 1, end)
        }:
            cuts |= crossed
            places = [0, *sorted(cuts), len(text)]
            pieces = [self._piece(text, *pair) for pair in zip(places, places[1:], strict=False)]
            sub_tokens = _joined(pieces)
            tight -= cuts
        return sub_tokens

    def _piece(self, text: str, begin: int, end: int) -> _SubTokens:
        """The sub-tokens of a part of a text, as they are in its middle."""
        # A line's end before it keeps a tokenizer from putting its own blank there; its sub-tokens go.
        lead = _LINE_END * (begin > 0)
        encoding = self.backend.encode(lead + text[begin:end], add_special_tokens=False)
        kept = [
            place
            for place, (first, last) in enumerate(encoding.offsets)
            if last > len(lead) or not lead
        ]
        shift = begin - len(lead)
        return _SubTokens(
            [encoding.ids[place] for place in kept],
            [
                tuple(max(edge, len(lead)) + shift for edge in encoding.offsets[place])
                for place in kept
            ],
            [encoding.tokens[place] for place in kept],
            [encoding.word_ids[place] for place in kept],
        )

    def budget(self, max_length: int) -> int:
        """How many sub-tokens of text fit into max_length beside the special tokens."""
        return max_length - len(self.prefix) - len(self.suffix)


def _joined(pieces: Sequence[_SubTokens]) -> _SubTokens:
    """The sub-tokens of pieces one after the other; pretokens of two pieces are two."""
    whole = _SubTokens([], [], [], [])
    for piece in pieces:
        known = [place for place in whole.word_ids if place is not None]
        shift = 1 + max(known, default=-1)
        whole.ids.extend(piece.ids)
        whole.offsets.extend(piece.offsets)
        whole.tokens.extend(piece.tokens)
        whole.word_ids.extend(None if place is None else place + shift for place in piece.word_ids)
    return whole


def _assign(words: Sequence[str], running: RunningText, encoding: _SubTokens) -> EncodedText:
    text, starts = running
    # The word each character belongs to, and the same for the characters of the cores only.
    owner = [0] * len(text)
    core = [-1] * len(text)
    end = 0
    for index, (word, start) in enumerate(zip(words, starts, strict=True)):
        space = end
        owner[space : start + len(word)] = [index] * (start + len(word) - space)
        first, stop = core_span(word)
        if first == stop:
            first, stop = 0, len(word)
        begin = space if first == 0 else start + first
        core[begin : start + stop] = [index] * (start + stop - begin)
        end = start + len(word)

    pooled: list[list[int]] = [[] for _ in words]
    token_word = np.zeros(len(encoding.ids), np.int64)
    for token, (begin, end) in enumerate(encoding.offsets):
        trimmed = begin
        while trimmed < end and text[trimmed] == " ":
            trimmed += 1
        # Only a space: keep it, the space is the following word's.
        begin = trimmed if trimmed < end else begin
        # Zero width, as some normalisers leave: the character that follows.
        begin = min(begin, len(text) - 1)
        token_word[token] = owner[begin]
        for word in set(core[begin : max(end, begin + 1)]):
            if word >= 0:
                pooled[word].append(token)
    # Offsets are in order but for exotic normalisers; the bounds must be.
    token_word = np.maximum.accumulate(token_word)
    bounds = np.searchsorted(token_word, np.arange(len(words) + 1))
    _refuse_shared(words, encoding, pooled, bounds.tolist())
    pretokens = [-1 if place is None else place for place in encoding.word_ids]
    return EncodedText(
        np.asarray(encoding.ids, np.int32),
        tuple(tuple(tokens) for tokens in pooled),
        bounds,
        np.asarray(pretokens, np.int64),
    )


def _refuse_shared(words, encoding, pooled, bounds) -> None:
    for index, tokens in enumerate(pooled):
        if tokens and not bounds[index] <= tokens[0] <= tokens[-1] < bounds[index + 1]:
            outside = tokens[0] if tokens[0] < bounds[index] else tokens[-1]
            raise ValueError(
                f"word {index} of a text ({words[index][:40]!r}) shares the sub-token "
                f"{encoding.tokens[outside]!r} with a word beside it, so that neither has a vector "
                "of its own; use a model whose tokenizer does not merge across spaces"
            )


def load_tokenizer(folder: str | Path, *, family: str | None = None) -> WordTokenizer:
    """The tokenizer of a checkpoint folder, from its tokenizer.json or its vocabulary files, or of a GGUF
    file.

    family: as `ModelSpec.family`; None takes the model_type of config.json.

    tokenizer.json is read as it is (transformers 5 rebuilds it by class and silently lower-cases a
    cased BERT whose tokenizer_config.json does not say so). Without it transformers converts
    vocab.txt (BERT) or vocab.json with merges.txt (GPT-2, OPT). OPT always gets its "</s>" in front
    and BERT its [CLS] and [SEP], also where the files forget to say so; causal models get their first
    token as `add_bos_token` of tokenizer_config.json says (see also `WordTokenizer.with_bos`).

    Raises FileNotFoundError where there are no such files, ValueError where they do not give a
    tokenizer or lack the special tokens of the model.
    """
    folder = Path(folder)
    config = config_fields(folder) if is_gguf(folder) else _read_json(folder / "config.json")
    settings = _read_json(folder / "tokenizer_config.json")
    family = family or config.get("model_type")
    file = folder / "tokenizer.json"
    if is_gguf(folder):
        backend, settings = gguf_tokenizer(folder)
        name = settings["tokenizer_class"]
    elif file.is_file():
        try:
            backend = Tokenizer.from_file(str(file))
        except Exception as error:
            raise ValueError(f"{file} is not a readable tokenizer: {error}") from error
        name = settings.get("tokenizer_class") or type(backend.model).__name__
        _refuse_shared_ids(file, backend)
    else:
        backend, name = _convert(folder, None if "tokenizer_class" in settings else family)
    backend.no_truncation()
    backend.no_padding()

    prefix, suffix = _special_tokens(backend)
    if family == "opt" and not prefix:
        bos = config.get("bos_token_id", 2)
        if backend.id_to_token(bos) is None:
            raise ValueError(f"{folder}: OPT's first token, id {bos}, is not in the vocabulary")
        prefix = (bos,)
    bos_id = None
    if family not in _BOTH_WAYS:
        named = settings.get("bos_token")
        if named is None:
            named = _read_json(folder / "special_tokens_map.json").get("bos_token")
        named = named.get("content") if isinstance(named, dict) else named
        bos_id = _bos_id(family, backend, named, config)
        prefix = _chosen_prefix(folder, family, prefix, bos_id, named, settings)
        # What stood between texts in training; a chat model's bos_token may be a mark of turns.
        separator = backend.token_to_id(_SEPARATOR)
        bos_id = bos_id if separator is None else separator
    if family in ("bert", "distilbert"):
        if not prefix and not suffix:
            ids = backend.token_to_id("[CLS]"), backend.token_to_id("[SEP]")
            if None in ids:
                raise ValueError(f"{folder}: the vocabulary lacks [CLS] or [SEP], which BERT needs")
            prefix, suffix = ids[:1], ids[1:]
        _warn_of_lost_case(folder, backend)
    unknown = getattr(backend.model, "unk_token", None)
    byte_level = "ByteLevel" in repr(backend.pre_tokenizer)
    return WordTokenizer(
        backend=backend,
        name=name,
        prefix=prefix,
        suffix=suffix,
        pad_id=max(config.get("pad_token_id") or 0, 0),
        unknown_id=None if unknown is None or byte_level else backend.token_to_id(unknown),
        bos_id=bos_id,
    )


def _refuse_shared_ids(file: Path, backend: Tokenizer) -> None:
    """Special tokens that the vocabulary lacks get ids of words: the model would read those words."""
    for number, token in backend.get_added_tokens_decoder().items():
        word = backend.model.id_to_token(number)
        if word not in (None, token.content):
            raise ValueError(
                f"{file}: {token.content!r} and {word!r} share the id {number}, since the vocabulary lacks "
                "the special tokens: add them to it under their ids, or take the file of the checkpoint's "
                "repository"
            )


def _bos_id(family: str | None, backend: Tokenizer, named: str | None, config: dict) -> int | None:
    """The id of the model's first token; None where the files name none that the vocabulary has."""
    number = config.get("bos_token_id", 1 if family in _LLAMAS else None)
    if named is not None:
        number = backend.token_to_id(named)
    known = isinstance(number, int) and number >= 0 and backend.id_to_token(number) is not None
    return number if known else None


def _chosen_prefix(
    folder: Path, family: str | None, prefix, bos_id, named, settings
) -> tuple[int, ...]:
    # The class of Llama's tokenizer sets what stands in front of a text, whatever the file says.
    sentencepiece = str(settings.get("tokenizer_class")).startswith("LlamaTokenizer")
    wanted = settings.get("add_bos_token", True if sentencepiece and family in _LLAMAS else None)
    if wanted is None or bool(wanted) == bool(prefix):
        return prefix
    if not wanted:
        return () if family in _LLAMAS else prefix
    if bos_id is None:
        lacking = (
            "no file names the bos_token" if named is None else f"the vocabulary lacks {named!r}"
        )
        raise ValueError(f"{folder}: add_bos_token asks for a first token, but {lacking}")
    return (bos_id,)


def tokenizer_files(folder: str | Path) -> list[Path]:
    """The files of a checkpoint folder that decide how text is tokenised, in order of name."""
    patterns = "*token*.json", "vocab.*", "merges.txt", "*.model"
    paths = {path for pattern in patterns for path in Path(folder).glob(pattern)}
    return sorted(path for path in paths if path.is_file())


def _read_json(path: Path) -> dict:
    return read_json(path) if path.is_file() else {}


def _convert(folder: Path, family: str | None) -> tuple[Tokenizer, str]:
    if not (folder / "vocab.txt").is_file() and not (
        (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    ):
        raise FileNotFoundError(
            f"{folder} has no tokenizer: it needs tokenizer.json, or vocab.txt, or vocab.json and "
            "merges.txt; copy them from the checkpoint's repository"
        )
    import transformers

    # Old checkpoints (google/bert_uncased_L-2_H-128_A-2) name neither a class nor a model_type.
    by_family = {
        **dict.fromkeys(("bert", "distilbert"), "BertTokenizerFast"),
        **dict.fromkeys(("gpt2", "gpt_neo", "opt"), "GPT2TokenizerFast"),
        "roberta": "RobertaTokenizerFast",
    }
    loader = getattr(transformers, by_family.get(family, "AutoTokenizer"))
    try:
        tokenizer = loader.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        if "auto_map" in _read_json(folder / "tokenizer_config.json"):
            raise ValueError(
                f"{folder}: its tokenizer is code of its own (auto_map in tokenizer_config.json), "
                "which is never run; give a checkpoint that has a tokenizer.json"
            ) from error
        raise ValueError(
            f"{folder}: transformers cannot build a tokenizer from its vocabulary files ({error}); "
            "check that config.json names the model_type"
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(f"{folder}: only a slow tokenizer; save it once with a tokenizer.json")
    return tokenizer.backend_tokenizer, type(tokenizer).__name__


def _special_tokens(backend: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    encoding = backend.encode("a")
    special = encoding.special_tokens_mask
    text = [index for index, flag in enumerate(special) if not flag]
    if not text:
        raise ValueError("the tokenizer gives no token for the text 'a'; its vocabulary is broken")
    return tuple(encoding.ids[: text[0]]), tuple(encoding.ids[text[-1] + 1 :])


def _warn_of_lost_case(folder: Path, backend: Tokenizer) -> None:
    normalizer = backend.normalizer
    if normalizer is None or normalizer.normalize_str("A") != "a":
        return
    plain = [token for token in backend.get_vocab() if not token.startswith("[")]
    cased = sum(token != token.lower() for token in plain)
    if cased > 0.02 * len(plain):
        warnings.warn(
            f"{folder}: the tokenizer lower-cases, but {cased} of {len(plain)} vocabulary entries "
            'are cased; set "do_lower_case": false in tokenizer_config.json if the model is cased',
            stacklevel=4,
        )
