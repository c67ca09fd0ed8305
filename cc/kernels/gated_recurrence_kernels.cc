// SPDX-License-Identifier: MIT
// OpKernels of the gated ops: check the arguments, allocate the results, call the device's engine.
#include <utility>
#include <vector>

#include "cc/kernels/devices.h"
#include "cc/kernels/gated_ops.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tf_plr {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

template <typename Op, typename Device, typename T>
class GatedKernel : public OpKernel {
 public:
  explicit GatedKernel(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadAttributes(context, &call_));
    call_.keeps_states = !Op::kIsGradient && context->num_outputs() == 3;
  }

  void Compute(OpKernelContext* context) override {
    using Element = typename Device::template Element<T>;
    GatedCall call = call_;
    std::vector<TensorShape> input_shapes, output_shapes;
    std::vector<void*> inputs, outputs;
    for (int i = 0; i < context->num_inputs(); ++i) {
      input_shapes.push_back(context->input(i).shape());
      inputs.push_back(DataOf<char>(context->input(i)));
    }
    OP_REQUIRES_OK(context, Op::ReadShapes(input_shapes, &call, &output_shapes));
    for (int i = 0; i < context->num_outputs(); ++i) {
      Tensor* output;
      if (i == 0 && Op::kIsGradient) {  // Blocks are written where they were read, never before.
        OP_REQUIRES_OK(
            context, context->forward_input_or_allocate_output({0}, i, output_shapes[i], &output));
      } else {
        OP_REQUIRES_OK(context, context->allocate_output(i, output_shapes[i], &output));
      }
      outputs.push_back(DataOf<char>(*output));
    }
    const GatedBinding<Element> binding(call, sizeof(T), inputs, outputs);
    Tensor d_outputs;
    if constexpr (Op::kIsGradient) {
      if (call.holds) {
        const auto place = static_cast<int>(GatedRecurrenceGrad::DOutputs(call));
        OP_REQUIRES_OK(context,
                       context->forward_input_or_allocate_temp({place}, context->input_dtype(place),
                                                               input_shapes[place], &d_outputs));
        void* const d_held = std::exchange(inputs[place], DataOf<char>(d_outputs));
        OP_REQUIRES_OK(context,
                       Device::SumHeld(context, binding.HeldGradient(d_held, inputs[place])));
      }
    }
    if (!Op::kIsGradient && call.InFront() > 0) {
      OP_REQUIRES_OK(context, Device::CopyInFront(context, binding.InFront()));
    }
    OP_REQUIRES_OK(context, ForGatedCell(call.cell, [&](auto cell, auto gradient_cell) {
                     using Cell = decltype(cell);
                     if constexpr (Op::kIsGradient) {
                       return Device::Run(
                           context, call.problem,
                           binding.template Gradient<Cell, decltype(gradient_cell)>(),
                           call.algorithm);
                     } else {
                       return Device::Run(context, call.problem, binding.template Forward<Cell>(),
                                          call.algorithm);
                     }
                   }));
    if (!Op::kIsGradient && call.holds) {
      OP_REQUIRES_OK(context, Device::Hold(context, binding.Held()));
    }
    if constexpr (Op::kIsGradient) {
      if (call.has_bias) OP_REQUIRES_OK(context, Device::Sum(context, binding.BiasGradient()));
    }
  }

 private:
  GatedCall call_;
};

#define TF_PLR_REGISTER_ON(Device_, DEVICE, T)                                                    \
  REGISTER_KERNEL_BUILDER(Name(GatedRecurrence::kName).Device(DEVICE).TypeConstraint<T>("T"),     \
                          GatedKernel<GatedRecurrence, Device_, T>);                              \
  REGISTER_KERNEL_BUILDER(Name(GatedRecurrenceGrad::kName).Device(DEVICE).TypeConstraint<T>("T"), \
                          GatedKernel<GatedRecurrenceGrad, Device_, T>);
#define TF_PLR_REGISTER_CPU(T, dtype, xla) TF_PLR_REGISTER_ON(Cpu, tensorflow::DEVICE_CPU, T)
#define TF_PLR_REGISTER_GPU(T, dtype, xla) TF_PLR_REGISTER_ON(Gpu, tensorflow::DEVICE_GPU, T)

TF_PLR_FOR_EACH_GATED_TYPE(TF_PLR_REGISTER_CPU)
#if defined(TF_PLR_CUDA)
TF_PLR_FOR_EACH_GATED_TYPE(TF_PLR_REGISTER_GPU)
#endif

}  // namespace
}  // namespace tf_plr
