"""OpenQASM 3: circuits and trained models written out, programs read as circuits."""

from qdeq.interop.qasm.read import from_qasm3 as from_qasm3
from qdeq.interop.qasm.write import to_qasm3 as to_qasm3
