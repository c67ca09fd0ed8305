// SPDX-License-Identifier: MIT
// The OpKernel of every op: check the inputs, allocate the outputs, run the call.
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "cc/tensorflow/attributes.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/lib/core/threadpool.h"
#if defined(TF_PLR_CUDA)
#include "tensorflow/core/platform/stream_executor.h"
#endif

namespace tf_plr {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

void* DataOf(const Tensor& tensor) { return const_cast<char*>(tensor.tensor_data().data()); }

class CallKernel : public OpKernel {
 public:
  explicit CallKernel(OpKernelConstruction* context)
      : OpKernel(context), on_gpu_(context->device_type() == tensorflow::DEVICE_GPU) {
    OP_REQUIRES_OK(context,
                   ToTensorFlow(Call::Make(type_string(), NodeAttributes(context), &call_)));
  }

  void Compute(OpKernelContext* context) override {
    Buffers inputs, outputs;
    for (int i = 0; i < context->num_inputs(); ++i) {
      const Tensor& input = context->input(i);
      inputs.push_back({FromTensorFlow(input.dtype()), ShapeOf(input.shape()), DataOf(input)});
    }
    OP_REQUIRES_OK(context, ToTensorFlow(call_->Plan(inputs, &outputs)));
    OP_REQUIRES_OK(context, CheckOutputs(*context, outputs));
    for (int i = 0; i < context->num_outputs(); ++i) {
      TensorShape shape;
      OP_REQUIRES_OK(context, TensorShape::BuildTensorShape(outputs[i].shape, &shape));
      Tensor* output;
      if (const int input = call_->OverwritableInput(); i == 0 && input >= 0) {
        OP_REQUIRES_OK(context,
                       context->forward_input_or_allocate_output({input}, i, shape, &output));
      } else {
        OP_REQUIRES_OK(context, context->allocate_output(i, shape, &output));
      }
      outputs[i].data = DataOf(*output);
    }
    // TensorFlow takes this memory back when the call returns. On a GPU, it lends it to no other
    // stream before this one has come so far.
    std::vector<Tensor> temporaries;
    const auto scratch = [&](size_t bytes, int input) {
      Tensor* const memory = &temporaries.emplace_back();
      const TensorShape shape({static_cast<int64_t>(bytes)});
      const auto status = input < 0 ? context->allocate_temp(tensorflow::DT_INT8, shape, memory)
                                    : context->forward_input_or_allocate_temp(
                                          {input}, context->input_dtype(input),
                                          context->input(input).shape(), memory);
      return status.ok() ? DataOf(*memory) : nullptr;
    };
    OP_REQUIRES_OK(context, ToTensorFlow(Run(context, inputs, outputs, scratch)));
  }

 private:
  Status Run(OpKernelContext* context, const Buffers& inputs, const Buffers& outputs,
             const Scratch& scratch) const {
#if defined(TF_PLR_CUDA)
    if (on_gpu_) {
      auto* const stream = context->op_device_context()->stream();
      return call_->RunOnGpu(inputs, outputs, scratch, stream->platform_specific_handle().stream);
    }
#endif
    auto* const pool = context->device()->tensorflow_cpu_worker_threads()->workers;
    const Workers workers(pool->NumThreads(),
                          [pool](std::function<void()> work) { pool->Schedule(std::move(work)); });
    return call_->RunOnCpu(inputs, outputs, scratch, workers);
  }

  [[maybe_unused]] const bool on_gpu_;
  std::unique_ptr<Call> call_;
};

#define TF_PLR_REGISTER_CPU(Op, FOR_EACH) \
  TF_PLR_REGISTER_KERNEL(Op, FOR_EACH, tensorflow::DEVICE_CPU, CallKernel)
#define TF_PLR_REGISTER_GPU(Op, FOR_EACH) \
  TF_PLR_REGISTER_KERNEL(Op, FOR_EACH, tensorflow::DEVICE_GPU, CallKernel)
TF_PLR_FOR_EACH_OP(TF_PLR_REGISTER_CPU)
#if defined(TF_PLR_CUDA)
TF_PLR_FOR_EACH_OP(TF_PLR_REGISTER_GPU)
#endif

}  // namespace
}  // namespace tf_plr
