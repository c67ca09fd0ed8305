// SPDX-License-Identifier: MIT
// The handlers of XLA's custom calls as a library of their own: see one_binary.py.
#include <cstdint>

#include "cc/engine/gpu/run.h"
#include "cc/xla/xla_calls.h"

#define TF_PLR_EXPORT extern "C" __attribute__((visibility("default")))

// Registers them with the XLA of this process; "" or what went wrong.
TF_PLR_EXPORT const char* TfPlrRegisterXlaHandlers() {
  return tf_plr::RegisterXlaHandlers().c_str();
}

// The most bytes of workspace that a float32 recurrence, or its gradient, needs on any GPU.
TF_PLR_EXPORT int64_t TfPlrMostWorkspaceBytes([[maybe_unused]] int64_t outer,
                                              [[maybe_unused]] int64_t steps,
                                              [[maybe_unused]] int64_t inner,
                                              [[maybe_unused]] bool gradient) {
#if defined(TF_PLR_CUDA)
  using namespace tf_plr;
  const Problem problem{outer, steps, inner, false};
  return gradient
             ? gpu::MostWorkspaceBytes<RecurrenceGradientCell, float>(problem, Algorithm::kAuto)
             : gpu::MostWorkspaceBytes<RecurrenceCell, float>(problem, Algorithm::kAuto);
#else
  return 0;
#endif
}
