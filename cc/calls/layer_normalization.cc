// SPDX-License-Identifier: MIT
// LayerNormalization and its gradient: attributes, shapes, and which array is which.
#include "cc/engine/layer_normalization.h"

#include "cc/calls/backend.h"
#include "cc/calls/make.h"

namespace tf_plr {
namespace {

// The checks of both ops. `inputs` are the inputs, the scale and, of the gradient, the rest.
Status CheckRows(const Buffers& inputs, size_t count, Shape* statistics) {
  TF_PLR_RETURN_IF_ERROR(CheckInputs(inputs, count, /*gated=*/true));
  const Shape& shape = inputs[0].shape;
  if (shape.empty() || shape.back() == 0) {
    return InvalidArgument("inputs must have at least one feature, but have shape ", shape);
  }
  *statistics = shape;
  statistics->back() = 2;
  return CheckInput("scale", &inputs[1], DType::kFloat, "shape [features]", {shape.back()});
}

int64_t RowsOf(const Buffer& statistics) { return statistics.size() / 2; }

class LayerNormalizationCall final : public CallOnBoth<LayerNormalizationCall> {
 public:
  Status Read(const Attributes& attributes) {
    epsilon_ = attributes.Float("epsilon", -1);
    if (epsilon_ >= 0) return {};  // NaN is not.
    return InvalidArgument("epsilon must be 0 or more, but is ", epsilon_);
  }

  Status Plan(const Buffers& inputs, Buffers* outputs) const override {
    Shape statistics;
    TF_PLR_RETURN_IF_ERROR(CheckRows(inputs, 2, &statistics));
    *outputs = {{inputs[0].type, inputs[0].shape}, {DType::kFloat, statistics}};
    return {};
  }
  int OverwritableInput() const override { return 0; }

  template <typename Backend>
  Status Run(const Backend& backend, const Buffers& inputs, const Buffers& outputs) const {
    return ForGatedType(inputs[0].type, [&](auto type) {
      using T = typename Backend::template Element<decltype(type)::value>;
      return backend.Normalize(LayerNormalization<T>{Data<T>(inputs[0]), Data<float>(inputs[1]),
                                                     RowsOf(outputs[1]), inputs[1].size(), epsilon_,
                                                     Data<T>(outputs[0]), Data<float>(outputs[1])});
    });
  }

 private:
  float epsilon_ = 0;
};

class LayerNormalizationGradCall final : public CallOnBoth<LayerNormalizationGradCall> {
 public:
  Status Read(const Attributes&) { return {}; }

  Status Plan(const Buffers& inputs, Buffers* outputs) const override {
    Shape statistics;
    TF_PLR_RETURN_IF_ERROR(CheckRows(inputs, 4, &statistics));
    const Buffer& rows = inputs[0];
    TF_PLR_RETURN_IF_ERROR(
        CheckInput("statistics", &inputs[2], DType::kFloat, "shape [..., 2]", statistics));
    TF_PLR_RETURN_IF_ERROR(
        CheckInput("d_outputs", &inputs[3], rows.type, "the shape of inputs", rows.shape));
    *outputs = {{rows.type, rows.shape}, {DType::kFloat, inputs[1].shape}};
    return {};
  }
  int OverwritableInput() const override { return 3; }

  size_t MaxScratchBytes(const Buffers& inputs, bool on_gpu) const override {
    const ColumnSums<float> chunks = Chunks(inputs, nullptr, nullptr);
    return AlignedForScratch(chunks.rows * chunks.width * sizeof(float)) +
           (on_gpu ? AlignedForScratch(chunks.workspace_bytes()) : 0);
  }

  template <typename Backend>
  Status Run(const Backend& backend, const Buffers& inputs, const Buffers& outputs) const {
    ColumnSums<float> chunks = Chunks(inputs, nullptr, Data<float>(outputs[1]));
    void* memory;
    TF_PLR_RETURN_IF_ERROR(TakeScratch(backend.scratch, chunks.rows * chunks.width * sizeof(float),
                                       /*input=*/-1, &memory));
    auto* const d_scales = static_cast<float*>(memory);
    chunks.matrix = d_scales;
    TF_PLR_RETURN_IF_ERROR(ForGatedType(inputs[0].type, [&](auto type) {
      using T = typename Backend::template Element<decltype(type)::value>;
      return backend.DifferentiateNormalization(LayerNormalizationGradient<T>{
          Data<T>(inputs[0]), Data<T>(inputs[3]), Data<float>(inputs[1]), Data<float>(inputs[2]),
          RowsOf(inputs[2]), chunks.width, Data<T>(outputs[0]), d_scales});
    }));
    return backend.Sum(chunks);
  }

 private:
  // The column sums that add the chunks.
  static ColumnSums<float> Chunks(const Buffers& inputs, const float* d_scales, float* d_scale) {
    const int64_t width = inputs[1].size(), rows = RowsOf(inputs[2]);
    return {d_scales, LayerNormalizationGradient<float>::Chunks(rows), width, width, d_scale};
  }
};

}  // namespace

TF_PLR_DEFINE_MAKER(LayerNormalization, LayerNormalizationCall)
TF_PLR_DEFINE_MAKER(LayerNormalizationGrad, LayerNormalizationGradCall)

}  // namespace tf_plr
