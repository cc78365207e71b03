"""The operators ``torch.ops.batchnorm.*``: schemas, kernels or fallback, fakes, autograd."""

from . import _fakes as _fakes
from . import _fallback as _fallback
from ._library import NATIVE as NATIVE
from ._library import NativeLibrary as NativeLibrary
