"""Classifiers and circuits by the names that configurations use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qdeq.circuits import ANSAETZE, make_ansatz, paper_ansatz, without_entanglers
from qdeq.errors import UserError
from qdeq.models import Classifier, build_classifier, paper_model
from qdeq.names import OWN_MODEL, Ansatz
from qdeq.runs.circuit import circuit_of
from qdeq.training.config import TrainConfig

KEYS = jax.random.split(jax.random.key(0))


def build(**options):
    values = {"n_features": 16, "model_key": KEYS[0], "head_key": KEYS[1], **options}
    return build_classifier(4, options.pop("n_classes", 4), **values)


def test_the_defaults_are_the_papers_model():
    built, paper = build(), Classifier(paper_model(4, key=KEYS[0]), 4, key=KEYS[1])
    assert jax.tree.structure(built) == jax.tree.structure(paper)
    for one, other in zip(jax.tree.leaves(built), jax.tree.leaves(paper), strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_a_head_the_first_measured_values_are_the_logits():
    classifier = build_classifier(
        4, 3, n_features=16, head="none", model_key=KEYS[0], head_key=KEYS[1]
    )
    # Dropout would hide classes, so it does nothing here.
    hidden = jnp.zeros(16, bool)
    assert classifier.read_out(jnp.arange(4.0), keep=hidden).tolist() == [0, 1, 2]


def test_a_head_that_is_missing_needs_a_measured_value_per_class():
    with pytest.raises(UserError, match="head='none' with 4 observables and 10 classes"):
        build_classifier(4, 10, n_features=16, head="none", model_key=KEYS[0], head_key=KEYS[1])


def test_configurations_know_every_ansatz():
    assert Ansatz.__args__ == (*ANSAETZE, OWN_MODEL)
    for name in ANSAETZE:
        config = TrainConfig(ansatz=name, ansatz_layers=2)
        circuit = circuit_of(config).circuit
        assert circuit == build(ansatz=name, ansatz_layers=2).model.circuit


def test_without_entanglers_only_one_qubit_gates_are_left_in_their_order():
    paper = paper_ansatz(4, trainable="published")
    bare = without_entanglers(paper)
    assert bare.count(n_wires=2) == 0 and bare.count() == paper.count(n_wires=1)
    assert [o.name for o in bare.operations] == [
        o.name for o in paper.operations if len(o.wires) == 1
    ]
    # CRX loses its angle, which was not trainable; the other three of the block keep theirs.
    assert (bare.n_parameters, sum(bare.trainable)) == (38, 35)


def test_only_the_papers_circuits_were_published():
    with pytest.raises(UserError, match="only the paper's circuits"):
        make_ansatz("strongly-entangling", 4, trainable="published")
    with pytest.raises(UserError, match="only the paper's circuits"):
        TrainConfig(ansatz="hardware-efficient", trainable="published")


def test_angle_encoding_takes_the_papers_number_of_features():
    with pytest.raises(UserError, match="n_features=9: angle encoding on 4 qubits reads 16"):
        build(encoding="angle", n_features=9)
