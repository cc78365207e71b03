// Chooses, once, the widest instruction set that this processor and this build share.
// BATCHNORM_CPU_CAPABILITY=baseline|avx2|avx512 lowers the choice (for tests and measurements).
#include <cstdlib>
#include <cstring>

#include "kernels.h"

namespace bn {

#define BN_DECLARE_ISA(isa) \
  namespace isa {           \
  KernelTable table_0();    \
  KernelTable table_1();    \
  KernelTable table_2();    \
  KernelTable table_3();    \
  }

BN_DECLARE_ISA(baseline)
#ifdef BN_HAVE_X86_ISAS
BN_DECLARE_ISA(avx2)
BN_DECLARE_ISA(avx512)
namespace avx512bf16 {
KernelTable table_2();  // bfloat16 alone gains from these instructions
}
#endif

namespace {

struct Choice {
  const char* name;
  KernelTable tables[kDtypes];
};

#define BN_CHOICE(isa)                                               \
  Choice {                                                           \
    #isa, {                                                          \
      isa::table_0(), isa::table_1(), isa::table_2(), isa::table_3() \
    }                                                                \
  }

bool allowed(const char* name) {
  const char* limit = std::getenv("BATCHNORM_CPU_CAPABILITY");
  if (limit == nullptr || *limit == 0 || std::strcmp(limit, "avx512") == 0) return true;
  return std::strcmp(limit, name) == 0;
}

Choice choose() {
#ifdef BN_HAVE_X86_ISAS
  __builtin_cpu_init();
  if (allowed("avx512") && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq")) {
    Choice chosen = BN_CHOICE(avx512);
    if (__builtin_cpu_supports("avx512bf16")) chosen.tables[kBFloat16] = avx512bf16::table_2();
    return chosen;
  }
  if (allowed("avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c"))
    return BN_CHOICE(avx2);
#endif
  return BN_CHOICE(baseline);
}

const Choice& choice() {
  static const Choice chosen = choose();
  return chosen;
}

}  // namespace

const KernelTable& kernels(Dtype dtype) {
  return choice().tables[dtype];
}
const char* cpu_capability() {
  return choice().name;
}

}  // namespace bn
