"""The memory plan: what it counts, what it lowers, what it refuses."""

import json

import jax
import numpy as np
import pytest
from recordings import planted_study

from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.study import memory
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.score import programs
from brainalign_jax.study.score.methods import Ridge
from brainalign_jax.study.score.problem import Scoring, folds_of

MIB = 2**20
SCORING = Scoring(
    ("procrustes", "ridge", "rsa"), protocol("audited", timed=False, n_folds=4), (10,)
)


@pytest.fixture(scope="module", autouse=True)
def held():
    """What this process holds is another number at every look."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "resident_bytes", lambda: 100 * MIB)
        yield


@pytest.fixture(scope="module")
def study():
    """(responses of one subject, shapes of two models' layers) of 120 words."""
    responses, embeddings = planted_study(n_words=120, width=32)
    return responses[0], [[embeddings.values.shape], [(13, 120, 32)]]


@pytest.fixture(scope="module")
def planned(study):
    return memory.fit(*study, SCORING, Computation(layers=8, batch=1, threads=2), max_memory=2**36)


def test_what_is_asked_is_kept_where_it_fits(planned):
    assert planned.computation == Computation(layers=8, batch=1, threads=2, rdm_bytes=2**31)
    assert planned.peak == planned.base + max(stage.bytes for stage in planned.stages)
    assert {stage.name for stage in planned.stages} >= {"procrustes", "ridge", "rsa"}
    text = planned.text()
    assert "8 layers a call, 1 at once, 2 calls at a time" in text and "ridge" in text
    assert json.loads(json.dumps(planned.fields()))["peak_bytes"] == planned.peak


def test_the_programs_are_counted_as_xla_counts_them(study, planned):
    """States of both threads, and twice the most that a program holds besides its arguments."""
    responses, _ = study
    fold = folds_of(responses, SCORING).fold(0)
    fold = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), fold)
    source = jax.ShapeDtypeStruct((120, 20), "float32")
    size = programs.chunk_size([5, 13], most=8)
    counted = programs.memory(
        source, (size, 120, 32), fold, method=Ridge(SCORING.protocol), batch=1, dtype="float32"
    )
    stage = next(stage for stage in planned.stages if stage.name == "ridge")
    assert stage.parts["shared by layers"] == 2 * counted["state"]
    assert stage.parts["at work"] == 2 * max(counted["prepare"], counted["evaluate"])
    # Four layers at once hold more than one.
    four = programs.memory(
        source, (size, 120, 32), fold, method=Ridge(SCORING.protocol), batch=4, dtype="float32"
    )
    assert four["evaluate"] > counted["evaluate"]


def test_a_small_budget_lowers_what_is_done_at_once(study, planned):
    asked = Computation(layers=8, batch=1, threads=2)
    lowered = memory.fit(*study, SCORING, asked, max_memory=planned.peak - 1)
    assert lowered.peak < planned.peak
    assert lowered.computation.threads == 1


def test_responses_on_disk_are_not_counted(study, planned, tmp_path):
    responses, models = study
    path = tmp_path / "values.npy"
    np.save(path, responses.values)
    mapped = WordResponses("S0", np.load(path, mmap_mode="r"), responses.stimulus)
    plan = memory.fit(mapped, models, SCORING, planned.computation, max_memory=2**36)
    assert memory.held_bytes(responses) == responses.values.nbytes
    assert [stage.parts["responses"] for stage in plan.stages] == [0] * len(plan.stages)


def test_a_study_that_cannot_fit_names_the_least_budget_and_that_one_does(study):
    start = Computation(layers=2, batch=1, threads=1)
    with pytest.raises(ValueError, match="needs at least .* GiB but may use 0.00") as error:
        memory.fit(*study, SCORING, start, max_memory=MIB)
    least = float(str(error.value).partition("--max_memory_gb=")[2].split()[0])
    assert memory.fit(*study, SCORING, start, max_memory=int(least * 2**30)).peak > MIB


def test_memory_of_this_machine_is_found(monkeypatch):
    monkeypatch.undo()
    assert memory.available_bytes() > 100 * MIB
