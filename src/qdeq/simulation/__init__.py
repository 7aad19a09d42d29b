"""How a circuit is evaluated: fused gates, states, forms and light cones, noise, samples.

What runs is data from `qdeq.circuits`; which of these paths a model takes is `qdeq.models`' choice.
"""

from qdeq.simulation.cones import lightcone_cost as lightcone_cost
from qdeq.simulation.density import DensityForm as DensityForm
from qdeq.simulation.density import DensityMap as DensityMap
from qdeq.simulation.density import prepare_density as prepare_density
from qdeq.simulation.lightcone import LightConeForm as LightConeForm
from qdeq.simulation.lightcone import LightConeMap as LightConeMap
from qdeq.simulation.lightcone import prepare_lightcone as prepare_lightcone
from qdeq.simulation.outcomes import outcome_probabilities as outcome_probabilities
from qdeq.simulation.plain import PlainForm as PlainForm
from qdeq.simulation.plain import PlainMap as PlainMap
from qdeq.simulation.plain import prepare_plain as prepare_plain
from qdeq.simulation.quadratic import ProjectedColumns as ProjectedColumns
from qdeq.simulation.quadratic import QuadraticForms as QuadraticForms
from qdeq.simulation.quadratic import RationalMap as RationalMap
from qdeq.simulation.quadratic import prepare_columns as prepare_columns
from qdeq.simulation.quadratic import prepare_forms as prepare_forms
from qdeq.simulation.sampling import sample_counts as sample_counts
from qdeq.simulation.sampling import sample_expectations as sample_expectations
from qdeq.simulation.statevector import encode as encode
from qdeq.simulation.statevector import encode_sum as encode_sum
from qdeq.simulation.statevector import expectation_values as expectation_values
from qdeq.simulation.statevector import run as run
from qdeq.simulation.statevector import unitary_columns as unitary_columns
from qdeq.simulation.superoperators import transfer_matrix as transfer_matrix
