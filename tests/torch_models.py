"""Random PyTorch models of transformers, what they compute, and with parts off by hooks.

Only for tests where torch is installed, and for tests/fixtures/export_models.py.
"""

from contextlib import contextmanager

import numpy as np
import torch
import transformers

_USUAL = dict(hidden_size=24, num_hidden_layers=3, num_attention_heads=3, intermediate_size=20)
_USUAL |= dict(max_position_embeddings=16)
_OPT = {name: size for name, size in _USUAL.items() if name != "intermediate_size"}
SIZES = {
    "bert": _USUAL,
    "gpt2": dict(n_embd=24, n_layer=3, n_head=3, n_positions=16, bos_token_id=0, eos_token_id=0),
    "opt": _OPT | dict(ffn_dim=20),
    "roberta": _USUAL | dict(max_position_embeddings=18, type_vocab_size=1),
    "distilbert": dict(dim=24, n_layers=3, n_heads=3, hidden_dim=20, max_position_embeddings=16),
    "gpt_neo": dict(hidden_size=24, num_layers=4, num_heads=3, max_position_embeddings=16)
    | dict(
        attention_types=[[["global", "local"], 2]], window_size=5, bos_token_id=0, eos_token_id=0
    ),
    "gpt_neox": _USUAL,
    **dict.fromkeys(
        ("llama", "mistral", "qwen2", "qwen3"),
        _USUAL | dict(num_attention_heads=6, num_key_value_heads=2),
    ),
}

# Of a block: its output projection of attention, of the feed-forward sub-layer.
OUTPUTS = {
    "bert": ("attention.output.dense", "output.dense"),
    "roberta": ("attention.output.dense", "output.dense"),
    "distilbert": ("attention.out_lin", "ffn.lin2"),
    "gpt2": ("attn.c_proj", "mlp.c_proj"),
    "gpt_neo": ("attn.attention.out_proj", "mlp.c_proj"),
    "gpt_neox": ("attention.dense", "mlp.dense_4h_to_h"),
    "opt": ("self_attn.out_proj", "fc2"),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), ("self_attn.o_proj", "mlp.down_proj")),
}
POSITIONS = ("position_embeddings", "embed_positions", "wpe")


def blocks_of(model):
    lists = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList)]
    return max(lists, key=lambda modules: sum(p.numel() for p in modules.parameters()))


def zero(module, arguments, output):
    return torch.zeros_like(output)


def zero_head(head, width):
    def hook(module, arguments):
        (mixed,) = arguments
        mixed = mixed.clone()
        mixed[..., head * width : (head + 1) * width] = 0
        return (mixed,)

    return hook


def passing(forward):
    """A block's forward that gives its input: not a hook, for transformers collects the hidden
    states by hooks of its own."""

    def run(x, *arguments, **options):
        output = forward(x, *arguments, **options)
        return (x, *output[1:]) if isinstance(output, tuple) else x

    return run


@contextmanager
def ablated(model, *, heads=(), attention=(), feed_forward=(), layers=(), positions=False):
    """`model` with parts off, hooks on while the context lasts; blocks and heads from 0."""
    family = model.config.model_type
    attention_out, ffn_out = OUTPUTS[family]
    blocks, handles, saved = blocks_of(model), [], []
    n_heads = model.config.num_attention_heads
    for block, head in heads:
        module = blocks[block].get_submodule(attention_out)
        width = getattr(module, "in_features", None) or module.weight.shape[0]
        handles.append(module.register_forward_pre_hook(zero_head(head, width // n_heads)))
    for name, numbers in ((attention_out, attention), (ffn_out, feed_forward)):
        handles += [blocks[b].get_submodule(name).register_forward_hook(zero) for b in numbers]
    for block in layers:
        blocks[block].forward = passing(blocks[block].forward)
    if positions:
        tables = [m.weight for n, m in model.named_modules() if n.split(".")[-1] in POSITIONS]
        frequencies = [b for n, b in model.named_buffers() if n.endswith("rotary_emb.inv_freq")]
        assert tables or frequencies
        for values in tables + frequencies:
            saved.append((values, values.detach().clone()))
            values.data.zero_()
    try:
        yield model
    finally:
        for handle in handles:
            handle.remove()
        for block in layers:
            del blocks[block].forward
        for values, before in saved:
            values.data.copy_(before)


@contextmanager
def replaced(model, part, block, replace):
    """`model` in which a part of a block gives replace(output [B, T, width]) while the context lasts.

    part: heads (side by side, before the output projection), attention, ffn, layers (what the block adds), or
    positions (the rows of the table, of no block).
    """
    module, (attention_out, ffn_out) = blocks_of(model)[block], OUTPUTS[model.config.model_type]
    if part == "positions":
        (module,) = (m for name, m in model.named_modules() if name.split(".")[-1] in POSITIONS)
    if part == "layers":
        module.forward = adding(module.forward, replace)
    elif part == "heads":
        handle = module.get_submodule(attention_out).register_forward_pre_hook(
            lambda _, arguments: (replace(arguments[0]),)
        )
    else:
        name = {"attention": attention_out, "ffn": ffn_out, "positions": ""}[part]
        handle = module.get_submodule(name).register_forward_hook(
            lambda _, arguments, output: replace(output.reshape(1, -1, output.shape[-1])).reshape(
                output.shape
            )
        )
    try:
        yield model
    finally:
        if part == "layers":
            del module.forward
        else:
            handle.remove()


def adding(forward, replace):
    """A block's forward that adds replace(what it added) to its input; see `passing`."""

    def run(x, *arguments, **options):
        output = forward(x, *arguments, **options)
        several = isinstance(output, tuple)
        y = x + replace((output[0] if several else output) - x)
        return (y, *output[1:]) if several else y

    return run


@contextmanager
def recorded(model):
    """What the sub-layers give while the context lasts: a list, attention, feed-forward, block
    after block, filled by a run of the model."""
    seen, handles = [], []
    for block in blocks_of(model):
        for name in OUTPUTS[model.config.model_type]:
            handles.append(
                block.get_submodule(name).register_forward_hook(
                    lambda module, arguments, output: seen.append(output.clone().numpy())
                )
            )
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def states_of(model, ids, mask):
    """All hidden states of the base model, as NumPy arrays."""
    with torch.no_grad():
        out = model.base_model.eval()(
            torch.tensor(ids, dtype=torch.long),
            attention_mask=torch.tensor(mask, dtype=torch.long),
            output_hidden_states=True,
        )
    return [state.numpy() for state in out.hidden_states]


def batch(vocabulary, time=16):
    rng = np.random.default_rng(1)
    ids = rng.integers(3, vocabulary, (4, time)).astype(np.int32)
    mask = (np.arange(time) < np.array([[time], [7], [3], [1]])).astype(np.int32)
    return ids, mask


def random_model(family, options, seed=0, auto_class=transformers.AutoModel):
    sizes = {"vocab_size": 50} | SIZES[family] | options
    config = transformers.AutoConfig.for_model(family, **sizes)
    model = auto_class.from_config(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for values in model.parameters():
            values.add_(0.2 * torch.randn(values.shape, generator=generator))
    return model.eval()
