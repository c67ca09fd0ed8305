// SPDX-License-Identifier: MIT
// CausalWindows and its gradient: attributes, shapes, and which array is which.
#include "cc/engine/causal_windows.h"

#include "cc/calls/backend.h"
#include "cc/calls/make.h"

namespace tf_plr {
namespace {

// A gradient's inputs have the types and shapes of the outputs, and its outputs those of the
// inputs.
template <bool kIsGradient>
class WindowsCall final : public CallOnBoth<WindowsCall<kIsGradient>> {
 public:
  Status Read(const Attributes& attributes) {
    size_ = attributes.Int("size", 0);
    if (size_ < 2) return InvalidArgument("size must be 2 or more, but is ", size_);
    TF_PLR_RETURN_IF_ERROR(ReadOptionalInput(attributes, "num_masks", "mask", &has_mask_));
    return ReadOptionalInput(attributes, "num_resets", "resets", &has_resets_);
  }

  Status Plan(const Buffers& inputs, Buffers* outputs) const override {
    TF_PLR_RETURN_IF_ERROR(
        CheckInputs(inputs, size_t{2} + has_mask_ + has_resets_, /*gated=*/true));
    const char* const name = kIsGradient ? "d_windows" : "inputs";
    const DType type = inputs[0].type;
    const Shape& sequences = inputs[0].shape;
    if (sequences.size() != 3) {
      return InvalidArgument(name, " must be of rank 3, but has shape ", sequences);
    }
    if (kIsGradient && sequences[2] % size_ != 0) {
      return InvalidArgument("the last axis of d_windows must be ", size_,
                             " rows of one size, but has ", sequences[2], " elements");
    }
    const int64_t batch = sequences[0], steps = sequences[1], width = WidthOf(inputs);
    int64_t window;
    if (__builtin_mul_overflow(width, size_, &window)) {
      return InvalidArgument("size is ", size_, ", and inputs have ", width,
                             " features: more than a window can have");
    }
    const Shape history = {batch, (size_ - 1) * width};
    TF_PLR_RETURN_IF_ERROR(CheckInput(kIsGradient ? "d_last_history" : "history", &inputs[1], type,
                                      "shape [batch, (size - 1) * features]", history));
    for (size_t i = 2; i < inputs.size(); ++i) {
      TF_PLR_RETURN_IF_ERROR(CheckInput(has_mask_ && i == 2 ? "mask" : "resets", &inputs[i],
                                        DType::kBool, "shape [batch, steps]", {batch, steps}));
    }
    *outputs = {{type, {batch, steps, kIsGradient ? width : window}}, {type, history}};
    return {};
  }

  template <typename Backend>
  Status Run(const Backend& backend, const Buffers& inputs, const Buffers& outputs) const {
    return ForGatedType(inputs[0].type, [&](auto type) {
      using T = typename Backend::template Element<decltype(type)::value>;
      const Buffers& sources = kIsGradient ? outputs : inputs;
      const Buffers& windows = kIsGradient ? inputs : outputs;
      const auto at = [](const Buffer& buffer) { return Data<T>(buffer); };
      const StepFlags flags{has_mask_ ? Data<bool>(inputs[2]) : nullptr,
                            has_resets_ ? Data<bool>(inputs.back()) : nullptr};
      const int64_t batch = inputs[0].shape[0], steps = inputs[0].shape[1];
      const int64_t width = WidthOf(inputs), before = size_ - 1;
      if (batch == 0 || width == 0) return Status{};  // The other sizes may be any numbers.
      const CausalWindows<T> arrays{at(sources[0]), at(sources[1]), at(windows[0]),
                                    at(windows[1]), flags,          batch,
                                    steps,          width,          before};
      return kIsGradient ? backend.FromWindows(arrays) : backend.ToWindows(arrays);
    });
  }

 private:
  int64_t WidthOf(const Buffers& inputs) const {
    return inputs[0].shape[2] / (kIsGradient ? size_ : 1);
  }

  int64_t size_ = 0;  // Rows of a window.
  bool has_mask_ = false, has_resets_ = false;
};

}  // namespace

TF_PLR_DEFINE_MAKER(CausalWindows, WindowsCall<false>)
TF_PLR_DEFINE_MAKER(CausalWindowsGrad, WindowsCall<true>)

}  // namespace tf_plr
