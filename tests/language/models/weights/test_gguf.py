"""GGUF files against the same weights as a safetensors checkpoint, and what is wrong with them."""

import json
import struct

import numpy as np
import pytest
import small_tokenizers
from safetensors.numpy import load_file
from small_models import save_checkpoint
from small_tokenizers import ODD, TRICKY
from tokenizers import Tokenizer, processors

import brainalign_jax as ba
from brainalign_jax.language.models import fingerprint, load_model, locate, resolve
from brainalign_jax.language.models.checkpoint import read_architecture
from brainalign_jax.language.models.weights.gguf import config, header
from brainalign_jax.language.text.tokens import load_tokenizer

gguf = pytest.importorskip(
    "gguf", reason="GGUF files need gguf: pip install 'brainalign_jax[gguf]'"
)

SIZES = dict(hidden_size=32, intermediate_size=64, num_attention_heads=4, num_key_value_heads=2)
SIZES |= dict(
    num_hidden_layers=2, max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=True
)
WORDS = ["Alice", "isn't", "12345", "tired,", "of", "her", "sister's", "book."]
NAMES = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
NAMES |= {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj"}
NAMES |= {"attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj"}
NAMES |= {"ffn_down": "mlp.down_proj"}
KINDS = {
    "llama": (small_tokenizers.llama3, "llama-bpe"),
    "qwen2": (small_tokenizers.qwen, "qwen2"),
    "llama2": (small_tokenizers.llama2, None),
}


def turned_together(rows, n_heads):
    """Rows of a head's two halves in turn, as the converter of llama.cpp leaves them."""
    return np.concatenate(
        [
            np.stack([head[: len(head) // 2], head[len(head) // 2 :]], 1).reshape(head.shape)
            for head in np.split(rows, n_heads)
        ]
    )


def write_tokenizer(writer, folder, pre):
    state = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = state["model"]["vocab"]
    special = {token["content"] for token in state["added_tokens"]}
    tokens = sorted(vocabulary, key=vocabulary.get)
    writer.add_token_list(tokens)
    normal, control, byte = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL, gguf.TokenType.BYTE
    types = [control if t in special else byte if t.startswith("<0x") else normal for t in tokens]
    if pre is None:
        types[0] = gguf.TokenType.UNKNOWN
        writer.add_tokenizer_model("llama")
        writer.add_token_scores([-float(number) for number in range(len(tokens))])
        writer.add_bos_token_id(1)
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        merges = state["model"]["merges"]
        writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
        writer.add_bos_token_id(0)
        writer.add_add_bos_token(pre == "llama-bpe")
    writer.add_token_types(types)


def write_gguf(file, folder, kind, quantisation="F32", pre="llama-bpe", leave_out=(), more=()):
    """The checkpoint in the folder as a GGUF file; metadata and tensors as convert_hf_to_gguf.py."""
    fields = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    writer = gguf.GGUFWriter(file, kind)
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(fields["rope_theta"])
    write_tokenizer(writer, folder, pre)
    pairs = {"token_embd": "embed_tokens", "output_norm": "norm"}
    pairs |= {f"blk.{n}.{own}": f"layers.{n}.{name}" for n in (0, 1) for own, name in NAMES.items()}
    for own, name in pairs.items():
        for part in ("weight", "bias"):
            if f"{name}.{part}" not in tensors or f"{own}.{part}" in leave_out:
                continue
            values = np.ascontiguousarray(tensors[f"{name}.{part}"])
            if kind == "llama" and own.endswith(("attn_q", "attn_k")):
                values = turned_together(values, 4 if own.endswith("q") else 2)
            wanted = gguf.GGMLQuantizationType[quantisation if values.ndim == 2 else "F32"]
            data = gguf.quants.quantize(values, wanted)
            writer.add_tensor(f"{own}.{part}", data, raw_dtype=wanted)
    for name, values in dict(more).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.fixture
def twins(tmp_path):
    """twins(kind, quantisation) → (folder of a safetensors checkpoint, GGUF file of its weights)."""

    def make(kind, quantisation="F32", **options):
        tokenizer, pre = KINDS[kind]
        model = "llama" if kind == "llama2" else kind
        folder = tmp_path / "folder"
        folder.mkdir()
        tokenizer(folder)
        vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
        sizes = SIZES | dict(
            model_type=model, vocab_size=vocabulary, rope_theta=500.0, pad_token_id=None
        )
        save_checkpoint("llama", folder, bos_token_id=1 if kind == "llama2" else 0, **sizes)
        file = tmp_path / "model.gguf"
        return folder, write_gguf(file, folder, model, quantisation, pre, **options)

    return make


@pytest.mark.parametrize(
    "kind, quantisation, error",
    [
        ("llama", "F32", 1e-5),
        ("llama", "F16", 2e-3),
        ("llama", "Q8_0", 5e-2),
        ("qwen2", "F32", 1e-5),
    ],
)
def test_a_file_gives_what_its_checkpoint_gives(kind, quantisation, error, twins):
    folder, file = twins(kind, quantisation)
    stimulus = ba.Stimulus.from_words(WORDS, sentence=[0] * len(WORDS))
    expected = ba.embed(stimulus, str(folder), context="sentence")
    vectors = ba.embed(stimulus, str(file), context="sentence")
    np.testing.assert_allclose(
        vectors.values, expected.values, rtol=0, atol=error * np.abs(expected.values).max()
    )
    assert vectors.meta["family"] == kind and vectors.meta["n_params"] == expected.meta["n_params"]
    bits = [ba.surprisal(stimulus, str(path), unit="bits") for path in (folder, file)]
    np.testing.assert_allclose(*bits, rtol=0, atol=max(20 * error, 1e-4))


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_tokenizer_is_that_of_the_model(kind, twins):
    folder, file = twins(kind)
    expected, built = load_tokenizer(folder), load_tokenizer(file)
    assert built.prefix == expected.prefix and built.suffix == expected.suffix
    assert built.bos_id == expected.bos_id and built.unknown_id == expected.unknown_id
    for text in (WORDS, [*TRICKY, *ODD]):
        given, ids = (t.encode([text])[0].ids.tolist() for t in (expected, built))
        assert ids == given
    text = " ".join(TRICKY)
    plain = [t.backend.encode(text, add_special_tokens=False) for t in (expected, built)]
    assert plain[0].tokens == plain[1].tokens
    assert expected.backend.encode(text).ids[-9:] == plain[1].ids[-9:]
    assert isinstance(expected.backend.post_processor, processors.PostProcessor | None)


def test_a_folder_with_one_stands_for_the_file(twins, tmp_path, monkeypatch):
    folder, file = twins("qwen2")
    alone = tmp_path / "alone"
    alone.mkdir()
    file.rename(alone / "model.Q4_K_M.gguf")
    assert locate(str(alone)) == alone / "model.Q4_K_M.gguf"
    monkeypatch.chdir(alone)
    assert resolve("model.Q4_K_M.gguf").source == str(alone / "model.Q4_K_M.gguf")
    assert load_model("untrained:model.Q4_K_M.gguf").config == read_architecture(folder)
    (alone / "b.gguf").write_bytes(b"")
    with pytest.raises(ValueError, match=r"2 GGUF files \(b.gguf, model.Q4_K_M.gguf\); give one"):
        load_model(str(alone))
    (alone / "b.gguf").rename(folder / "b.gguf")
    assert locate(str(folder)) == folder
    with pytest.raises(FileNotFoundError, match="no file .*absent.gguf"):
        load_model("absent.gguf")


def test_a_cache_tells_files_apart(twins, tmp_path):
    _, file = twins("llama")
    stimulus = ba.Stimulus.from_words(WORDS)
    options = dict(context="word", cache_dir=tmp_path / "cache")
    first = ba.embed(stimulus, str(file), **options)
    changed = bytearray(file.read_bytes())
    changed[-2] ^= 1
    before = fingerprint(file)
    file.write_bytes(changed)
    assert fingerprint(file) != before
    second = ba.embed(stimulus, str(file), **options)
    assert first.meta["weights"] == before != second.meta["weights"]
    assert len(list((tmp_path / "cache").glob("*.vectors"))) == 2


def test_tensors_are_all_there_and_no_more(twins, tmp_path):
    folder, file = twins(
        "llama", leave_out=("blk.1.ffn_up.weight",), more={"odd": np.ones(3, "f4")}
    )
    with pytest.raises(ValueError) as error:
        load_model(str(file))
    message = str(error.value)
    assert "llama model in its metadata: no tensor for: layers.1.mlp.up_proj.weight" in message
    assert "no place for: odd" in message and "\n" not in message


def test_rotary_factors_are_those_of_llama_31(twins, tmp_path):
    """The factors that llama.cpp writes: 1 for fast turns, `factor` for slow ones, between by frequency."""
    turns = 500.0 ** -(np.arange(0, 8, 2) / 8)
    length = 2 * np.pi / turns
    smooth = np.clip((8192 / length - 1) / 3, 0, 1)
    factors = (1 / ((1 - smooth) / 8 + smooth)).astype("f4")
    folder, file = twins("llama", more={"rope_freqs.weight": factors})
    base, scaled = read_architecture(folder), read_architecture(file)
    np.testing.assert_allclose(scaled.rotary, np.array(base.rotary) / factors, rtol=1e-4)
    odd = np.array([1, 2, 1, 3], "f4")
    write_gguf(tmp_path / "odd.gguf", folder, "llama", more={"rope_freqs.weight": odd})
    with pytest.raises(ValueError, match="not those of Llama 3.1"):
        load_model(str(tmp_path / "odd.gguf"))


def one_line(call):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_damage_is_told_in_a_line(twins, tmp_path):
    _, file = twins("llama")
    whole = file.read_bytes()
    damaged = tmp_path / "damaged.gguf"

    def said(content):
        damaged.write_bytes(content)
        return one_line(lambda: (load_model(str(damaged)), load_tokenizer(damaged)))

    assert "no GGUF file" in said(b"") and "no GGUF file" in said(b"PK" + whole[2:])
    assert "version 1" in said(whole[:4] + struct.pack("<I", 1) + whole[8:])
    assert "big-endian" in said(whole[:4] + struct.pack(">I", 3) + whole[8:])
    assert "claims 1152921504606846976 tensors" in said(
        whole[:8] + struct.pack("<Q", 1 << 60) + whole[16:]
    )
    for stop in (16, 30, 100, 2000, 9000, len(whole) - 100):
        assert "truncated or corrupt" in said(whole[:stop])
    rng = np.random.default_rng(0)
    for _ in range(60):
        content = bytearray(whole[: len(whole)])
        content[int(rng.integers(0, 12_000))] ^= 1 << int(rng.integers(8))
        damaged.write_bytes(content)
        try:
            load_model(str(damaged))
            load_tokenizer(damaged)
        except ValueError as error:
            assert "\n" not in str(error)


def test_other_kinds_are_told(twins, tmp_path, monkeypatch):
    folder, file = twins("llama")
    known = header.read_header(file)

    def with_fields(**fields):
        changed = known._replace(fields=known.fields | fields)
        for module in (config, header):
            monkeypatch.setattr(module, "read_header", lambda path: changed)
        monkeypatch.setattr(
            "brainalign_jax.language.models.weights.gguf.tokenizer.read_header",
            lambda path: changed,
        )
        return one_line(lambda: (read_architecture(file), load_tokenizer(file)))

    assert "unknown architecture 'gemma3'; known: llama, qwen2" in with_fields(
        **{"general.architecture": "gemma3"}
    )
    assert "expert_count=8" in with_fields(**{"llama.expert_count": 8})
    assert "scaled as 'yarn'" in with_fields(**{"llama.rope.scaling.type": "yarn"})
    scaling = "llama.rope.scaling.factor"
    assert "rope.scaling.factor=4.0 and does not say how" in with_fields(**{scaling: 4.0})
    assert "rope.scale_linear=2.0" in with_fields(**{"llama.rope.scale_linear": 2.0})
    linear = {"llama.rope.scaling.type": "linear", scaling: 0.0}
    assert "factor is 0.0, not a number above 0" in with_fields(**linear)
    assert "head_count is [4, 2]" in with_fields(**{"llama.attention.head_count": [4, 2]})
    assert "no model has more than" in with_fields(**{"llama.block_count": 10**6})
    assert "unknown tokenizer 'bert'" in with_fields(**{"tokenizer.ggml.model": "bert"})
    assert "tokenizer.ggml.pre 'odd'" in with_fields(**{"tokenizer.ggml.pre": "odd"})
    assert "tokenizer.ggml.pre \"['odd']\"" in with_fields(**{"tokenizer.ggml.pre": ["odd"]})
    assert "not one vocabulary" in with_fields(**{"tokenizer.ggml.token_type": [1]})


def test_a_number_of_parts_that_is_no_number_is_told(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "parts.gguf", "llama")
    writer.add_string("split.count", "two")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    said = one_line(lambda: header.read_header(tmp_path / "parts.gguf"))
    assert "split.count is 'two', no whole number" in said


def test_a_quantisation_that_gguf_lacks_is_told(twins, monkeypatch):
    _, file = twins("llama", "Q8_0")
    monkeypatch.setattr(gguf.quants, "_type_traits", {})
    assert "quantised as Q8_0" in one_line(lambda: load_model(str(file)))


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ImportError, match=r"pip install 'brainalign_jax\[gguf\]'"):
        load_model(str(tmp_path / "model.gguf"))
