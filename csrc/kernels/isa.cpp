// One instruction set and one dtype: compiled once for each pair (BN_ISA, BN_DTYPE).
#include "planes.h"
#include "rows.h"

#ifndef BN_DTYPE
#define BN_DTYPE 0
#endif

namespace bn::BN_ISA {
namespace {

#if BN_DTYPE == 0
using Element = float;
#elif BN_DTYPE == 1
using Element = double;
#elif BN_DTYPE == 2
using Element = bfloat16;
#else
using Element = float16;
#endif

void forward(const ForwardArgs& args) {
  if (args.shape.c == 0) return;
  if (Matrix::fits(args.shape, args.mask != nullptr, 3))
    RowsForward<Element>(args).run();
  else
    PlanesForward<Element>(args).run();
}

void backward(const BackwardArgs& args) {
  if (args.shape.c == 0) return;
  if (Matrix::fits(args.shape, args.mask != nullptr, 6))
    RowsBackward<Element>(args).run();
  else
    PlanesBackward<Element>(args).run();
}

}  // namespace

#define BN_JOIN_(a, b) a##b
#define BN_JOIN(a, b) BN_JOIN_(a, b)

KernelTable BN_JOIN(table_, BN_DTYPE)() {
  return {forward, backward};
}

}  // namespace bn::BN_ISA
