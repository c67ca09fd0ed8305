// SPDX-License-Identifier: MIT
// Runs a call in float32 where a GPU has no kernels in 16 bits: for some steps with flags.
#ifndef TF_PLR_CALLS_WIDENED_H_
#define TF_PLR_CALLS_WIDENED_H_

#include "cc/calls/backend.h"

namespace tf_plr {

// The same in float32, if it is of `type`. It has no data.
inline Buffer Widened(const Buffer& buffer, DType type) {
  return {buffer.type == type ? DType::kFloat : buffer.type, buffer.shape};
}
inline Buffers Widened(Buffers buffers, DType type) {
  for (Buffer& buffer : buffers) buffer = Widened(buffer, type);
  return buffers;
}

// The scratch memory that RunWidened takes before it runs anything.
inline size_t ScratchToWiden(const Buffers& inputs, const Buffers& outputs) {
  const DType type = inputs[0].type;
  size_t bytes = 0;
  for (const Buffers* buffers : {&inputs, &outputs}) {
    for (const Buffer& buffer : *buffers) {
      if (buffer.type == type) bytes += AlignedForScratch(Widened(buffer, type).bytes());
    }
  }
  return bytes;
}

// Calls run(backend, inputs, outputs) with float32 in the place of T, the type of the first input.
// Its backend's scratch memory is never that of an input, which is too small for floats.
template <typename T, typename Backend, typename Run>
Status RunWidened(const Backend& backend, const Buffers& inputs, const Buffers& outputs,
                  const Run& run) {
  const DType type = inputs[0].type;
  Buffers wide_inputs = inputs, wide_outputs = outputs;
  const auto widen = [&](Buffer* buffer) {
    *buffer = Widened(*buffer, type);
    return TakeScratch(backend.scratch, buffer->bytes(), /*input=*/-1, &buffer->data);
  };
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].type != type) continue;
    TF_PLR_RETURN_IF_ERROR(widen(&wide_inputs[i]));
    TF_PLR_RETURN_IF_ERROR(backend.template Widen<T>(inputs[i], wide_inputs[i]));
  }
  for (Buffer& output : wide_outputs) {
    if (output.type == type) TF_PLR_RETURN_IF_ERROR(widen(&output));
  }
  const Scratch fresh = [&](size_t bytes, int) { return backend.scratch(bytes, /*input=*/-1); };
  TF_PLR_RETURN_IF_ERROR(run(Backend{backend.stream, fresh}, wide_inputs, wide_outputs));
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].type != type) continue;
    TF_PLR_RETURN_IF_ERROR(backend.template Narrow<T>(wide_outputs[i], outputs[i]));
  }
  return {};
}

}  // namespace tf_plr

#endif  // TF_PLR_CALLS_WIDENED_H_
