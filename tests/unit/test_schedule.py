"""Batches that are shared out to workers which die when they like."""

import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx2snn.evaluation.schedule import MOST_TRIES, Crew, Event, Team
from onnx2snn.evaluation.totals import Totals, squares
from onnx2snn_runtime.data.dataset import Part
from onnx2snn_runtime.data.inputs import Piece
from onnx2snn_runtime.errors import BackendError, DataError

pytestmark = pytest.mark.filterwarnings("ignore:a worker died")


def pieces(count):
    return (Piece(i, {"input": Part([i], np.asarray)}, None) for i in range(count))


class FakeCrew(Crew):
    """Workers that finish in any order, die at any moment, and remember what they were given."""

    def __init__(self, size, chance, mortal=0.0, deadly=()):
        super().__init__(size)
        self.chance, self.mortal, self.deadly = chance, mortal, deadly
        self.alive, self.hired, self.given, self.closed = {}, 0, [], False
        self.reasons = {}

    def hire(self):
        self.hired += 1
        self.alive[self.hired] = "starting"

    def give(self, worker, piece):
        assert self.alive[worker] == "idle"
        self.alive[worker] = piece
        self.given.append(piece.first)

    def events(self):
        assert len(self.alive) == self.size
        some = [w for w, state in self.alive.items() if state != "idle"]
        assert some, "waits for nobody"
        return [self.event(w) for w in self.chance.sample(some, self.chance.randint(1, len(some)))]

    def event(self, worker):
        state = self.alive[worker]
        is_deadly = isinstance(state, Piece) and state.first in self.deadly
        if is_deadly or self.chance.random() < self.mortal:
            del self.alive[worker]
            return Event(worker, death="of old age")
        self.alive[worker] = "idle"
        if state == "starting":
            return Event(worker)
        return Event(worker, self.reasons.get(state.first, Totals(counts={"index": state.first})))

    def close(self):
        self.closed = True


def indices(team, count):
    return [totals.counted("index") for totals in team.totals(pieces(count))]


@given(size=st.integers(1, 5), count=st.integers(0, 40), seed=st.integers(0, 10**6))
def test_every_batch_once_and_in_order(size, count, seed):
    crew = FakeCrew(size, random.Random(seed))
    assert indices(Team(crew), count) == list(range(count))
    assert sorted(crew.given) == list(range(count))
    assert crew.closed


@given(size=st.integers(1, 5), count=st.integers(1, 40), seed=st.integers(0, 10**6))
def test_deaths_lose_nothing(size, count, seed):
    crew = FakeCrew(size, random.Random(seed), mortal=0.05)
    try:
        assert indices(Team(crew), count) == list(range(count))
    except BackendError:  # three deaths at one batch do happen
        assert max(crew.given.count(i) for i in range(count)) == MOST_TRIES or not crew.given
    assert crew.closed


def test_a_deadly_batch_is_named():
    crew = FakeCrew(3, random.Random(0), deadly=[7])
    met = []
    with pytest.raises(BackendError, match=r"batch 7 \(images 7 to 7\), the last one of old age"):
        met.extend(Team(crew).totals(pieces(30)))
    assert len(met) == 7  # what came before it is told first
    assert crew.given.count(7) == MOST_TRIES
    assert crew.closed


def test_workers_that_never_start():
    crew = FakeCrew(2, random.Random(0), mortal=1.0)
    with pytest.raises(BackendError, match="no worker starts: of old age"):
        list(Team(crew).totals(pieces(3)))
    assert crew.closed


def test_an_error_comes_when_its_batch_is_due():
    crew = FakeCrew(4, random.Random(3))
    crew.reasons[5] = DataError("label 77 is out of range")
    met = []
    with pytest.raises(DataError, match="77"):
        met.extend(Team(crew).totals(pieces(30)))
    assert len(met) == 5


def test_nobody_runs_far_ahead():
    """Totals that wait for a slow batch are bounded, and so is what is read from disk."""
    crew = FakeCrew(2, random.Random(0))
    generator = Team(crew).totals(pieces(10**9))
    next(generator)
    assert len(crew.given) < 20
    generator.close()
    assert crew.closed


@given(
    values=st.lists(st.floats(0, 1e30), min_size=1, max_size=30),
    cut=st.lists(st.integers(1, 5), min_size=30, max_size=30),
)
def test_sums_do_not_depend_on_the_batches(values, cut):
    """The oracle is the loop over all images."""
    expected = 0.0
    for value in values:
        expected += value
    totals, rest = Totals(), list(values)
    for size in cut:
        part, rest = rest[:size], rest[size:]
        totals.merge(Totals(len(part), sums={"a": part}))
        totals = Totals.from_dict(json.loads(json.dumps(totals.as_dict())))
    assert totals.sum("a") == expected
    assert totals.images == len(values)


def test_counts_truths_and_tables():
    totals = Totals()
    for right, known in ((3, True), (4, False)):
        counts = {"right": right, "spikes/2": 1.0, "spikes/10": 2.0, "spikes_other/3": 9}
        totals.merge(Totals(5, counts=counts, truths={"labelled": known}))
    assert totals.counted("right") == 7 and totals.counted("wrong") == 0
    assert totals.table("spikes") == [(2, 2.0), (10, 4.0)]
    assert totals.truths == {"labelled": False}
    assert squares(np.array([[1, 2], [3, 4]], np.float32)) == [5.0, 25.0]
