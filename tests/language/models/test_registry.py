"""Names of models; the parameter counts are recomputed from the sizes the papers publish."""

import os

import pytest
from flax import nnx
from transformers import AutoConfig, BertConfig, GPT2Config, OPTConfig

from brainalign_jax.language.models import GPT2, OPT, Bert, list_models, resolve
from brainalign_jax.language.models.families import bert, gpt2, opt
from brainalign_jax.language.models.families.table import FAMILIES


def bert_model(layers, width, heads):
    config = BertConfig(
        vocab_size=30522,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        max_position_embeddings=512,
        type_vocab_size=2,
    )
    return Bert, bert.architecture(config)


def gpt2_model(layers, width, heads):
    config = GPT2Config(
        vocab_size=50257, n_positions=1024, n_embd=width, n_layer=layers, n_head=heads
    )
    return GPT2, gpt2.architecture(config)


def opt_model(layers, width, heads, **options):
    config = OPTConfig(
        vocab_size=50272,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        ffn_dim=4 * width,
        max_position_embeddings=2048,
        **options,
    )
    return OPT, opt.architecture(config)


def model(kind, layers, width, heads, **options):
    names = dict(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
    )
    if kind == "distilbert":
        names = dict(dim=width, n_layers=layers, n_heads=heads, hidden_dim=4 * width)
    if kind == "gpt_neo":
        names = dict(hidden_size=width, num_layers=layers, num_heads=heads)
        options["attention_types"] = [[["global", "local"], layers // 2]]
    config = AutoConfig.for_model(kind, **(names | options))
    module, model_class = FAMILIES[kind]
    return model_class, module.architecture(config)


def roberta(*sizes):
    options = dict(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1)
    return model("roberta", *sizes, **options)


def pythia(layers, width, heads, vocabulary=50304):
    return model("gpt_neox", layers, width, heads, vocab_size=vocabulary)


def llama(kind, layers, width, heads, shared, inner, vocabulary, **options):
    sizes = dict(num_key_value_heads=shared, intermediate_size=inner, vocab_size=vocabulary)
    return model(kind, layers, width, heads, **sizes, **options)


ARCHITECTURES = {
    "bert-tiny": bert_model(2, 128, 2),
    "bert-mini": bert_model(4, 256, 4),
    "bert-small": bert_model(4, 512, 8),
    "bert-medium": bert_model(8, 512, 8),
    "bert-base": bert_model(12, 768, 12),
    "bert-large": bert_model(24, 1024, 16),
    "gpt2": gpt2_model(12, 768, 12),
    "gpt2-medium": gpt2_model(24, 1024, 16),
    "gpt2-large": gpt2_model(36, 1280, 20),
    "gpt2-xl": gpt2_model(48, 1600, 25),
    "opt-125m": opt_model(12, 768, 12),
    "opt-350m": opt_model(24, 1024, 16, word_embed_proj_dim=512, do_layer_norm_before=False),
    "opt-1.3b": opt_model(24, 2048, 32),
    "opt-2.7b": opt_model(32, 2560, 32),
    "opt-6.7b": opt_model(32, 4096, 32),
    "opt-13b": opt_model(40, 5120, 40),
    "opt-30b": opt_model(48, 7168, 56),
    "roberta-base": roberta(12, 768, 12),
    "roberta-large": roberta(24, 1024, 16),
    "distilbert": model("distilbert", 6, 768, 12),
    "gpt-neo-125m": model("gpt_neo", 12, 768, 12),
    "gpt-neo-1.3b": model("gpt_neo", 24, 2048, 16),
    "gpt-neo-2.7b": model("gpt_neo", 32, 2560, 20),
    "pythia-70m": pythia(6, 512, 8),
    "pythia-160m": pythia(12, 768, 12),
    "pythia-410m": pythia(24, 1024, 16),
    "pythia-1b": pythia(16, 2048, 8),
    "pythia-1.4b": pythia(24, 2048, 16),
    "pythia-2.8b": pythia(32, 2560, 32),
    "pythia-6.9b": pythia(32, 4096, 32, 50432),
    "pythia-12b": pythia(36, 5120, 40, 50688),
    "llama-2-7b": llama("llama", 32, 4096, 32, 32, 11008, 32000),
    "llama-3.1-8b": llama("llama", 32, 4096, 32, 8, 14336, 128256),
    "llama-3.2-1b": llama("llama", 16, 2048, 32, 8, 8192, 128256),
    "llama-3.2-3b": llama("llama", 28, 3072, 24, 8, 8192, 128256),
    "mistral-7b": llama("mistral", 32, 4096, 32, 8, 14336, 32000),
    "qwen2.5-0.5b": llama("qwen2", 24, 896, 14, 2, 4864, 151936),
    "qwen2.5-1.5b": llama("qwen2", 28, 1536, 12, 2, 8960, 151936),
    "qwen2.5-7b": llama("qwen2", 28, 3584, 28, 4, 18944, 152064),
    "qwen3-0.6b": llama("qwen3", 28, 1024, 16, 8, 3072, 151936, head_dim=128),
    "qwen3-1.7b": llama("qwen3", 28, 2048, 16, 8, 6144, 151936, head_dim=128),
    "qwen3-8b": llama("qwen3", 36, 4096, 32, 8, 12288, 151936, head_dim=128),
}


def test_every_known_model_is_checked_here():
    assert [spec.name for spec in list_models()] == list(ARCHITECTURES)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_parameter_counts(name):
    model_class, config = ARCHITECTURES[name]
    model = nnx.eval_shape(lambda: model_class(config, rngs=nnx.Rngs(0)))
    spec = resolve(name)
    assert (spec.n_params, spec.family) == (model.n_params, config.family)


def test_names_hub_ids_and_old_ids_are_one_model():
    for spec in list_models():
        assert spec.kind == "checkpoint"
        by_id = resolve(spec.source)
        assert by_id.name == spec.source
        assert (by_id.source, by_id.family, by_id.n_params) == (
            spec.source,
            spec.family,
            spec.n_params,
        )
    assert resolve("bert-base-uncased").source == "google-bert/bert-base-uncased"
    assert resolve("bert-tiny").source == "google/bert_uncased_L-2_H-128_A-2"


def test_other_hub_ids_and_folders_have_no_family_yet(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("someone/some-bert", "./missing", "/a/b/c", "~/models/x", str(tmp_path), "mine"):
        spec = resolve(name)
        source = name if name == "someone/some-bert" else os.path.abspath(os.path.expanduser(name))
        assert (spec.name, spec.source, spec.kind) == (name, source, "checkpoint")
        assert spec.family is None and spec.n_params is None


def test_a_known_name_wins_over_a_folder(tmp_path, monkeypatch):
    (tmp_path / "gpt2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve("gpt2").source == "openai-community/gpt2"
    assert resolve("./gpt2").source == str(tmp_path / "gpt2")
    assert resolve("untrained:./gpt2").source == str(tmp_path / "gpt2")


def test_static_and_untrained():
    static = resolve("static:/x/glove.txt")
    assert (static.kind, static.source, static.family) == ("static", "/x/glove.txt", "static")
    untrained = resolve("untrained:gpt2-xl")
    assert (untrained.name, untrained.kind) == ("untrained:gpt2-xl", "untrained")
    assert (untrained.source, untrained.n_params) == (
        "openai-community/gpt2-xl",
        resolve("gpt2-xl").n_params,
    )


@pytest.mark.parametrize("name", ["bert-bsae", "llama", "", "a b", "owner/", "-x/y"])
def test_an_unknown_name_tells_how_to_list_the_known_ones(name):
    with pytest.raises(
        ValueError, match="`brainalign models` lists all.*untrained:MODEL"
    ) as caught:
        resolve(name)
    assert str(caught.value).startswith(f"unknown model {name!r}; ")
    assert sum(spec.name in str(caught.value) for spec in list_models()) <= 6


@pytest.mark.parametrize(
    ("name", "near"),
    [("bert-bsae", "bert-base"), ("GPT2", "gpt2"), ("bert-base-uncasd", "bert-base-uncased")],
)
def test_close_names_are_suggested(name, near):
    with pytest.raises(ValueError, match=f"the nearest: {near}[,;]"):
        resolve(name)


def test_a_misspelled_name_with_a_slash_stays_a_hub_id():
    spec = resolve("google-bert/bert-bsae-uncased")
    assert (spec.kind, spec.source) == ("checkpoint", "google-bert/bert-bsae-uncased")


@pytest.mark.parametrize("name", ["untrained:static:x", "untrained:untrained:gpt2"])
def test_only_a_checkpoint_has_an_untrained_twin(name):
    with pytest.raises(ValueError, match="only a checkpoint has an untrained twin"):
        resolve(name)


def test_static_without_a_path_is_an_error():
    with pytest.raises(ValueError, match="lacks the path"):
        resolve("static:")
