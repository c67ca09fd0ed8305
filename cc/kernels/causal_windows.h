// SPDX-License-Identifier: MIT
// CausalWindows and its gradient as the kernels see them, with or without XLA.
#ifndef TF_PLR_KERNELS_CAUSAL_WINDOWS_H_
#define TF_PLR_KERNELS_CAUSAL_WINDOWS_H_

#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cc/engine/causal_windows.h"
#include "cc/kernels/shapes.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor_shape.h"

namespace tf_plr {

// All that there is to know of a call but where its buffers are.
struct WindowsCall {
  int64_t size;  // Rows of a window.
  bool has_mask;
  int64_t batch, steps, width;

  absl::Status Read(tensorflow::OpKernelConstruction* context) {
    int masks;
    TF_RETURN_IF_ERROR(context->GetAttr("num_masks", &masks));
    TF_RETURN_IF_ERROR(context->GetAttr("size", &size));
    has_mask = masks == 1;
    if (masks <= 1) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("mask must be at most one tensor, but ", masks, " came"));
  }

  // Whether the number of elements of a window fits in an int64.
  bool Fits() const {
    int64_t elements;
    return width >= 0 && !__builtin_mul_overflow(width, size, &elements);
  }

  // From the op's own order of buffers: of the gradient, windows come first and inputs go out.
  template <typename Element>
  CausalWindows<Element> Bind(bool is_gradient, const std::vector<void*>& inputs,
                              const std::vector<void*>& outputs) const {
    const auto& sources = is_gradient ? outputs : inputs;
    const auto& windows = is_gradient ? inputs : outputs;
    const auto at = [](void* data) { return static_cast<Element*>(data); };
    const auto* mask = has_mask ? static_cast<const bool*>(inputs[2]) : nullptr;
    const bool empty = batch == 0 || width == 0;  // Then the others may be any number.
    return {at(sources[0]),    at(sources[1]),    at(windows[0]),    at(windows[1]),      mask,
            empty ? 0 : batch, empty ? 0 : steps, empty ? 0 : width, empty ? 0 : size - 1};
  }
};

template <bool kIsGradient_>
struct CausalWindowsOp {
  static constexpr bool kIsGradient = kIsGradient_;
  static constexpr const char* kName =
      kIsGradient ? "TfPlr>CausalWindowsGrad" : "TfPlr>CausalWindows";

  static absl::Status ReadShapes(const std::vector<tensorflow::TensorShape>& inputs,
                                 WindowsCall* call, std::vector<tensorflow::TensorShape>* outputs) {
    const char* const name = kIsGradient ? "d_windows" : "inputs";
    const tensorflow::TensorShape& sequences = inputs[0];
    if (sequences.dims() != 3) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " must be of rank 3, but has shape ", sequences.DebugString()));
    }
    call->batch = sequences.dim_size(0);
    call->steps = sequences.dim_size(1);
    call->width = sequences.dim_size(2) / (kIsGradient ? call->size : 1);
    if (kIsGradient && sequences.dim_size(2) % call->size != 0) {
      return absl::InvalidArgumentError(absl::StrCat("the last axis of d_windows must be ",
                                                     call->size, " rows of one size, but has ",
                                                     sequences.dim_size(2), " elements"));
    }
    if (!call->Fits()) {
      return absl::InvalidArgumentError(absl::StrCat("size is ", call->size, ", and inputs have ",
                                                     call->width,
                                                     " features: more than a window can have"));
    }
    const int64_t before = (call->size - 1) * call->width;
    TF_RETURN_IF_ERROR(Expect(kIsGradient ? "d_last_history" : "history", inputs[1],
                              {call->batch, before}, "[batch, (size - 1) * features]"));
    if (call->has_mask) {
      TF_RETURN_IF_ERROR(Expect("mask", inputs[2], {call->batch, call->steps}, "[batch, steps]"));
    }
    outputs->clear();
    const int64_t width = kIsGradient ? call->width : call->size * call->width;
    TF_RETURN_IF_ERROR(Append({call->batch, call->steps, width}, outputs));
    return Append({call->batch, before}, outputs);
  }
};
using CausalWindowsForward = CausalWindowsOp<false>;
using CausalWindowsGrad = CausalWindowsOp<true>;

}  // namespace tf_plr

#endif  // TF_PLR_KERNELS_CAUSAL_WINDOWS_H_
