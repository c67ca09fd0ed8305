// SPDX-License-Identifier: MIT
// OpKernels: check the arguments, allocate the results, call the device's engine.
#include <complex>
#include <functional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cc/engine/cpu_recurrence.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/lib/core/threadpool.h"
#if defined(TF_PLR_CUDA)
#include "cc/engine/gpu_recurrence.h"
#include "tensorflow/core/platform/stream_executor.h"
#endif

namespace tf_plr {
namespace {

using absl::InvalidArgumentError;
using absl::Status;
using absl::StrCat;
using tensorflow::OpInputList;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::OpOutputList;
using tensorflow::Tensor;
using tensorflow::TensorShape;

// A device says how its engine names TensorFlow's T, and runs it.
struct Cpu {
  template <typename T>
  struct ElementOf {
    using type = T;
  };
  template <typename Real>
  struct ElementOf<std::complex<Real>> {
    using type = Complex<Real>;
  };

  template <typename Cell, typename Element>
  static Status Run(OpKernelContext* context, const Problem& problem,
                    const Arrays<Cell, Element>& arrays, Algorithm algorithm) {
    auto* pool = context->device()->tensorflow_cpu_worker_threads()->workers;
    cpu::Run(problem, arrays, algorithm, {pool->NumThreads(), [pool](std::function<void()> work) {
                                            pool->Schedule(std::move(work));
                                          }});
    return absl::OkStatus();
  }
};

#if defined(TF_PLR_CUDA)
struct Gpu {
  template <typename T>
  struct ElementOf : Cpu::ElementOf<T> {};

  template <typename Cell, typename Element>
  static Status Run(OpKernelContext* context, const Problem& problem,
                    const Arrays<Cell, Element>& arrays, Algorithm algorithm) {
    const size_t bytes = gpu::WorkspaceBytes(problem, arrays, algorithm);
    Tensor workspace;
    if (bytes > 0) {
      TF_RETURN_IF_ERROR(context->allocate_temp(
          tensorflow::DT_INT8, TensorShape({static_cast<int64_t>(bytes)}), &workspace));
    }
    void* stream = context->op_device_context()->stream()->platform_specific_handle().stream;
    const char* error =
        gpu::Run(problem, arrays, algorithm, bytes > 0 ? workspace.data() : nullptr, stream);
    return error == nullptr ? absl::OkStatus() : absl::InternalError(error);
  }
};
template <>
struct Gpu::ElementOf<Eigen::half> {
  using type = gpu::Half;
};
template <>
struct Gpu::ElementOf<Eigen::bfloat16> {
  using type = gpu::BFloat16;
};
#endif

template <typename Element>
Element* Data(const Tensor& tensor) {
  return reinterpret_cast<Element*>(const_cast<char*>(tensor.tensor_data().data()));
}

Status CheckShape(const char* name, const TensorShape& shape, const char* expected_name,
                  const TensorShape& expected) {
  if (shape == expected) return absl::OkStatus();
  return InvalidArgumentError(StrCat(name, " must have the shape of ", expected_name, ", ",
                                     expected.DebugString(), ", but has shape ",
                                     shape.DebugString()));
}

// What both ops share: attributes, and the problem and initial state found in the inputs.
class RecurrenceKernel : public OpKernel {
 public:
  explicit RecurrenceKernel(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("axis", &axis_));
    OP_REQUIRES_OK(context, context->GetAttr("reverse", &reverse_));
    std::string algorithm;
    OP_REQUIRES_OK(context, context->GetAttr("algorithm", &algorithm));
    algorithm_ = algorithm == "serial"     ? Algorithm::kSerial
                 : algorithm == "parallel" ? Algorithm::kParallel
                                           : Algorithm::kAuto;
  }

 protected:
  // initial_state is null if not given.
  Status ReadArguments(OpKernelContext* context, Problem* problem, TensorShape* columns_shape,
                       const Tensor** initial_state) const {
    const TensorShape& shape = context->input(0).shape();
    const int rank = shape.dims();
    if (rank < 1) {
      return InvalidArgumentError("decays must have at least one axis, but is a scalar");
    }
    if (axis_ < -rank || axis_ >= rank) {
      return InvalidArgumentError(StrCat("axis must be in [", -rank, ", ", rank,
                                         ") for decays of rank ", rank, ", but is ", axis_));
    }
    const int axis = axis_ < 0 ? axis_ + rank : axis_;
    *problem = {1, shape.dim_size(axis), 1, reverse_};
    for (int i = 0; i < axis; ++i) problem->outer *= shape.dim_size(i);
    for (int i = axis + 1; i < rank; ++i) problem->inner *= shape.dim_size(i);
    *columns_shape = shape;
    columns_shape->RemoveDim(axis);

    OpInputList given;
    TF_RETURN_IF_ERROR(context->input_list("initial_state", &given));
    if (given.size() > 1) {
      return InvalidArgumentError(
          StrCat("initial_state must be at most one tensor, but ", given.size(), " came"));
    }
    *initial_state = given.size() == 0 ? nullptr : &given[0];
    if (*initial_state == nullptr) return absl::OkStatus();
    return CheckShape("initial_state", (*initial_state)->shape(), "impulses without axis",
                      *columns_shape);
  }

  Algorithm algorithm() const { return algorithm_; }

 private:
  int axis_;
  bool reverse_;
  Algorithm algorithm_;
};

template <typename Device, typename T>
class LinearRecurrenceOp : public RecurrenceKernel {
 public:
  using RecurrenceKernel::RecurrenceKernel;
  using Element = typename Device::template ElementOf<T>::type;

  void Compute(OpKernelContext* context) override {
    const Tensor& decays = context->input(0);
    const Tensor& impulses = context->input(1);
    Problem problem;
    TensorShape columns_shape;
    const Tensor* initial_state;
    OP_REQUIRES_OK(context, CheckShape("impulses", impulses.shape(), "decays", decays.shape()));
    OP_REQUIRES_OK(context, ReadArguments(context, &problem, &columns_shape, &initial_state));
    // A state is written where its impulse was read, never before: in place is safe.
    Tensor* states;
    OP_REQUIRES_OK(context,
                   context->forward_input_or_allocate_output({1}, 0, decays.shape(), &states));
    Arrays<RecurrenceCell, Element> arrays{};
    arrays.inputs[RecurrenceCell::kDecays] = Data<Element>(decays);
    arrays.inputs[RecurrenceCell::kImpulses] = Data<Element>(impulses);
    arrays.outputs[RecurrenceCell::kStates] = Data<Element>(*states);
    if (initial_state) arrays.initial_carry = Data<Element>(*initial_state);
    OP_REQUIRES_OK(context, Device::Run(context, problem, arrays, algorithm()));
  }
};

template <typename Device, typename T>
class LinearRecurrenceGradOp : public RecurrenceKernel {
 public:
  using RecurrenceKernel::RecurrenceKernel;
  using Element = typename Device::template ElementOf<T>::type;

  void Compute(OpKernelContext* context) override {
    const Tensor& decays = context->input(0);
    const Tensor& states = context->input(1);
    const Tensor& d_states = context->input(2);
    Problem problem;
    TensorShape columns_shape;
    const Tensor* initial_state;
    OP_REQUIRES_OK(context, CheckShape("states", states.shape(), "decays", decays.shape()));
    OP_REQUIRES_OK(context, CheckShape("d_states", d_states.shape(), "decays", decays.shape()));
    OP_REQUIRES_OK(context, ReadArguments(context, &problem, &columns_shape, &initial_state));
    Tensor *d_decays, *d_impulses;
    OP_REQUIRES_OK(context, context->allocate_output(0, decays.shape(), &d_decays));
    OP_REQUIRES_OK(context, context->allocate_output(1, decays.shape(), &d_impulses));
    Arrays<RecurrenceGradientCell, Element> arrays{};
    arrays.inputs[RecurrenceGradientCell::kDecays] = Data<Element>(decays);
    arrays.inputs[RecurrenceGradientCell::kDStates] = Data<Element>(d_states);
    arrays.inputs[RecurrenceGradientCell::kPreviousStates] = Data<Element>(states);
    arrays.outputs[RecurrenceGradientCell::kDDecays] = Data<Element>(*d_decays);
    arrays.outputs[RecurrenceGradientCell::kDImpulses] = Data<Element>(*d_impulses);
    if (initial_state) {
      Tensor* d_initial_state;
      OP_REQUIRES_OK(context, context->allocate_output(2, columns_shape, &d_initial_state));
      arrays.boundary = Data<Element>(*initial_state);
      arrays.final_carry = Data<Element>(*d_initial_state);
    }
    problem.reverse = !problem.reverse;
    OP_REQUIRES_OK(context, Device::Run(context, problem, arrays, algorithm()));
  }
};

#define TF_PLR_REGISTER_ON(Engine, DEVICE, T)                                                 \
  REGISTER_KERNEL_BUILDER(Name("LinearRecurrence").Device(DEVICE).TypeConstraint<T>("T"),     \
                          LinearRecurrenceOp<Engine, T>);                                     \
  REGISTER_KERNEL_BUILDER(Name("LinearRecurrenceGrad").Device(DEVICE).TypeConstraint<T>("T"), \
                          LinearRecurrenceGradOp<Engine, T>);
#if defined(TF_PLR_CUDA)
#define TF_PLR_REGISTER(T)                           \
  TF_PLR_REGISTER_ON(Cpu, tensorflow::DEVICE_CPU, T) \
  TF_PLR_REGISTER_ON(Gpu, tensorflow::DEVICE_GPU, T)
#else
#define TF_PLR_REGISTER(T) TF_PLR_REGISTER_ON(Cpu, tensorflow::DEVICE_CPU, T)
#endif

TF_PLR_REGISTER(Eigen::half)
TF_PLR_REGISTER(Eigen::bfloat16)
TF_PLR_REGISTER(float)
TF_PLR_REGISTER(double)
TF_PLR_REGISTER(tensorflow::complex64)
TF_PLR_REGISTER(tensorflow::complex128)

}  // namespace
}  // namespace tf_plr
