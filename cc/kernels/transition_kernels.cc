// SPDX-License-Identifier: MIT
// OpKernels of what all steps of a recurrence do together: check the arguments, allocate the
// result, call the device's engine.
#include <vector>

#include "cc/kernels/devices.h"
#include "cc/kernels/gated_ops.h"
#include "cc/kernels/native_ops.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tf_plr {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

// The two halves of a tensor.
template <typename A>
ColumnTransitions<A> TransitionsOf(const Tensor& tensor) {
  A* const data = DataOf<A>(tensor);
  return {data, data + tensor.NumElements() / 2};
}

template <typename Device, typename T>
class LinearTransitionKernel : public OpKernel {
 public:
  explicit LinearTransitionKernel(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("axis", &axis_));
    OP_REQUIRES_OK(context, context->GetAttr("reverse", &reverse_));
    OP_REQUIRES_OK(context, context->GetAttr("gradient", &gradient_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &decays = context->input(0), &impulses = context->input(1);
    int axis;
    OP_REQUIRES_OK(context, CheckAxis(axis_, decays.dims(), &axis));
    OP_REQUIRES_OK(context, CheckShape("impulses", impulses.shape(), "decays", decays.shape()));
    TensorShape shape = decays.shape();
    OP_REQUIRES_OK(context, shape.RemoveDimWithStatus(axis));
    OP_REQUIRES_OK(context, shape.InsertDimWithStatus(0, 2));
    Tensor* transition;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &transition));
    const Problem problem = ProblemOf(decays.shape(), axis, true, reverse_ != gradient_);
    OP_REQUIRES_OK(context, gradient_ ? Reduce<RecurrenceGradientCell>(context, problem, transition)
                                      : Reduce<RecurrenceCell>(context, problem, transition));
  }

 private:
  // Both cells take the two inputs in this order.
  template <typename Cell>
  static absl::Status Reduce(OpKernelContext* context, const Problem& problem, Tensor* transition) {
    using Element = typename Device::template Element<T>;
    using A = typename Device::template Element<AccumulatorOf<T>>;
    Arrays<Cell, Element> arrays{};
    for (int k = 0; k < Cell::kStepInputs; ++k)
      arrays.inputs[k] = DataOf<Element>(context->input(k));
    return Device::Reduce(context, problem, arrays, TransitionsOf<A>(*transition));
  }

  int axis_;
  bool reverse_, gradient_;
};

template <typename Device, typename T>
class GatedTransitionKernel : public OpKernel {
 public:
  explicit GatedTransitionKernel(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadAttributes(context, &call_));
    int count;
    OP_REQUIRES_OK(context, context->GetAttr("num_d_outputs", &count));
    has_d_outputs_ = count > 0;
    OP_REQUIRES(context, count <= 1, absl::InvalidArgumentError("num_d_outputs must be 0 or 1"));
  }

  void Compute(OpKernelContext* context) override {
    using Element = typename Device::template Element<T>;
    GatedCall call = call_;
    std::vector<TensorShape> shapes;
    std::vector<void*> inputs;
    for (int i = 0; i < context->num_inputs(); ++i) {
      shapes.push_back(context->input(i).shape());
      inputs.push_back(DataOf<char>(context->input(i)));
    }
    TensorShape shape;
    OP_REQUIRES_OK(context,
                   GatedRecurrenceTransition::ReadShapes(shapes, has_d_outputs_, &call, &shape));
    Tensor* transition;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &transition));
    const auto transitions = TransitionsOf<float>(*transition);
    const std::vector<void*> outputs;
    const GatedBinding<Element> binding(call, sizeof(T), inputs, outputs);
    OP_REQUIRES_OK(context, ForGatedCell(call.cell, [&](auto cell, auto gradient_cell) {
                     if (has_d_outputs_) {
                       return Device::Reduce(context, call.problem,
                                             binding.template Steps<decltype(gradient_cell)>(),
                                             transitions);
                     }
                     return Device::Reduce(context, call.problem,
                                           binding.template Steps<decltype(cell)>(), transitions);
                   }));
  }

 private:
  GatedCall call_{};
  bool has_d_outputs_;
};

#define TF_PLR_REGISTER_LINEAR(Device_, DEVICE, T)                    \
  REGISTER_KERNEL_BUILDER(Name("TfPlr>LinearRecurrenceTransition")    \
                              .Device(DEVICE)                         \
                              .TypeConstraint<T>("T")                 \
                              .TypeConstraint<AccumulatorOf<T>>("A"), \
                          LinearTransitionKernel<Device_, T>);
#define TF_PLR_REGISTER_GATED(Device_, DEVICE, T)                                   \
  REGISTER_KERNEL_BUILDER(                                                          \
      Name(GatedRecurrenceTransition::kName).Device(DEVICE).TypeConstraint<T>("T"), \
      GatedTransitionKernel<Device_, T>);
#define TF_PLR_REGISTER_LINEAR_CPU(T, dtype, xla) \
  TF_PLR_REGISTER_LINEAR(Cpu, tensorflow::DEVICE_CPU, T)
#define TF_PLR_REGISTER_GATED_CPU(T, dtype, xla) \
  TF_PLR_REGISTER_GATED(Cpu, tensorflow::DEVICE_CPU, T)
#define TF_PLR_REGISTER_LINEAR_GPU(T, dtype, xla) \
  TF_PLR_REGISTER_LINEAR(Gpu, tensorflow::DEVICE_GPU, T)
#define TF_PLR_REGISTER_GATED_GPU(T, dtype, xla) \
  TF_PLR_REGISTER_GATED(Gpu, tensorflow::DEVICE_GPU, T)

TF_PLR_FOR_EACH_TYPE(TF_PLR_REGISTER_LINEAR_CPU)
TF_PLR_FOR_EACH_GATED_TYPE(TF_PLR_REGISTER_GATED_CPU)
#if defined(TF_PLR_CUDA)
TF_PLR_FOR_EACH_TYPE(TF_PLR_REGISTER_LINEAR_GPU)
TF_PLR_FOR_EACH_GATED_TYPE(TF_PLR_REGISTER_GATED_GPU)
#endif

}  // namespace
}  // namespace tf_plr
