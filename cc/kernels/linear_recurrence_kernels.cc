// SPDX-License-Identifier: MIT
// OpKernels: check the arguments, allocate the results, call the device's engine.
#include <vector>

#include "absl/strings/str_cat.h"
#include "cc/engine/cpu_recurrence.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/register_types.h"
#include "tensorflow/core/lib/core/threadpool.h"

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

// The engines' element type for TensorFlow's T.
template <typename T>
struct EngineType {
  using type = T;
};
template <typename Real>
struct EngineType<std::complex<Real>> {
  using type = Complex<Real>;
};

template <typename T>
typename EngineType<T>::type* Data(const Tensor& tensor) {
  return reinterpret_cast<typename EngineType<T>::type*>(
      const_cast<char*>(tensor.tensor_data().data()));
}

Status CheckShape(const char* name, const TensorShape& shape, const char* expected_name,
                  const TensorShape& expected) {
  if (shape == expected) return absl::OkStatus();
  return InvalidArgumentError(StrCat(name, " must have the shape of ", expected_name, ", ",
                                     expected.DebugString(), ", but has shape ",
                                     shape.DebugString()));
}

template <typename Cell, typename T>
void RunOnCpu(OpKernelContext* context, const Problem& problem, const Arrays<Cell, T>& arrays,
              Algorithm algorithm) {
  auto* pool = context->device()->tensorflow_cpu_worker_threads()->workers;
  cpu::Run(problem, arrays, algorithm, {pool->NumThreads(), [pool](std::function<void()> work) {
                                          pool->Schedule(std::move(work));
                                        }});
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

template <typename T>
class LinearRecurrenceOp : public RecurrenceKernel {
 public:
  using RecurrenceKernel::RecurrenceKernel;

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
    Arrays<RecurrenceCell, typename EngineType<T>::type> arrays{};
    arrays.inputs[RecurrenceCell::kDecays] = Data<T>(decays);
    arrays.inputs[RecurrenceCell::kImpulses] = Data<T>(impulses);
    arrays.outputs[RecurrenceCell::kStates] = Data<T>(*states);
    if (initial_state) arrays.initial_carry = Data<T>(*initial_state);
    RunOnCpu(context, problem, arrays, algorithm());
  }
};

template <typename T>
class LinearRecurrenceGradOp : public RecurrenceKernel {
 public:
  using RecurrenceKernel::RecurrenceKernel;

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
    Arrays<RecurrenceGradientCell, typename EngineType<T>::type> arrays{};
    arrays.inputs[RecurrenceGradientCell::kDecays] = Data<T>(decays);
    arrays.inputs[RecurrenceGradientCell::kDStates] = Data<T>(d_states);
    arrays.inputs[RecurrenceGradientCell::kPreviousStates] = Data<T>(states);
    arrays.outputs[RecurrenceGradientCell::kDDecays] = Data<T>(*d_decays);
    arrays.outputs[RecurrenceGradientCell::kDImpulses] = Data<T>(*d_impulses);
    if (initial_state) {
      Tensor* d_initial_state;
      OP_REQUIRES_OK(context, context->allocate_output(2, columns_shape, &d_initial_state));
      arrays.boundary = Data<T>(*initial_state);
      arrays.final_carry = Data<T>(*d_initial_state);
    }
    problem.reverse = !problem.reverse;
    RunOnCpu(context, problem, arrays, algorithm());
  }
};

#define TF_PLR_REGISTER(T)                                                                \
  REGISTER_KERNEL_BUILDER(                                                                \
      Name("LinearRecurrence").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"),     \
      LinearRecurrenceOp<T>);                                                             \
  REGISTER_KERNEL_BUILDER(                                                                \
      Name("LinearRecurrenceGrad").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"), \
      LinearRecurrenceGradOp<T>);

TF_PLR_REGISTER(Eigen::half)
TF_PLR_REGISTER(Eigen::bfloat16)
TF_PLR_REGISTER(float)
TF_PLR_REGISTER(double)
TF_PLR_REGISTER(tensorflow::complex64)
TF_PLR_REGISTER(tensorflow::complex128)

}  // namespace
}  // namespace tf_plr
