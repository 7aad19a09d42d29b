"""Circuits to Qiskit and back, models on Qiskit's primitives, noise models of its backends."""

from qdeq.interop.qiskit import _installed as _installed
from qdeq.interop.qiskit.backends import CountingSimulator as CountingSimulator
from qdeq.interop.qiskit.convert import to_qiskit as to_qiskit
from qdeq.interop.qiskit.executor import QiskitExecutor as QiskitExecutor
from qdeq.interop.qiskit.noise import noise_from_backend as noise_from_backend
from qdeq.interop.qiskit.places import placeable_copies as placeable_copies
from qdeq.interop.qiskit.read import from_qiskit as from_qiskit
