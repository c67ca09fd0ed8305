// SPDX-License-Identifier: MIT
// OpKernels of CausalWindows and its gradient: check, allocate, call the device's engine.
#include <vector>

#include "cc/kernels/causal_windows.h"
#include "cc/kernels/devices.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tf_plr {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

template <typename Op, typename Device, typename T>
class WindowsKernel : public OpKernel {
 public:
  explicit WindowsKernel(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, call_.Read(context));
  }

  void Compute(OpKernelContext* context) override {
    using Element = typename Device::template Element<T>;
    WindowsCall call = call_;
    std::vector<TensorShape> input_shapes, output_shapes;
    std::vector<void*> inputs, outputs;
    for (int i = 0; i < context->num_inputs(); ++i) {
      input_shapes.push_back(context->input(i).shape());
      inputs.push_back(Data(context->input(i)));
    }
    OP_REQUIRES_OK(context, Op::ReadShapes(input_shapes, &call, &output_shapes));
    for (int i = 0; i < context->num_outputs(); ++i) {
      Tensor* output;
      OP_REQUIRES_OK(context, context->allocate_output(i, output_shapes[i], &output));
      outputs.push_back(Data(*output));
    }
    const auto windows = call.Bind<Element>(Op::kIsGradient, inputs, outputs);
    if constexpr (Op::kIsGradient) {
      OP_REQUIRES_OK(context, Device::FromWindows(context, windows));
    } else {
      OP_REQUIRES_OK(context, Device::ToWindows(context, windows));
    }
  }

 private:
  static void* Data(const Tensor& tensor) { return const_cast<char*>(tensor.tensor_data().data()); }

  WindowsCall call_;
};

#define TF_PLR_REGISTER_OP(Op, Device_, DEVICE, T)                               \
  REGISTER_KERNEL_BUILDER(Name(Op::kName).Device(DEVICE).TypeConstraint<T>("T"), \
                          WindowsKernel<Op, Device_, T>);
#define TF_PLR_REGISTER_ON(Device_, DEVICE, T)                 \
  TF_PLR_REGISTER_OP(CausalWindowsForward, Device_, DEVICE, T) \
  TF_PLR_REGISTER_OP(CausalWindowsGrad, Device_, DEVICE, T)
#define TF_PLR_REGISTER_CPU(T, dtype, xla) TF_PLR_REGISTER_ON(Cpu, tensorflow::DEVICE_CPU, T)
#define TF_PLR_REGISTER_GPU(T, dtype, xla) TF_PLR_REGISTER_ON(Gpu, tensorflow::DEVICE_GPU, T)

TF_PLR_FOR_EACH_GATED_TYPE(TF_PLR_REGISTER_CPU)
#if defined(TF_PLR_CUDA)
TF_PLR_FOR_EACH_GATED_TYPE(TF_PLR_REGISTER_GPU)
#endif

}  // namespace
}  // namespace tf_plr
