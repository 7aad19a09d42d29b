"""What runs on the qubits, as plain data: gates, circuits, ansaetze, encodings, observables.

Nothing here simulates and nothing here imports JAX; see `qdeq.simulation`.
"""

from qdeq.circuits.ansatz import hardware_efficient as hardware_efficient
from qdeq.circuits.ansatz import paper_ansatz as paper_ansatz
from qdeq.circuits.ansatz import strongly_entangling as strongly_entangling
from qdeq.circuits.channels import AmplitudeDamping as AmplitudeDamping
from qdeq.circuits.channels import Channel as Channel
from qdeq.circuits.channels import Dephasing as Dephasing
from qdeq.circuits.channels import Depolarising as Depolarising
from qdeq.circuits.channels import KrausChannel as KrausChannel
from qdeq.circuits.channels import OverRotation as OverRotation
from qdeq.circuits.channels import ThermalRelaxation as ThermalRelaxation
from qdeq.circuits.channels import TwoQubitDepolarising as TwoQubitDepolarising
from qdeq.circuits.circuit import Circuit as Circuit
from qdeq.circuits.drawing import draw_text as draw_text
from qdeq.circuits.encodings import AmplitudeEncoding as AmplitudeEncoding
from qdeq.circuits.encodings import AngleEncoding as AngleEncoding
from qdeq.circuits.encodings import Encoding as Encoding
from qdeq.circuits.encodings import paper_angle_encoding as paper_angle_encoding
from qdeq.circuits.encodings import reuploading as reuploading
from qdeq.circuits.gates import GATES as GATES
from qdeq.circuits.gates import Gate as Gate
from qdeq.circuits.measured import MeasuredCircuit as MeasuredCircuit
from qdeq.circuits.named import ANSAETZE as ANSAETZE
from qdeq.circuits.named import make_ansatz as make_ansatz
from qdeq.circuits.named import without_entanglers as without_entanglers
from qdeq.circuits.noise import NoiseModel as NoiseModel
from qdeq.circuits.noise import ReadoutError as ReadoutError
from qdeq.circuits.noise import Rule as Rule
from qdeq.circuits.noise import format_noise as format_noise
from qdeq.circuits.noise_text import parse_noise as parse_noise
from qdeq.circuits.observables import MeasurementEnsemble as MeasurementEnsemble
from qdeq.circuits.observables import xyz_of_every_wire as xyz_of_every_wire
from qdeq.circuits.observables import z_of_every_wire as z_of_every_wire
from qdeq.circuits.observables import z_strings as z_strings
from qdeq.circuits.operation import Operation as Operation
from qdeq.circuits.tables import table_circuit as table_circuit
