"""The tokenizer of a GGUF file: byte-level BPE by its merges, or SentencePiece's BPE by its scores.

How text is cut before it is merged is named, not written, in the file (`tokenizer.ggml.pre`): the rules
below are those of the tokenizer.json that the models came with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from brainalign_jax.language.models.weights.gguf.header import read_header
from brainalign_jax.names import unknown

_NORMAL, _UNKNOWN, _CONTROL, _USERS, _UNUSED, _BYTE = range(1, 7)
_LONGEST_PIECE = 128  # characters, of SentencePiece's: each is tried in all pairs of parts
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class _Cut(NamedTuple):
    """pattern: what stays together, None for GPT-2's; digits: each alone; whole: a word that the
    vocabulary has is not merged from parts; nfc: characters are composed; bos: a first token by default."""

    pattern: str | None = None
    digits: bool = False
    whole: bool = False
    nfc: bool = False
    bos: bool = False


_CUTS = {
    "gpt-2": _Cut(),
    "smollm": _Cut(digits=True),
    "llama-bpe": _Cut(_LLAMA3, whole=True, bos=True),
    "qwen2": _Cut(_LLAMA3.replace("{1,3}", ""), nfc=True),
    "deepseek-r1-qwen": _Cut(_LLAMA3.replace("{1,3}", ""), nfc=True),
}
_CUTS |= {"llama3": _CUTS["llama-bpe"], "llama-v3": _CUTS["llama-bpe"]}


def gguf_tokenizer(path: Path) -> tuple[Tokenizer, dict[str, Any]]:
    """(the tokenizer of a GGUF file, what its tokenizer_config.json would say).

    Raises: ValueError, with the file, where there is none, or one of a kind that is not read.
    """
    fields = read_header(path).fields
    kind = fields.get("tokenizer.ggml.model")
    if kind not in ("gpt2", "llama"):
        said = unknown("tokenizer", str(kind)[:60], ("gpt2", "llama"))
        raise ValueError(f"{path}: {said}; give a file with one of them.")
    tokens = _strings(path, fields, "tokens")
    types = fields.get("tokenizer.ggml.token_type", [_NORMAL] * len(tokens))
    if not isinstance(types, list) or len(types) != len(tokens) or len(set(tokens)) != len(tokens):
        raise ValueError(
            f"{path}: tokenizer.ggml.tokens and token_type are not one vocabulary. Download it again."
        )
    cut = _Cut(bos=True)
    if kind == "llama":
        tokenizer = _by_scores(path, fields, tokens, types)
    else:
        name = fields.get("tokenizer.ggml.pre")
        if not isinstance(name, str) or name not in _CUTS:
            said = unknown("tokenizer.ggml.pre", str(name)[:60], sorted(_CUTS))
            raise ValueError(f"{path}: {said}; convert the model anew with a recent llama.cpp.")
        cut = _CUTS[name]
        tokenizer = _by_merges(path, fields, tokens, types, cut)
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t in _of_type(tokens, types, _CONTROL)]
    )
    tokenizer.add_tokens(
        [AddedToken(t, normalized=False) for t in _of_type(tokens, types, _USERS) if t.strip()]
    )
    settings: dict[str, Any] = {"tokenizer_class": f"GGUF {kind}"}
    settings["add_bos_token"] = bool(fields.get("tokenizer.ggml.add_bos_token", cut.bos))
    first = fields.get("tokenizer.ggml.bos_token_id", 1 if kind == "llama" else None)
    if isinstance(first, int) and 0 <= first < len(tokens):
        settings["bos_token"] = tokens[first]
    return tokenizer, settings


def _by_merges(path, fields, tokens, types, cut: _Cut) -> Tokenizer:
    merges = [tuple(merge.split(" ")) for merge in _strings(path, fields, "merges")]
    kept = (_NORMAL, _CONTROL, _USERS, _BYTE)
    vocabulary = {
        t: i for i, (t, kind) in enumerate(zip(tokens, types, strict=True)) if kind in kept
    }
    tokenizer = Tokenizer(_model(path, vocabulary, merges, ignore_merges=cut.whole))
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if cut.digits else []
    if cut.pattern is not None:
        steps.append(pre_tokenizers.Split(Regex(cut.pattern), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=cut.pattern is None))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    if cut.nfc:
        tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def _by_scores(path, fields, tokens, types) -> Tokenizer:
    scores = fields.get("tokenizer.ggml.scores")
    if not isinstance(scores, list) or len(scores) != len(tokens):
        raise ValueError(f"{path}: tokenizer.ggml.scores has no score a token. Download it again.")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    parts = []
    for token, kind, score in zip(tokens, types, scores, strict=True):
        if kind == _NORMAL and len(token) <= _LONGEST_PIECE:
            halves = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
            parts += [
                (score, pair) for pair in halves if pair[0] in vocabulary and pair[1] in vocabulary
            ]
    # The best piece first; of the ways to make it, the one with the longest first part.
    parts.sort(key=lambda part: (part[0], len(part[1][0]), len(part[1][1])), reverse=True)
    number = fields.get("tokenizer.ggml.unknown_token_id", 0)
    unknown_token = (
        tokens[number] if isinstance(number, int) and 0 <= number < len(tokens) else None
    )
    tokenizer = Tokenizer(
        _model(
            path,
            vocabulary,
            [pair for _, pair in parts],
            unk_token=unknown_token,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    spaces = [normalizers.Replace(" ", "▁")]
    if fields.get("tokenizer.ggml.add_space_prefix", True):
        spaces.insert(0, normalizers.Prepend("▁"))
    tokenizer.normalizer = normalizers.Sequence(spaces)
    return tokenizer


def _model(path: Path, vocabulary: dict[str, int], merges: list[tuple], **options) -> models.BPE:
    try:
        return models.BPE(vocabulary, merges, **options)
    except Exception as error:  # tokenizers raises Exception itself
        said = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path}: its merges are no tokenizer ({said}). Download it again."
        ) from error


def _strings(path: Path, fields: dict[str, Any], name: str) -> list[str]:
    values = fields.get(f"tokenizer.ggml.{name}")
    if not isinstance(values, list) or not values or not isinstance(values[0], str):
        raise ValueError(
            f"{path} has no tokenizer.ggml.{name}, so no tokenizer; give another file."
        )
    return values


def _of_type(tokens: list[str], types: list[int], kind: int) -> list[str]:
    return [token for token, token_kind in zip(tokens, types, strict=True) if token_kind == kind]
