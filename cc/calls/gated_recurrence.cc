// SPDX-License-Identifier: MIT
// GatedRecurrence, its gradient and its transition: attributes, shapes, and what runs.
#include <algorithm>
#include <iterator>
#include <string>

#include "cc/calls/gated_binding.h"
#include "cc/calls/make.h"
#include "cc/calls/widened.h"

namespace tf_plr {

namespace {

// Reads an attribute that has one of the given names. Sets the position of its name.
template <typename Enum, size_t kCount>
Status ReadName(const Attributes& attributes, const char* attribute,
                const char* const (&names)[kCount], Enum* value) {
  const std::string given = attributes.String(attribute, names[0]);
  const auto* const found = std::find(std::begin(names), std::end(names), given);
  if (found == std::end(names)) {
    std::string known;
    for (const char* name : names) known += (known.empty() ? "'" : ", '") + std::string(name) + "'";
    return InvalidArgument(attribute, " must be one of ", known, ", but is '", given, "'");
  }
  *value = static_cast<Enum>(found - std::begin(names));
  return {};
}

}  // namespace

Status GatedAttributes::ReadParts(const Attributes& attributes) {
  GatedFunctions& functions = parts.functions;
  const auto read = [&](const char* attribute, const auto& names, auto* value) {
    return ReadName(attributes, attribute, names, value);
  };
  TF_PLR_RETURN_IF_ERROR(read("activation", kActivationNames, &functions.activation));
  TF_PLR_RETURN_IF_ERROR(read("state_activation", kActivationNames, &functions.state_activation));
  TF_PLR_RETURN_IF_ERROR(read("recurrent_activation", kGateNames, &functions.gate));
  TF_PLR_RETURN_IF_ERROR(read("input_gate", kInputGateNames, &parts.input_gate));
  TF_PLR_RETURN_IF_ERROR(read("output", kOutputNames, &parts.output));
  if (functions.state_activation != Activation::kLinear && !parts.has_output_gate()) {
    return InvalidArgument(
        "state_activation must be 'linear' if output is 'state' or 'previous', but is '",
        kActivationNames[static_cast<int>(functions.state_activation)], "'");
  }
  return {};
}

Status GatedAttributes::Read(const Attributes& attributes) {
  TF_PLR_RETURN_IF_ERROR(ReadParts(attributes));
  TF_PLR_RETURN_IF_ERROR(ReadAlgorithm(attributes, &algorithm));
  const auto read = [&](const char* count, const char* input, bool* given) {
    return ReadOptionalInput(attributes, count, input, given);
  };
  TF_PLR_RETURN_IF_ERROR(read("num_biases", "bias", &has_bias));
  TF_PLR_RETURN_IF_ERROR(read("num_highways", "highway", &has_highway));
  TF_PLR_RETURN_IF_ERROR(read("num_prefixes", "prefix", &has_prefix));
  TF_PLR_RETURN_IF_ERROR(read("num_initial_states", "initial_state", &has_initial_state));
  TF_PLR_RETURN_IF_ERROR(read("num_masks", "mask", &has_mask));
  TF_PLR_RETURN_IF_ERROR(read("num_resets", "resets", &has_resets));
  TF_PLR_RETURN_IF_ERROR(read("num_d_outputs", "d_outputs", &has_d_outputs));
  TF_PLR_RETURN_IF_ERROR(read("num_states", "states", &keeps_states));
  const char* const foreign = has_highway && !parts.has_highway()        ? "highway"
                              : has_prefix && !parts.takes_prefix()      ? "prefix"
                              : keeps_states && !parts.has_output_gate() ? "states"
                                                                         : nullptr;
  if (foreign != nullptr) {
    return InvalidArgument(foreign, " must not be given if output is '",
                           kOutputNames[static_cast<int>(parts.output)], "'");
  }
  holds = attributes.Int("hold", 0) != 0 && has_mask && parts.has_output_gate();
  return ReadBlocks(attributes.Ints("blocks"));
}

Status GatedAttributes::ReadBlocks(const std::vector<int64_t>& blocks) {
  const std::array<bool, kBlocks> wanted = {true, true, parts.has_input_gate(),
                                            parts.has_output_gate(),
                                            parts.has_highway() && !has_highway};
  const int64_t count = std::count(wanted.begin(), wanted.end(), true);
  if (static_cast<int64_t>(blocks.size()) != count) {
    return InvalidArgument("blocks must be ", count, " numbers for a cell of these parts, but are ",
                           blocks.size());
  }
  std::vector<int64_t> sorted = blocks;
  std::sort(sorted.begin(), sorted.end());
  for (int64_t i = 0; i < count; ++i) {
    if (sorted[i] != i) {
      return InvalidArgument("blocks must be the numbers from 0 to ", count - 1, " in some order");
    }
  }
  auto next = blocks.begin();
  for (size_t i = 0; i < wanted.size(); ++i) block[i] = wanted[i] ? *next++ : -1;
  if (wanted[kHighway] && block[kHighway] + 1 != count) {
    return InvalidArgument("the highway, which has no bias, must be the last block");
  }
  return {};
}

namespace {

enum class Kind { kForward, kGradient, kTransition };

template <Kind kKind>
class GatedCall final : public CallOnBoth<GatedCall<kKind>> {
 public:
  Status Read(const Attributes& attributes) {
    TF_PLR_RETURN_IF_ERROR(attributes_.Read(attributes));
    const bool linear = attributes_.parts.functions.state_activation == Activation::kLinear;
    if (kKind == Kind::kTransition && attributes_.has_d_outputs && !linear) {
      return InvalidArgument("state_activation must be 'linear' if d_outputs are given");
    }
    return {};
  }

  Status Plan(const Buffers& inputs, Buffers* outputs) const override {
    TF_PLR_RETURN_IF_ERROR(CheckInputs(inputs, CountInputs(), /*gated=*/true));
    const GatedInputs in = Name(inputs);
    const DType type = in.product->type;
    const Shape& product = in.product->shape;
    if (product.size() != 3) {
      return InvalidArgument(
          "product must have shape [batch, steps, blocks * units], but has shape ", product);
    }
    const int64_t blocks = attributes_.CountBlocks();
    if (product[2] % blocks != 0) {
      return InvalidArgument("the last axis of product must be ", blocks,
                             " blocks of one size, but has ", product[2], " elements");
    }
    if (in.prefix != nullptr && in.prefix->shape.size() != 3) {
      return InvalidArgument("prefix must have shape [batch, steps, features], but has shape ",
                             in.prefix->shape);
    }
    const GatedSizes sizes = SizesOf(in);
    const Shape steps = {sizes.batch, sizes.steps}, state = {sizes.batch, sizes.units};
    const Shape states = {sizes.batch, sizes.steps, sizes.units};
    const Shape widened = {sizes.batch, sizes.steps, sizes.output_width()};
    const Shape bias = {attributes_.CountBiasBlocks() * sizes.units};
    constexpr DType kFloat = DType::kFloat;
    constexpr char kOfState[] = "shape [batch, units]", kOfStates[] = "shape [batch, steps, units]";
    TF_PLR_RETURN_IF_ERROR(CheckInput("bias", in.bias, kFloat, "shape [blocks * units]", bias));
    TF_PLR_RETURN_IF_ERROR(CheckInput("highway", in.highway, type, kOfStates, states));
    if (in.prefix != nullptr) {
      TF_PLR_RETURN_IF_ERROR(CheckInput("prefix", in.prefix, type, "shape [batch, steps, features]",
                                        {sizes.batch, sizes.steps, in.prefix->shape[2]}));
    }
    TF_PLR_RETURN_IF_ERROR(CheckInput("initial_state", in.initial_state,
                                      kKind == Kind::kGradient ? type : kFloat, kOfState, state));
    TF_PLR_RETURN_IF_ERROR(
        CheckInput("mask", in.mask, DType::kBool, "shape [batch, steps]", steps));
    TF_PLR_RETURN_IF_ERROR(
        CheckInput("resets", in.resets, DType::kBool, "shape [batch, steps]", steps));
    TF_PLR_RETURN_IF_ERROR(CheckInput("states", in.states, type, kOfStates, widened));
    TF_PLR_RETURN_IF_ERROR(
        CheckInput("d_outputs", in.d_outputs, type, "the shape of outputs", widened));
    TF_PLR_RETURN_IF_ERROR(CheckInput("d_last_state", in.d_last_state, kFloat, kOfState, state));

    if constexpr (kKind == Kind::kTransition) {
      *outputs = {{kFloat, {2, sizes.batch, sizes.units}}};
    } else if constexpr (kKind == Kind::kForward) {
      *outputs = {{type, widened}};
      if (attributes_.keeps_states) outputs->push_back({type, states});
      outputs->push_back({kFloat, state});
    } else {
      *outputs = {*in.product};
      if (in.bias != nullptr) outputs->push_back({kFloat, bias});
      if (in.highway != nullptr) outputs->push_back({type, states});
      outputs->push_back({kFloat, state});
    }
    return {};
  }

  // Each block's gradient is written where the block was read, and only after that.
  int OverwritableInput() const override { return kKind == Kind::kGradient ? 0 : -1; }

  // In the order of Run's allocations.
  size_t MaxScratchBytes(const Buffers& inputs, bool on_gpu) const override {
    const GatedInputs in = Name(inputs);
    const GatedSizes sizes = SizesOf(in);
    size_t bytes = 0;
    if (on_gpu && Widens(in)) {
      Buffers outputs;
      if (!Plan(inputs, &outputs).ok()) return 0;
      const Buffers wide = Widened(inputs, in.product->type);
      return ScratchToWiden(inputs, outputs) + MaxScratchBytes(wide, on_gpu);
    }
    if (kKind == Kind::kGradient && attributes_.holds) {
      bytes += AlignedForScratch(in.d_outputs->bytes());
    }
    if (!on_gpu) return bytes;
    const bool sums = kKind == Kind::kGradient && in.bias != nullptr;
    const int64_t d_bias_width = sums && sizes.sums_in_scan() ? in.bias->size() : 0;
    bytes +=
        AlignedForScratch(ForGatedCell<true>(attributes_.parts, [&](auto cell, auto gradient_cell) {
          using Cell =
              std::conditional_t<kKind == Kind::kGradient, decltype(gradient_cell), decltype(cell)>;
          return ForGatedType(in.product->type, [&](auto type) {
            return MaxWorkspaceBytes<Cell, decltype(type)::value>(
                sizes.problem, attributes_.algorithm, d_bias_width);
          });
        }));
    if (kKind == Kind::kForward && attributes_.holds) {
      const Problem& p = sizes.problem;
      const HeldRows<float> rows{nullptr, nullptr, {}, p.outer, p.steps, p.inner};
      return bytes + AlignedForScratch(gpu::HoldWorkspaceBytes(rows));
    }
    if (!sums || sizes.sums_in_scan()) return bytes;
    const ColumnSums<float> pass{nullptr, sizes.rows(), in.bias->size(), sizes.product_width,
                                 nullptr};
    return bytes + AlignedForScratch(pass.workspace_bytes());
  }

  template <typename Backend>
  Status Run(const Backend& backend, const Buffers& inputs, const Buffers& outputs) const {
    return ForGatedType(inputs[0].type, [&](auto type) {
      using T = typename Backend::template Element<decltype(type)::value>;
      GatedInputs in = Name(inputs);
      if constexpr (!Backend::kHasAllFlags && BytesOf(decltype(type)::value) == 2) {
        if (Widens(in)) {
          return RunWidened<T>(backend, inputs, outputs,
                               [&](const auto& wide, const auto& in, const auto& out) {
                                 return Run(wide, in, out);
                               });
        }
      }
      const GatedSizes sizes = SizesOf(in);
      const GatedBinding<T> binding(attributes_, in, sizes, outputs);
      if constexpr (kKind == Kind::kForward) {
        return RunForward(backend, binding, sizes, outputs);
      } else if constexpr (kKind == Kind::kTransition) {
        return Reduce(backend, binding, sizes, outputs[0]);
      } else {
        // Turn the gradient of the held outputs into that of the outputs before they were held.
        Buffer d_outputs = *in.d_outputs;
        if (attributes_.holds) {
          const auto input = static_cast<int>(in.d_outputs - inputs.data());
          TF_PLR_RETURN_IF_ERROR(
              TakeScratch(backend.scratch, d_outputs.bytes(), input, &d_outputs.data));
          TF_PLR_RETURN_IF_ERROR(
              backend.SumHeld(binding.Held(Data<T>(*in.d_outputs), Data<T>(d_outputs))));
          in.d_outputs = &d_outputs;
        }
        return RunGradient(backend, binding, sizes);
      }
    });
  }

 private:
  // Whether a GPU computes in floats, because it has no kernels for resets or transitions in 16
  // bits. It has some for bfloat16: those for resets take pairs, and default functions.
  bool Widens(const GatedInputs& in) const {
    if (BytesOf(in.product->type) > 2) return false;
    if (kKind == Kind::kTransition) return in.product->type == DType::kHalf;
    if (in.resets == nullptr) return false;
    const bool pairs = in.product->type == DType::kBFloat16 && SizesOf(in).units % 2 == 0;
    return !pairs || !AreDefaults(attributes_.parts);
  }

  template <typename Backend, typename T>
  Status RunForward(const Backend& backend, const GatedBinding<T>& binding, const GatedSizes& sizes,
                    const Buffers& outputs) const {
    if (sizes.prefix_width > 0) TF_PLR_RETURN_IF_ERROR(backend.Copy(binding.Prefix()));
    TF_PLR_RETURN_IF_ERROR(
        ForGatedCell<Backend::kHasFixedCells>(attributes_.parts, [&](auto cell, auto) {
          return backend.Run(sizes.problem, binding.template Forward<decltype(cell)>(),
                             attributes_.algorithm);
        }));
    if (!attributes_.holds) return {};
    T* const data = Data<T>(outputs[0]);
    return backend.Hold(binding.Held(data, data));
  }

  template <typename Backend, typename Binding>
  Status RunGradient(const Backend& backend, const Binding& binding,
                     const GatedSizes& sizes) const {
    TF_PLR_RETURN_IF_ERROR(ForGatedCell<Backend::kHasFixedCells>(
        attributes_.parts, [&](auto cell, auto gradient_cell) {
          return backend.Run(sizes.problem,
                             binding.template Gradient<decltype(cell), decltype(gradient_cell)>(),
                             attributes_.algorithm);
        }));
    const bool summed = Backend::kSumsGradients && sizes.sums_in_scan();
    if (!attributes_.has_bias || summed) return {};
    return backend.Sum(binding.BiasGradient());
  }

  template <typename Backend, typename Binding>
  Status Reduce(const Backend& backend, const Binding& binding, const GatedSizes& sizes,
                const Buffer& transition) const {
    float* const data = Data<float>(transition);
    const ColumnTransitions<float> transitions = {data, data + transition.size() / 2};
    return ForGatedCell<Backend::kHasFixedCells>(attributes_.parts, [&](auto cell,
                                                                        auto gradient_cell) {
      const auto reduce = [&](const auto& steps) {
        return backend.Reduce(sizes.problem, steps, transitions);
      };
      return attributes_.has_d_outputs ? reduce(binding.template Steps<decltype(gradient_cell)>())
                                       : reduce(binding.template Steps<decltype(cell)>());
    });
  }

  size_t CountInputs() const {
    const GatedAttributes& a = attributes_;
    return size_t{1} + a.has_bias + a.has_highway + a.has_prefix + a.has_initial_state +
           a.has_mask + a.has_resets + a.has_d_outputs + (kKind == Kind::kGradient ? 3 : 0);
  }

  GatedInputs Name(const Buffers& inputs) const {
    const GatedAttributes& a = attributes_;
    const Buffer* next = inputs.data();
    const auto take = [&](bool given) { return given ? next++ : nullptr; };
    constexpr bool kIsGradient = kKind == Kind::kGradient;
    // Initializers are evaluated in order.
    return GatedInputs{
        take(true),         take(a.has_bias),          take(a.has_highway),
        take(a.has_prefix), take(a.has_initial_state), take(a.has_mask),
        take(a.has_resets), take(kIsGradient),         take(kIsGradient || a.has_d_outputs),
        take(kIsGradient)};
  }

  GatedSizes SizesOf(const GatedInputs& in) const {
    const Shape& product = in.product->shape;
    GatedSizes sizes{product[0],
                     product[1],
                     product[2] / attributes_.CountBlocks(),
                     product[2],
                     in.prefix == nullptr ? 0 : PaddedPrefix(in.prefix->shape[2]),
                     {}};
    const bool against_time = in.d_outputs != nullptr;
    // Without columns, the product of the other sizes may exceed an int64.
    const bool no_columns = sizes.batch == 0 || sizes.units == 0;
    sizes.problem = no_columns ? Problem{0, 0, 0, against_time}
                               : Problem{sizes.batch, sizes.steps, sizes.units, against_time};
    return sizes;
  }

  GatedAttributes attributes_;
};

}  // namespace

TF_PLR_DEFINE_MAKER(GatedRecurrence, GatedCall<Kind::kForward>)
TF_PLR_DEFINE_MAKER(GatedRecurrenceGrad, GatedCall<Kind::kGradient>)
TF_PLR_DEFINE_MAKER(GatedRecurrenceTransition, GatedCall<Kind::kTransition>)

}  // namespace tf_plr
