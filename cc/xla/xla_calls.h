// SPDX-License-Identifier: MIT
// The custom calls into which XLA compiles the ops: what the compiler and the handler agree on.
//
// One call an op and platform, of the op's name; operands and results are those of the op. Those of
// a recurrence have one more result on a GPU, bytes: the engine's workspace, so that the call
// allocates nothing and can be part of a CUDA graph. Attributes, all int64: outer, steps, inner,
// reverse, algorithm (of Algorithm), initial_states (0 or 1); those of the other ops are in their
// handlers.
#ifndef TF_PLR_XLA_XLA_CALLS_H_
#define TF_PLR_XLA_XLA_CALLS_H_

#include <string>

namespace tf_plr {

// Registers the handlers with the XLA runtime, once; returns "" or what went wrong.
const std::string& RegisterXlaHandlers();

// Those of the gated ops and of the windows, which RegisterXlaHandlers calls; they append to
// *problems what went wrong.
void RegisterGatedXlaHandlers(std::string* problems);
void RegisterWindowsXlaHandlers(std::string* problems);

}  // namespace tf_plr

#endif  // TF_PLR_XLA_XLA_CALLS_H_
