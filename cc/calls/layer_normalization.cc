// SPDX-License-Identifier: MIT
// LayerNormalization and its gradient: attributes, shapes, and which array is which.
#include "cc/engine/layer_normalization.h"

#include <cmath>

#include "cc/calls/backend.h"
#include "cc/calls/make.h"

namespace tf_plr {
namespace {

// Checks the inputs of both ops that come first: the rows and their scale.
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

Status ReadEpsilon(const Attributes& attributes, float* epsilon) {
  *epsilon = attributes.Float("epsilon", -1);
  if (*epsilon >= 0 && std::isfinite(*epsilon)) return {};
  return InvalidArgument("epsilon must be finite and 0 or more, but is ", *epsilon);
}

int64_t RowsOf(const Buffer& statistics) { return statistics.size() / 2; }

class LayerNormalizationCall final : public CallOnBoth<LayerNormalizationCall> {
 public:
  Status Read(const Attributes& attributes) {
    TF_PLR_RETURN_IF_ERROR(ReadEpsilon(attributes, &epsilon_));
    return ReadOptionalInput(attributes, "num_biases", "bias", &has_bias_);
  }

  Status Plan(const Buffers& inputs, Buffers* outputs) const override {
    Shape statistics;
    TF_PLR_RETURN_IF_ERROR(CheckRows(inputs, size_t{2} + has_bias_, &statistics));
    if (has_bias_) {
      TF_PLR_RETURN_IF_ERROR(
          CheckInput("bias", &inputs[2], DType::kFloat, "shape [features]", inputs[1].shape));
    }
    *outputs = {{inputs[0].type, inputs[0].shape}, {DType::kFloat, statistics}};
    return {};
  }
  int OverwritableInput() const override { return 0; }

  template <typename Backend>
  Status Run(const Backend& backend, const Buffers& inputs, const Buffers& outputs) const {
    return ForGatedType(inputs[0].type, [&](auto type) {
      using T = typename Backend::template Element<decltype(type)::value>;
      const float* const bias = has_bias_ ? Data<float>(inputs[2]) : nullptr;
      return backend.Normalize(LayerNormalization<T>{
          Data<T>(inputs[0]), Data<float>(inputs[1]), bias, RowsOf(outputs[1]), inputs[1].size(),
          epsilon_, Data<T>(outputs[0]), Data<float>(outputs[1])});
    });
  }

 private:
  float epsilon_ = 0;
  bool has_bias_ = false;
};

class LayerNormalizationGradCall final : public CallOnBoth<LayerNormalizationGradCall> {
 public:
  Status Read(const Attributes& attributes) {
    float epsilon;  // Second derivatives need it.
    TF_PLR_RETURN_IF_ERROR(ReadEpsilon(attributes, &epsilon));
    return ReadOptionalInput(attributes, "num_biases", "bias", &has_bias_);
  }

  Status Plan(const Buffers& inputs, Buffers* outputs) const override {
    Shape statistics;
    TF_PLR_RETURN_IF_ERROR(CheckRows(inputs, 4, &statistics));
    const Buffer& rows = inputs[0];
    TF_PLR_RETURN_IF_ERROR(
        CheckInput("statistics", &inputs[2], DType::kFloat, "shape [..., 2]", statistics));
    TF_PLR_RETURN_IF_ERROR(
        CheckInput("d_outputs", &inputs[3], rows.type, "the shape of inputs", rows.shape));
    *outputs = {{rows.type, rows.shape}, {DType::kFloat, inputs[1].shape}};
    if (has_bias_) outputs->push_back({DType::kFloat, inputs[1].shape});
    return {};
  }
  int OverwritableInput() const override { return 3; }

  size_t MaxScratchBytes(const Buffers& inputs, bool on_gpu) const override {
    const ColumnSums<float> sums = SumsOfChunks(inputs);
    const size_t of_chunks = AlignedForScratch(BytesOfChunks(sums));
    const size_t of_sums = on_gpu ? AlignedForScratch(sums.workspace_bytes()) : 0;
    return (size_t{1} + has_bias_) * (of_chunks + of_sums);
  }

  template <typename Backend>
  Status Run(const Backend& backend, const Buffers& inputs, const Buffers& outputs) const {
    ColumnSums<float> sums = SumsOfChunks(inputs);
    void* of_chunks[2] = {};  // Of the scale and the bias.
    for (int i = 0; i < 1 + has_bias_; ++i) {
      TF_PLR_RETURN_IF_ERROR(
          TakeScratch(backend.scratch, BytesOfChunks(sums), /*input=*/-1, &of_chunks[i]));
    }
    auto* const d_scales = static_cast<float*>(of_chunks[0]);
    auto* const d_biases = static_cast<float*>(of_chunks[1]);
    TF_PLR_RETURN_IF_ERROR(ForGatedType(inputs[0].type, [&](auto type) {
      using T = typename Backend::template Element<decltype(type)::value>;
      return backend.DifferentiateNormalization(LayerNormalizationGradient<T>{
          Data<T>(inputs[0]), Data<T>(inputs[3]), Data<float>(inputs[1]), Data<float>(inputs[2]),
          RowsOf(inputs[2]), sums.width, Data<T>(outputs[0]), d_scales, d_biases});
    }));
    for (int i = 0; i < 1 + has_bias_; ++i) {
      sums.matrix = static_cast<float*>(of_chunks[i]);
      sums.sums = Data<float>(outputs[1 + i]);
      TF_PLR_RETURN_IF_ERROR(backend.Sum(sums));
    }
    return {};
  }

 private:
  // The sums over chunks, without their arrays.
  static ColumnSums<float> SumsOfChunks(const Buffers& inputs) {
    const int64_t width = inputs[1].size();
    const int64_t chunks = LayerNormalizationGradient<float>::Chunks(RowsOf(inputs[2]));
    return {nullptr, chunks, width, width, nullptr};
  }
  static size_t BytesOfChunks(const ColumnSums<float>& sums) {
    return sums.rows * sums.width * sizeof(float);
  }

  bool has_bias_ = false;  // Whether the gradient of a bias is wanted.
};

}  // namespace

TF_PLR_DEFINE_MAKER(LayerNormalization, LayerNormalizationCall)
TF_PLR_DEFINE_MAKER(LayerNormalizationGrad, LayerNormalizationGradCall)

}  // namespace tf_plr
