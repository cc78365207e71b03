"""The operators ``torch.ops.batchnorm.*``: schemas, kernels or fallback, fakes, autograd."""

from . import _fakes as _fakes
from . import _fallback as _fallback
from . import _registered as _registered
from ._checks import FLOAT_DTYPES as FLOAT_DTYPES
from ._checks import broadcast_mask as broadcast_mask
from ._checks import check_channels as check_channels
from ._checks import check_device as check_device
from ._checks import check_input as check_input
from ._checks import check_number as check_number
from ._checks import check_per_channel as check_per_channel
from ._checks import check_residual as check_residual
from ._checks import check_slope as check_slope
from ._commit import commit as commit
from ._inplace import check_inplace as check_inplace
from ._lanes import Lane as Lane
from ._lanes import choose_lane as choose_lane
from ._lanes import wants_grad as wants_grad
from ._library import NATIVE as NATIVE
from ._library import NativeLibrary as NativeLibrary
from ._normalise import normalise_by as normalise_by
from ._normalise import normalise_by_batch as normalise_by_batch
from ._phases import measure as measure
from ._phases import normalise_by_agreed as normalise_by_agreed
