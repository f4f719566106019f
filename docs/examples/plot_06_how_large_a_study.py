"""
How large must a study be?
==========================

Before anyone lies in a scanner: studies of the size that you plan are simulated with a response of known
strength, and counted is how many find it. Those without any response show whether p-values mean what they
say.
"""

# %%
# **Simulated studies.** In each, some people read a story; their voxels respond to one layer of a model,
# ``strength`` times the standard deviation of the noise. The whole pipeline runs, with null draws of its
# own. A handful of studies of a small text is simulated here; for a plan of your own take 50 or more, the
# number of words and people that you can record, and 99 draws (:func:`power
# <brainalign_jax.studies.checks.power.power>`).

import matplotlib.pyplot as plt

import brainalign_jax as ba

power = ba.studies.checks.power.power
STRENGTHS, N_STUDIES = (0.0, 0.6, 1.5), 6
shares = []
for n_subjects in (1, 3):
    table = power(
        STRENGTHS, n_studies=N_STUDIES, methods=("rsa",), n_draws=20, n_subjects=n_subjects,
        n_words=100, n_types=60, n_voxels=20, width=8,
    )  # fmt: skip
    shares.append(table[table["metric"] == "rank_accuracy"].assign(n_subjects=n_subjects))

# %%
# **The figure.** Share of studies with p < .05, with its exact 95 % interval; the dotted line is what
# studies of nothing should have.

false_positives = ba.studies.checks.power.exact_rate(20)
figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
for rows in shares:
    bars = [rows["share"] - rows["lower"], rows["upper"] - rows["share"]]
    people = rows["n_subjects"].iloc[0]
    axes.errorbar(
        rows["strength"], rows["share"], bars, fmt="o-", capsize=4, label=f"people: {people}"
    )
axes.axhline(false_positives, color="black", linestyle=":", linewidth=1)
axes.set(
    xlabel="response / noise (standard deviations)", ylabel="share with p < .05",
    title="How many of the simulated studies find it", ylim=(-0.03, 1.03),
)  # fmt: skip
axes.legend()

# %%
# **The conclusion**, from the numbers that were computed:

for rows in shares:
    for row in rows.itertuples():
        print(
            f"{row.n_subjects} people, strength {row.strength}: {row.share:.2f} of {row.n_studies} studies "
            f"[{row.lower:.2f}, {row.upper:.2f}]"
        )
print(f"of exact p-values from 20 draws, {false_positives:.3f} are below .05")

# %%
# **What would make it wrong.** So few studies: the intervals are wide, and a share at strength 0 that lies
# inside of its interval shows little. A strength that no voxel has: take it from a pilot. And simulated
# people are alike, in that all respond to the same layer; real ones differ, which costs power.
#
# Next: :doc:`the check at full size <../evidence>`, or ``python -m experiments.power_check``.
