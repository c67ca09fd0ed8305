// SPDX-License-Identifier: MIT
// OpKernels: check the arguments, allocate the results, call the device's engine.
#include <vector>

#include "cc/kernels/devices.h"
#include "cc/kernels/native_ops.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tf_plr {
namespace {

using absl::Status;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

template <typename Op, typename Device, typename T>
class RecurrenceKernel : public OpKernel {
 public:
  explicit RecurrenceKernel(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, Attributes::Read(context, &attributes_));
  }

  void Compute(OpKernelContext* context) override {
    using Element = typename Device::template Element<T>;
    std::vector<TensorShape> input_shapes, output_shapes;
    std::vector<Element*> inputs, outputs;
    for (int i = 0; i < context->num_inputs(); ++i) {
      input_shapes.push_back(context->input(i).shape());
      inputs.push_back(DataOf<Element>(context->input(i)));
    }
    Problem problem;
    OP_REQUIRES_OK(context, ReadShapes<Op>(input_shapes, attributes_, &problem, &output_shapes));
    for (int i = 0; i < context->num_outputs(); ++i) {
      Tensor* output;
      if (i == 0 && Op::kOverwritableInput >= 0) {
        OP_REQUIRES_OK(context, context->forward_input_or_allocate_output(
                                    {Op::kOverwritableInput}, i, output_shapes[i], &output));
      } else {
        OP_REQUIRES_OK(context, context->allocate_output(i, output_shapes[i], &output));
      }
      outputs.push_back(DataOf<Element>(*output));
    }
    const auto arrays = Op::Bind(inputs, outputs, attributes_.has_initial_state);
    OP_REQUIRES_OK(context, Device::Run(context, problem, arrays, attributes_.algorithm));
  }

 private:
  Attributes attributes_;
};

#define TF_PLR_REGISTER_OP(Op, Device_, DEVICE, T)                               \
  REGISTER_KERNEL_BUILDER(Name(Op::kName).Device(DEVICE).TypeConstraint<T>("T"), \
                          RecurrenceKernel<Op, Device_, T>);
#define TF_PLR_REGISTER_ON(Device_, DEVICE, T)             \
  TF_PLR_REGISTER_OP(LinearRecurrence, Device_, DEVICE, T) \
  TF_PLR_REGISTER_OP(LinearRecurrenceGrad, Device_, DEVICE, T)
#define TF_PLR_REGISTER_CPU(T, dtype, xla) TF_PLR_REGISTER_ON(Cpu, tensorflow::DEVICE_CPU, T)
#define TF_PLR_REGISTER_GPU(T, dtype, xla) TF_PLR_REGISTER_ON(Gpu, tensorflow::DEVICE_GPU, T)

TF_PLR_FOR_EACH_TYPE(TF_PLR_REGISTER_CPU)
#if defined(TF_PLR_CUDA)
TF_PLR_FOR_EACH_TYPE(TF_PLR_REGISTER_GPU)
#endif

}  // namespace
}  // namespace tf_plr
