"""Faults in the use of batch norm, found before they cost a training run."""

from ._config import Config as Config
from ._config import read_config as read_config
from ._context import Context as Context
from ._context import Distributed as Distributed
from ._diagnosis import Diagnosis as Diagnosis
from ._diagnosis import Fixed as Fixed
from ._diagnosis import Skip as Skip
from ._finding import Finding as Finding
from ._finding import Severity as Severity
from ._live import Batch as Batch
from ._live import Heard as Heard
from ._live import Live as Live
from ._live import Run as Run
from ._place import Place as Place
from ._place import place_of_source as place_of_source
from ._rule import Rule as Rule
from ._rule import all_rules as all_rules
from ._runner import diagnose as diagnose
from ._while_training import while_training as while_training
