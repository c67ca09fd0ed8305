// SPDX-License-Identifier: MIT
// A call of an op, independent of TensorFlow. TensorFlow's executor, XLA's compiler and XLA's
// runtime all make their calls through this interface, so the checks, the memory needs and the
// computation of an op are written once. Besides TfPlrRegisterHandlers (cc/xla/handlers.h), the
// engine library exports nothing else.
#ifndef TF_PLR_CALLS_CALL_H_
#define TF_PLR_CALLS_CALL_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cc/calls/status.h"
#include "cc/engine/cpu/workers.h"
#include "cc/engine/types.h"

#define TF_PLR_EXPORT __attribute__((visibility("default")))

// The ops: M(Op, the list of the types that it takes). The transitions have no XLA kernel, because
// nothing that exchanges states between replicas may run under XLA.
#define TF_PLR_FOR_EACH_XLA_OP(M)                    \
  M(LinearRecurrence, TF_PLR_FOR_EACH_TYPE)          \
  M(LinearRecurrenceGrad, TF_PLR_FOR_EACH_TYPE)      \
  M(GatedRecurrence, TF_PLR_FOR_EACH_GATED_TYPE)     \
  M(GatedRecurrenceGrad, TF_PLR_FOR_EACH_GATED_TYPE) \
  M(CausalWindows, TF_PLR_FOR_EACH_GATED_TYPE)       \
  M(CausalWindowsGrad, TF_PLR_FOR_EACH_GATED_TYPE)   \
  M(LayerNormalization, TF_PLR_FOR_EACH_GATED_TYPE)  \
  M(LayerNormalizationGrad, TF_PLR_FOR_EACH_GATED_TYPE)
#define TF_PLR_FOR_EACH_OP(M)                         \
  TF_PLR_FOR_EACH_XLA_OP(M)                           \
  M(LinearRecurrenceTransition, TF_PLR_FOR_EACH_TYPE) \
  M(GatedRecurrenceTransition, TF_PLR_FOR_EACH_GATED_TYPE)

namespace tf_plr {

// An input or output of a call, row-major. `data` is null where only the shape is needed.
struct Buffer {
  DType type;
  Shape shape;
  void* data = nullptr;

  int64_t size() const { return CountElements(shape); }
  size_t bytes() const { return static_cast<size_t>(size()) * BytesOf(type); }
};
using Buffers = std::vector<Buffer>;

// An op's attributes, under the names in its signature.
class Attributes {
 public:
  virtual ~Attributes() = default;
  // Also reads booleans. Returns `otherwise` if there is no such attribute.
  virtual int64_t Int(const char* name, int64_t otherwise) const = 0;
  virtual float Float(const char* name, float otherwise) const = 0;
  virtual std::vector<int64_t> Ints(const char* name) const = 0;
  virtual std::string String(const char* name, const char* otherwise) const = 0;
};

// Returns memory of the device for the duration of a call, aligned to 16 bytes, or null if there is
// not enough. If `input` is not negative, `bytes` is the size of that input, and the result may be
// the input's own memory, if nobody else needs the input.
using Scratch = std::function<void*(size_t bytes, int input)>;

// What a call takes of its scratch memory for `bytes` bytes.
inline size_t AlignedForScratch(size_t bytes) { return (bytes + 15) / 16 * 16; }
// Takes scratch memory; sets `memory` to null if `bytes` is 0.
inline Status TakeScratch(const Scratch& scratch, size_t bytes, int input, void** memory) {
  *memory = bytes == 0 ? nullptr : scratch(bytes, input);
  if (bytes == 0 || *memory != nullptr) return {};
  return {Status::kResourceExhausted,
          "tf_plr could not allocate " + std::to_string(bytes) + " bytes of scratch memory"};
}

class Call {
 public:
  // `op` is a name in TensorFlow's registry, such as "TfPlr>LinearRecurrence".
  TF_PLR_EXPORT static Status Make(const std::string& op, const Attributes& attributes,
                                   std::unique_ptr<Call>* call);
  virtual ~Call() = default;

  // Checks the types and shapes of the inputs; sets those of the outputs.
  virtual Status Plan(const Buffers& inputs, Buffers* outputs) const = 0;
  // The input whose memory output 0 may reuse, or -1.
  virtual int OverwritableInput() const { return -1; }
  // An upper bound of the scratch memory of the call: on a CPU, or, if on_gpu, on any GPU.
  virtual size_t MaxScratchBytes(const Buffers& /*inputs*/, bool /*on_gpu*/) const { return 0; }

  // Run a call that Plan has checked. RunOnCpu returns when the call is done; RunOnGpu enqueues it
  // on `stream`, a cudaStream_t.
  virtual Status RunOnCpu(const Buffers& inputs, const Buffers& outputs, const Scratch& scratch,
                          const Workers& workers) const = 0;
#if defined(TF_PLR_CUDA)
  virtual Status RunOnGpu(const Buffers& inputs, const Buffers& outputs, const Scratch& scratch,
                          void* stream) const = 0;
#endif
};

}  // namespace tf_plr

#endif  // TF_PLR_CALLS_CALL_H_
