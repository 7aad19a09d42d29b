"""Named datasets, users' own arrays and tables, as features, labels and splits."""

from qdeq.data.arrays import from_arrays as from_arrays
from qdeq.data.components import ImageComponents as ImageComponents
from qdeq.data.dataset import Dataset as Dataset
from qdeq.data.dataset import Split as Split
from qdeq.data.dataset import Targets as Targets
from qdeq.data.datasets import DATASETS as DATASETS
from qdeq.data.datasets import DatasetSpec as DatasetSpec
from qdeq.data.datasets import load as load
from qdeq.data.images import image_features as image_features
from qdeq.data.preparation import TablePreparation as TablePreparation
from qdeq.data.read import read_table as read_table
from qdeq.data.series import SeriesPreparation as SeriesPreparation
from qdeq.data.series import SeriesWindows as SeriesWindows
from qdeq.data.series import series_windows as series_windows
