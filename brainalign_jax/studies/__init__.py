"""What is built of studies; each is a module or a folder, loaded when used.

`demo`: a layer planted in simulated brains. `replication`: the grid of Li et al. 2023. `ladder`: from the
paper's protocol to the audited one, a choice at a time. `specifications`: all combinations of such choices.
`checks`: what noise scores, and what is found.
`regions`: what a model adds to word rate and sound power. `encoding`: the same for every voxel, with maps.
`contrastive`: maps trained for retrieval. `timecourse`: when is which layer there?
`generalisation`: does it hold for words of another kind than it was fitted on? `figurative`: is what follows
from an idiom or a metaphor nearer to it than what does not? `languages`: for people of another language?
`ablation`: which part of the model carries it? `comparison`: which models are alike?
`performance`: does it go with what models can do?
`abilities`: what can the model do? `planning`: how many people and words does a study need?
`claims`: do the claims of papers hold?

>>> import brainalign_jax as ba
>>> steps = ba.studies.ladder.ladder_steps(timed=True, grouped=False)
>>> [step.name for step in steps][:4]
['paper', 'folds', 'hold_out_types', 'queries']
"""

import importlib

_STUDIES = (
    "abilities",
    "ablation",
    "checks",
    "claims",
    "comparison",
    "contrastive",
    "demo",
    "encoding",
    "figurative",
    "generalisation",
    "ladder",
    "languages",
    "performance",
    "planning",
    "regions",
    "replication",
    "specifications",
    "timecourse",
)


def __getattr__(name: str):
    if name not in _STUDIES:
        raise AttributeError(
            f"brainalign_jax.studies has no {name!r}: it has {', '.join(_STUDIES)}"
        )
    return importlib.import_module(f"brainalign_jax.studies.{name}")


def __dir__() -> list[str]:
    return sorted(_STUDIES)
