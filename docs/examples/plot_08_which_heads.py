"""
Which heads carry it?
=====================

Two questions that are often taken for one: which head is *missed* when it is switched off, and which head's
output *is like* the responses? People are simulated who respond to what a single head writes, so that the
second answer is known.
"""

# %%
# **A planted head.** Seven people whose responses follow the output of head 5 of block 1 of MiniLM, for
# words in sentences (a head that sees a single word has nothing to attend to). ``sublayers="heads"`` gives
# what each head writes, block by block, after the embeddings.

import matplotlib.pyplot as plt
import numpy as np

import brainalign_jax as ba
from brainalign_jax.commands.demo import default_model
from brainalign_jax.neural.simulate import story_words
from brainalign_jax.stimulus import split_sentences
from brainalign_jax.studies.options import Ablation

BLOCK, HEAD = 1, 5
model = default_model()
story = story_words()[:100]
everything = ba.Stimulus.from_words(story, sentence=split_sentences(story))
written = ba.embed(everything, model, sublayers="heads")
n_heads = (len(written.values) - 1) // (len(ba.embed(everything, model).values) - 1)
signal = written.values[1 + BLOCK * n_heads + HEAD]
signal = (signal - signal.mean(axis=0)) / signal.std()
types, of_word = everything.types()
print(f"{n_heads} heads a block; {len(types)} word types; signal {signal.shape}")

recorded = {}
for number in range(7):
    rng = np.random.default_rng(number)
    response = signal @ rng.standard_normal((signal.shape[1], 60)) / np.sqrt(signal.shape[1])
    of_words = np.where((of_word >= 0)[:, None], response[of_word], 0.0)
    subject = f"S{number}"
    recorded[subject] = ba.WordResponses(
        subject, of_words + 0.3 * rng.standard_normal(of_words.shape), everything
    )
people = ba.Dataset("a planted head", tuple(recorded), everything, recorded.__getitem__)

# %%
# **The study.** Each head of block 1 is replaced by zero, the map from the brain is fitted anew, and the
# words are decoded behind the block.

table = ba.studies.ablation.run_ablation(
    people,
    [model],
    plan=Ablation(
        components=("heads",), how=("zero",), readout=("refit",), blocks=(BLOCK,), controls=False, bits=False,
        n_bootstraps=200,
    ),
    scoring=ba.Scoring(("ridge",), ba.protocol("audited", n_folds=4, n_inner_folds=3), ks=(10,)),
    progress=False,
)  # fmt: skip
print(table.verdict())

# %%
# **The other question.** What each head of the block writes is scored by itself, as if it were a layer.

first = 1 + BLOCK * n_heads
read = ba.run_study(
    people,
    written,
    ba.Scoring(
        ("ridge",), ba.protocol("audited", n_folds=4, n_inner_folds=3), ks=(10,),
        layers=tuple(range(first, first + n_heads)),
    ),
    evidence=None,
    progress=False,
)  # fmt: skip
by_itself = read.pooled("rank_accuracy", subject="group").set_index("layer")["value"]
by_itself.index -= first

# %%
# **The figure.** What each head costs, with intervals over people and words, and what each is worth by
# itself.

rows = table.group(component="heads", metric="rank_accuracy")
rows = rows[rows["layer"] != -1].sort_values("head")
colours = ["C3" if head == HEAD else "C0" for head in rows["head"]]
figure, panels = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained", sharey=True)
panels[0].barh(rows["head"], rows["change"], color=colours)
panels[0].hlines(rows["head"], rows["lower"], rows["upper"], color="black", linewidth=1)
panels[0].axvline(0, color="gray", linewidth=1)
panels[0].set_yticks(rows["head"])
panels[0].set(
    xlabel="change of rank accuracy", ylabel=f"head of block {BLOCK}", title="Switched off"
)
panels[1].barh(by_itself.index, by_itself - 0.5, left=0.5, color=colours)
panels[1].axvline(0.5, color="gray", linewidth=1)
panels[1].set(xlabel="rank accuracy", title="Read by itself")
figure.suptitle("The head that people respond to, in red")

# %%
# **The conclusion**, from the numbers that were computed:

planted = rows.set_index("head").loc[HEAD]
missed = list(rows.sort_values("change")["head"]).index(HEAD)
alike = list(by_itself.sort_values(ascending=False).index).index(HEAD)
print(
    f"without the planted head {planted['change']:+.4f} [{planted['lower']:+.4f}, {planted['upper']:+.4f}], "
    f"p_max = {planted['p_max']:.3f}; {missed} of {len(rows)} heads are missed more"
)
print(f"by itself it scores {by_itself[HEAD]:.3f}; {alike} of {len(rows)} heads score higher")

# %%
# **What would make it wrong.** Taking "not missed" for "carries nothing": what a head writes can also be
# had from the residual that passes it by, or from another head (``shapley`` asks for that). Zero is no
# value that a head has: ``how=("zero", "mean", "resample")`` puts others in its place. And seven people
# have 128 flips of signs, so that p is no smaller than 1/128.
#
# Next: :doc:`parts of a model <../ablation>`.
