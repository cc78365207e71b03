"""Datasets: loaded, checked and prepared in one way, refused with a cure when they are wrong."""

from ._cache import CACHE_VARIABLE as CACHE_VARIABLE
from ._catalogue import CATALOGUE as CATALOGUE
from ._dataset import Dataset as Dataset
from ._download import download as download
from ._find import is_there as is_there
from ._folder import DATA_VARIABLE as DATA_VARIABLE
from ._folder import data_folder as data_folder
from ._load import load as load
from ._overview import overview as overview
