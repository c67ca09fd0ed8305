// SPDX-License-Identifier: MIT
// The attributes and inputs of the gated ops, and how buffers become the arrays of a cell.
#ifndef TF_PLR_CALLS_GATED_BINDING_H_
#define TF_PLR_CALLS_GATED_BINDING_H_

#include <algorithm>
#include <array>
#include <iterator>
#include <string>
#include <vector>

#include "cc/calls/backend.h"
#include "cc/calls/gated_cells.h"
#include "cc/engine/cells/gated.h"

namespace tf_plr {

// The inputs by name. An input that a call lacks is null.
struct GatedInputs {
  const Buffer *product, *bias, *highway, *prefix, *initial_state, *mask, *resets;
  const Buffer *states, *d_outputs, *d_last_state;
};

// The sizes that follow from the shapes of the inputs.
struct GatedSizes {
  int64_t batch, steps, units;
  int64_t product_width, prefix_width;  // Elements per row. The prefix's include padding.
  Problem problem;                      // 0 x 0 x 0 if there are no columns.

  // Whether a gradient's scan sums the gradients of biases, if its engine can. For each sequence it
  // writes rows of sums, which pays only if steps are many more.
  bool sums_in_scan() const { return steps >= 64; }

  int64_t rows() const { return problem.outer * problem.steps; }
  int64_t output_width() const { return prefix_width + units; }
};

// The attributes of a call, checked.
class GatedAttributes {
 public:
  // Names of the blocks. block[name] is the position of the block in the product, or -1 if there is
  // none.
  enum Block { kForget, kCandidate, kInput, kOutputGate, kHighway, kBlocks };

  Status Read(const Attributes& attributes);

  int64_t CountBlocks() const {
    return std::count_if(block.begin(), block.end(), [](int64_t b) { return b >= 0; });
  }
  // Blocks that have a bias: the highway has none.
  int64_t CountBiasBlocks() const { return CountBlocks() - (block[kHighway] >= 0); }

  GatedParts parts = {};
  std::array<int64_t, kBlocks> block;
  bool has_bias = false, has_highway = false, has_prefix = false, has_initial_state = false;
  bool has_mask = false, has_resets = false, has_d_outputs = false, keeps_states = false;
  bool holds = false;  // Whether masked steps repeat the output of the last valid step.
  Algorithm algorithm = Algorithm::kAuto;

 private:
  Status ReadParts(const Attributes& attributes);
  Status ReadBlocks(const std::vector<int64_t>& blocks);
};

// Maps the buffers of a call to the arrays of its cell.
template <typename T>
class GatedBinding {
 public:
  GatedBinding(const GatedAttributes& attributes, const GatedInputs& inputs,
               const GatedSizes& sizes, const Buffers& outputs)
      : attributes_(attributes),
        inputs_(inputs),
        sizes_(sizes),
        outputs_(outputs),
        units_(sizes.problem.inner),
        output_width_(sizes.prefix_width + units_),
        flags_{DataOf<bool>(inputs.mask), DataOf<bool>(inputs.resets)} {}

  template <typename Cell>
  Arrays<Cell, T> Forward() const {
    Arrays<Cell, T> arrays = WithoutArrays<Cell>();
    TakeBlock(&arrays, Cell::kForget, GatedAttributes::kForget);
    TakeBlock(&arrays, Cell::kCandidate, GatedAttributes::kCandidate);
    if constexpr (Cell::kHasInputGate) TakeBlock(&arrays, Cell::kInput, GatedAttributes::kInput);
    if constexpr (Cell::kHasOutputGate) {
      TakeBlock(&arrays, Cell::kOutputGate, GatedAttributes::kOutputGate);
      if (attributes_.keeps_states) {
        SetOutput(&arrays, Cell::kPreviousStates, outputs_[1], 0, units_);
      }
    }
    if constexpr (Cell::kHasHighway) TakeHighway(&arrays, Cell::kHighway);
    SetOutput(&arrays, Cell::kH, outputs_[0], sizes_.prefix_width, output_width_);
    arrays.initial_carry = DataOf<float>(inputs_.initial_state);
    arrays.final_carry = Data<float>(outputs_.back());
    return arrays;
  }

  // The gradient cell numbers its outputs as the forward cell numbers its inputs.
  template <typename Forward, typename Cell>
  Arrays<Cell, T> Gradient() const {
    Arrays<Cell, T> arrays = WithoutArrays<Cell>();
    auto& gated = arrays.gated;
    std::fill(std::begin(gated.d_bias_offsets), std::end(gated.d_bias_offsets), -1);
    if (attributes_.has_bias && sizes_.sums_in_scan()) {
      gated.d_bias = Data<float>(outputs_[1]);
      gated.d_bias_width = outputs_[1].size();
    }
    const auto take = [&](int input, int output, GatedAttributes::Block block) {
      TakeBlock(&arrays, input, block);
      SetOutput(&arrays, output, outputs_[0], Offset(block), sizes_.product_width);
      gated.d_bias_offsets[output] = Offset(block);
    };
    take(Cell::kForget, Forward::kForget, GatedAttributes::kForget);
    take(Cell::kCandidate, Forward::kCandidate, GatedAttributes::kCandidate);
    if constexpr (Cell::kHasInputGate) take(Cell::kInput, Forward::kInput, GatedAttributes::kInput);
    if constexpr (Cell::kHasOutputGate) {
      take(Cell::kOutputGate, Forward::kOutputGate, GatedAttributes::kOutputGate);
    }
    if constexpr (Cell::kHasHighway) {
      TakeHighway(&arrays, Cell::kHighway);
      if (inputs_.highway != nullptr) {
        SetOutput(&arrays, Forward::kHighway, outputs_[1 + attributes_.has_bias], 0, units_);
      } else {
        SetOutput(&arrays, Forward::kHighway, outputs_[0], Offset(GatedAttributes::kHighway),
                  sizes_.product_width);
      }
    }
    SetInput(&arrays, Cell::kPreviousStates, *inputs_.states, sizes_.prefix_width, output_width_);
    SetInput(&arrays, Cell::kDH, *inputs_.d_outputs, sizes_.prefix_width, output_width_);
    arrays.initial_carry = Data<float>(*inputs_.d_last_state);
    arrays.final_carry = Data<float>(outputs_.back());
    arrays.boundary = DataOf<T>(inputs_.initial_state);
    return arrays;
  }

  // The arrays that Cell::Step reads. Cell is a forward cell, or a gradient cell whose states have
  // no activation.
  template <typename Cell>
  Arrays<Cell, T> Steps() const {
    Arrays<Cell, T> arrays = WithoutArrays<Cell>();
    TakeBlock(&arrays, Cell::kForget, GatedAttributes::kForget);
    if constexpr (Cell::kIsGradient) {
      if constexpr (Cell::kHasOutputGate) {
        TakeBlock(&arrays, Cell::kOutputGate, GatedAttributes::kOutputGate);
      }
      SetInput(&arrays, Cell::kDH, *inputs_.d_outputs, sizes_.prefix_width, output_width_);
    } else {
      TakeBlock(&arrays, Cell::kCandidate, GatedAttributes::kCandidate);
      if constexpr (Cell::kHasInputGate) TakeBlock(&arrays, Cell::kInput, GatedAttributes::kInput);
    }
    return arrays;
  }

  CopyRows Prefix() const {
    return {
        Data<char>(*inputs_.prefix),        Data<char>(outputs_[0]),       sizes_.rows(),
        inputs_.prefix->shape[2] * Bytes(), sizes_.prefix_width * Bytes(), output_width_ * Bytes()};
  }

  // The column sums that turn the gradient of the product into that of the bias, if the scan has
  // not summed.
  ColumnSums<T> BiasGradient() const {
    return {Data<T>(outputs_[0]), sizes_.rows(), attributes_.CountBiasBlocks() * sizes_.units,
            sizes_.product_width, Data<float>(outputs_[1])};
  }

  HeldRows<T> Held(const T* from, T* to) const {
    const Problem& problem = sizes_.problem;
    return {from, to, flags_, problem.outer, problem.steps, problem.inner};
  }

 private:
  // Arrays with only the flags and the functions set.
  template <typename Cell>
  Arrays<Cell, T> WithoutArrays() const {
    Arrays<Cell, T> arrays{};
    arrays.flags = flags_;
    if constexpr (!Cell::Functions::kFixed) arrays.gated.functions = attributes_.parts.functions;
    return arrays;
  }
  template <typename SomeArrays>
  void SetInput(SomeArrays* arrays, int input, const Buffer& buffer, int64_t offset,
                int64_t stride) const {
    arrays->inputs[input] = At(buffer, offset);
    arrays->gated.input_strides[input] = stride;
  }
  template <typename SomeArrays>
  void SetOutput(SomeArrays* arrays, int output, const Buffer& buffer, int64_t offset,
                 int64_t stride) const {
    arrays->outputs[output] = At(buffer, offset);
    arrays->gated.output_strides[output] = stride;
  }
  template <typename SomeArrays>
  void TakeBlock(SomeArrays* arrays, int input, GatedAttributes::Block block) const {
    SetInput(arrays, input, *inputs_.product, Offset(block), sizes_.product_width);
    arrays->gated.biases[input] =
        inputs_.bias == nullptr ? nullptr : Data<float>(*inputs_.bias) + Offset(block);
  }
  // A highway has no bias, whether it is an input or a block.
  template <typename SomeArrays>
  void TakeHighway(SomeArrays* arrays, int input) const {
    if (inputs_.highway != nullptr) {
      SetInput(arrays, input, *inputs_.highway, 0, units_);
    } else {
      SetInput(arrays, input, *inputs_.product, Offset(GatedAttributes::kHighway),
               sizes_.product_width);
    }
  }
  // T may be an incomplete type, so offsets are in bytes.
  int64_t Bytes() const { return BytesOf(inputs_.product->type); }
  T* At(const Buffer& buffer, int64_t offset) const {
    return reinterpret_cast<T*>(Data<char>(buffer) + offset * Bytes());
  }
  int64_t Offset(GatedAttributes::Block block) const { return attributes_.block[block] * units_; }

  const GatedAttributes& attributes_;
  const GatedInputs& inputs_;
  const GatedSizes& sizes_;
  const Buffers& outputs_;
  const int64_t units_, output_width_;  // 0 if there are no columns.
  const StepFlags flags_;
};

}  // namespace tf_plr

#endif  // TF_PLR_CALLS_GATED_BINDING_H_
