"""Where rows go: files, dashboards, a terminal."""

from ._choose import Target as Target
from ._choose import choose as choose
from ._sink import Memory as Memory
from ._sink import Sink as Sink
from .jsonl import JsonLines as JsonLines
from .live import Live as Live
from .mlflow import MLflow as MLflow
from .parquet import Parquet as Parquet
from .tensorboard import TensorBoard as TensorBoard
from .wandb import WeightsAndBiases as WeightsAndBiases
