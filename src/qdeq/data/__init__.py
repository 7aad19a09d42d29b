"""Named datasets and users' own arrays, as features, labels and splits."""

from qdeq.data.arrays import from_arrays as from_arrays
from qdeq.data.datasets import DATASETS as DATASETS
from qdeq.data.datasets import DatasetSpec as DatasetSpec
from qdeq.data.datasets import load as load
from qdeq.data.images import image_features as image_features
from qdeq.data.splits import Dataset as Dataset
from qdeq.data.splits import Split as Split
from qdeq.data.splits import Targets as Targets
