"""Numbers from tensors: nothing here knows a model, a hook or a file."""

from ._condition import condition as condition
from ._distribution import histograms as histograms
from ._distribution import percentiles as percentiles
from ._memory import distance as distance
from ._moments import nonfinite as nonfinite
from ._moments import overall as overall
from ._norms import norms as norms
from ._sampling import independent as independent
from ._sampling import shift as shift
from ._sampling import shift_noise as shift_noise
from ._sampling import standard_error as standard_error
from ._units import dead as dead
from ._units import saturated as saturated
from ._weights import small as small
