#include "parallel.h"

#include <pthread.h>
#include <torch/csrc/stable/ops.h>

#include <atomic>

namespace bn {
namespace {

bool forked = false;
const int fork_handler = pthread_atfork(nullptr, nullptr, [] { forked = true; });

// Tasks are taken from a counter, not dealt out beforehand: a thread that the system holds up
// delays one task instead of half of the work.
void run(int64_t tasks, void (*task)(void*, int64_t), void* context) {
  std::atomic<int64_t> next{0};
  const int64_t threads = torch::stable::get_num_threads();
  torch::stable::parallel_for(0, threads < tasks ? threads : tasks, 1, [&](int64_t, int64_t) {
    for (int64_t i = next.fetch_add(1); i < tasks; i = next.fetch_add(1)) task(context, i);
  });
}

}  // namespace

Parallel torch_parallel() {
  (void)fork_handler;
  return {run, forked ? 1 : int(torch::stable::get_num_threads())};
}

}  // namespace bn
