"""Imported before anything else of this package: says in one line that Qiskit is missing."""

from qdeq.interop._extras import check_installed

check_installed("qiskit", extra="qiskit", needed_for="qdeq.interop.qiskit")
