"""Equilibria of networks: wirings as data, the map of all sites, solvers that use the structure."""

from qdeq.equilibrium.networks.cells import Cells as Cells
from qdeq.equilibrium.networks.forward import NETWORK_SOLVERS as NETWORK_SOLVERS
from qdeq.equilibrium.networks.forward import choose_solver as choose_solver
from qdeq.equilibrium.networks.forward import why_not as why_not
from qdeq.equilibrium.networks.graph import Graph as Graph
from qdeq.equilibrium.networks.injection import EdgeInjection as EdgeInjection
from qdeq.equilibrium.networks.layer import NetworkEquilibrium as NetworkEquilibrium
from qdeq.equilibrium.networks.stability import PathIndependence as PathIndependence
from qdeq.equilibrium.networks.stability import growth as growth
from qdeq.equilibrium.networks.stability import path_independence as path_independence
from qdeq.equilibrium.networks.stability import stability_penalty as stability_penalty
from qdeq.equilibrium.networks.systems import Structured as Structured
from qdeq.equilibrium.networks.trajectories import network_trajectory as network_trajectory
from qdeq.equilibrium.networks.wired import Wired as Wired
from qdeq.equilibrium.networks.wiring import AbstractWiring as AbstractWiring
from qdeq.equilibrium.networks.wiring import Alone as Alone
from qdeq.equilibrium.networks.wiring import Chain as Chain
from qdeq.equilibrium.networks.wiring import Edges as Edges
from qdeq.equilibrium.networks.wiring import Grid as Grid
