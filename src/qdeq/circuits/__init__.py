"""What runs on the qubits, as plain data: gates, circuits, ansaetze, encodings, observables.

Nothing here simulates and nothing here imports JAX; see `qdeq.simulation`.
"""

from .ansatz import hardware_efficient as hardware_efficient
from .ansatz import paper_ansatz as paper_ansatz
from .ansatz import strongly_entangling as strongly_entangling
from .circuit import Circuit as Circuit
from .circuit import Operation as Operation
from .drawing import draw_text as draw_text
from .encodings import AmplitudeEncoding as AmplitudeEncoding
from .encodings import AngleEncoding as AngleEncoding
from .encodings import Encoding as Encoding
from .encodings import paper_angle_encoding as paper_angle_encoding
from .encodings import reuploading as reuploading
from .gates import GATES as GATES
from .gates import Gate as Gate
from .named import ANSAETZE as ANSAETZE
from .named import make_ansatz as make_ansatz
from .named import without_entanglers as without_entanglers
from .observables import MeasurementEnsemble as MeasurementEnsemble
from .observables import xyz_of_every_wire as xyz_of_every_wire
from .observables import z_of_every_wire as z_of_every_wire
from .observables import z_strings as z_strings
