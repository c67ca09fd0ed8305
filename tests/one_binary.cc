// SPDX-License-Identifier: MIT
// The handlers of XLA's custom calls as a library of their own: see one_binary.py.
#include "cc/xla/xla_calls.h"

// Registers them with the XLA of this process; "" or what went wrong.
extern "C" __attribute__((visibility("default"))) const char* TfPlrRegisterXlaHandlers() {
  return tf_plr::RegisterXlaHandlers().c_str();
}
