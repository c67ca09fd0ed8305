// SPDX-License-Identifier: MIT
// XLA's custom calls, through its C interface: what the compilers that emit calls and the handlers
// agree on. The operands and results of a call are the inputs and outputs of an op. Its attributes
// are those of the op, and kOpAttribute, which names the op.
#ifndef TF_PLR_XLA_HANDLERS_H_
#define TF_PLR_XLA_HANDLERS_H_

#include "cc/calls/call.h"

namespace tf_plr {

// The last result is bytes of scratch, so that the call allocates nothing.
constexpr char kCallTarget[] = "TfPlr>Call";
// Has no scratch result: for compilers that do not know how much scratch a call needs.
constexpr char kPortableTarget[] = "TfPlr>PortableCall";
constexpr char kOpAttribute[] = "op";

}  // namespace tf_plr

// Registers the handlers with the XLA of this process, once; returns "" or what went wrong.
extern "C" TF_PLR_EXPORT const char* TfPlrRegisterHandlers();

#endif  // TF_PLR_XLA_HANDLERS_H_
