// torch's thread pool behind the kernels' Parallel interface.
#pragma once

#include "../kernels/kernels.h"

namespace bn {

// Serial in a forked child: the parent's pool does not exist there and waiting for it would hang.
Parallel torch_parallel();

}  // namespace bn
