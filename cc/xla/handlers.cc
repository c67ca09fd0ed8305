// SPDX-License-Identifier: MIT
#include "cc/xla/handlers.h"

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "xla/ffi/api/ffi.h"

// Null where TensorFlow does not export it, as tensorflow-cpu does not.
extern "C" __attribute__((weak)) const XLA_FFI_Api* XLA_FFI_GetApi();

namespace tf_plr {
namespace {

namespace ffi = xla::ffi;

class CallAttributes : public Attributes {
 public:
  explicit CallAttributes(const ffi::Dictionary& given) : given_(given) {}

  int64_t Int(const char* name, int64_t otherwise) const override {
    return Get<int64_t>(name, otherwise);
  }
  float Float(const char* name, float otherwise) const override {
    return Get<float>(name, otherwise);
  }
  std::vector<int64_t> Ints(const char* name) const override {
    const auto numbers = Get<ffi::Span<const int64_t>>(name, {});
    return {numbers.begin(), numbers.end()};
  }
  std::string String(const char* name, const char* otherwise) const override {
    return std::string(Get<std::string_view>(name, otherwise));
  }

 private:
  template <typename T>
  T Get(const char* name, T otherwise) const {
    if (!given_.contains(name)) return otherwise;
    auto value = given_.get<T>(name);
    return value.has_error() ? otherwise : *value;
  }

  const ffi::Dictionary& given_;
};

DType FromXla(ffi::DataType type) {
  switch (type) {
#define TF_PLR_CASE(type, element, tf, xla, ...) \
  case ffi::xla:                                 \
    return DType::type;
    TF_PLR_FOR_EACH_TYPE(TF_PLR_CASE)
#undef TF_PLR_CASE
    case ffi::PRED:
      return DType::kBool;
    default:
      return DType::kOther;
  }
}

ffi::Error ToXla(const Status& status) {
  switch (status.code) {
    case Status::kOk:
      return ffi::Error::Success();
    case Status::kInvalidArgument:
      return ffi::Error::InvalidArgument(status.message);
    case Status::kResourceExhausted:
      return ffi::Error(ffi::ErrorCode::kResourceExhausted, status.message);
    default:
      return ffi::Error::Internal(status.message);
  }
}

Buffer BufferOf(const ffi::AnyBuffer& buffer) {
  const auto sizes = buffer.dimensions();
  return {FromXla(buffer.element_type()), Shape(sizes.begin(), sizes.end()), buffer.untyped_data()};
}

// Hands out a result of the custom call, part by part.
Scratch ScratchIn(const ffi::AnyBuffer& result) {
  auto* next = static_cast<char*>(result.untyped_data());
  return [next, left = result.size_bytes()](size_t bytes, int) mutable -> void* {
    constexpr size_t kAlignment = 16;
    const size_t taken = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    if (taken > left) return nullptr;
    left -= taken;
    return std::exchange(next, next + taken);
  };
}

// Makes the call, checks it, and runs it by run(call, inputs, outputs, scratch). The first errors
// are for custom calls that somebody wrote by hand.
template <bool kHasScratch, typename Run>
ffi::Error MakeAndRun(const ffi::RemainingArgs& args, const ffi::RemainingRets& rets,
                      const ffi::Dictionary& given, const Scratch& scratch, const Run& run) {
  const CallAttributes attributes(given);
  std::unique_ptr<Call> call;
  Status status = Call::Make(attributes.String(kOpAttribute, ""), attributes, &call);
  if (!status.ok()) return ToXla(status);
  Buffers inputs, outputs, planned;
  for (size_t i = 0; i < args.size(); ++i) {
    auto buffer = args.get<ffi::AnyBuffer>(i);
    if (buffer.has_error()) return buffer.error();
    inputs.push_back(BufferOf(*buffer));
  }
  for (size_t i = 0; i + kHasScratch < rets.size(); ++i) {
    auto buffer = rets.get<ffi::AnyBuffer>(i);
    if (buffer.has_error()) return buffer.error();
    outputs.push_back(BufferOf(**buffer));
  }
  status = call->Plan(inputs, &planned);
  if (!status.ok()) return ToXla(status);
  bool fits = outputs.size() == planned.size();
  for (size_t i = 0; fits && i < planned.size(); ++i) {
    fits = outputs[i].type == planned[i].type && outputs[i].shape == planned[i].shape;
  }
  if (!fits) return ffi::Error::InvalidArgument("the results do not fit the op");
  if constexpr (kHasScratch) {
    auto last = rets.get<ffi::AnyBuffer>(rets.size() - 1);
    if (last.has_error()) return last.error();
    return ToXla(run(*call, inputs, outputs, ScratchIn(**last)));
  } else {
    return ToXla(run(*call, inputs, outputs, scratch));
  }
}

template <bool kHasScratch>
XLA_FFI_Error* CallOnHost(XLA_FFI_CallFrame* frame) {
  static const ffi::Ffi* handler =
      ffi::Ffi::Bind()
          .Ctx<ffi::ThreadPool>()
          .RemainingArgs()
          .RemainingRets()
          .Attrs()
          .To([](ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets rets,
                 ffi::Dictionary attributes) {
            const Workers workers(
                static_cast<int>(pool.num_threads()),
                [&pool](std::function<void()> work) { pool.Schedule(std::move(work)); });
            std::vector<std::unique_ptr<void, decltype(&std::free)>> memory;
            const auto scratch = [&](size_t bytes, int) {
              return memory.emplace_back(std::malloc(bytes), &std::free).get();
            };
            return MakeAndRun<kHasScratch>(args, rets, attributes, scratch,
                                           [&](const Call& call, const Buffers& inputs,
                                               const Buffers& outputs, const Scratch& memory) {
                                             return call.RunOnCpu(inputs, outputs, memory, workers);
                                           });
          })
          .release();
  return handler->Call(frame);
}

#if defined(TF_PLR_CUDA)
template <bool kHasScratch>
XLA_FFI_Error* CallOnCuda(XLA_FFI_CallFrame* frame) {
  static const ffi::Ffi* handler =
      ffi::Ffi::Bind()
          .Ctx<ffi::PlatformStream<void*>>()
          .Ctx<ffi::ScratchAllocator>()
          .RemainingArgs()
          .RemainingRets()
          .Attrs()
          .To([](void* stream, ffi::ScratchAllocator allocator, ffi::RemainingArgs args,
                 ffi::RemainingRets rets, ffi::Dictionary attributes) {
            const auto scratch = [&](size_t bytes, int) {
              return allocator.Allocate(bytes, /*alignment=*/16).value_or(nullptr);
            };
            return MakeAndRun<kHasScratch>(args, rets, attributes, scratch,
                                           [&](const Call& call, const Buffers& inputs,
                                               const Buffers& outputs, const Scratch& memory) {
                                             return call.RunOnGpu(inputs, outputs, memory, stream);
                                           });
          })
          .release();
  return handler->Call(frame);
}
#endif

// Returns "" or what went wrong.
std::string Register(const char* name, const char* platform, XLA_FFI_Handler* handler,
                     XLA_FFI_Handler_Traits traits) {
  const XLA_FFI_Api* api = XLA_FFI_GetApi();
  XLA_FFI_Error* error = ffi::Ffi::RegisterStaticHandler(api, name, platform, handler, traits);
  if (error == nullptr) return "";
  const std::string message = ffi::internal::GetErrorMessage(api, error);
  ffi::internal::DestroyError(api, error);
  return message;
}

std::string RegisterAll() {
  if (XLA_FFI_GetApi == nullptr) {
    return "this TensorFlow does not export XLA's interface for custom calls, XLA_FFI_GetApi, "
           "which tf_plr needs under XLA. The package tensorflow does, tensorflow-cpu does not: "
           "install tensorflow, or leave jit_compile off";
  }
  std::string problem = Register(kCallTarget, "Host", &CallOnHost<true>, 0);
  if (problem.empty()) problem = Register(kPortableTarget, "Host", &CallOnHost<false>, 0);
#if defined(TF_PLR_CUDA)
  constexpr auto kInGraphs = static_cast<XLA_FFI_Handler_Traits>(ffi::Traits::kCmdBufferCompatible);
  if (problem.empty()) problem = Register(kCallTarget, "CUDA", &CallOnCuda<true>, kInGraphs);
  // Not in graphs: it allocates its scratch on every run.
  if (problem.empty()) problem = Register(kPortableTarget, "CUDA", &CallOnCuda<false>, 0);
#endif
  return problem;
}

}  // namespace
}  // namespace tf_plr

const char* TfPlrRegisterHandlers() {
  static const std::string problem = tf_plr::RegisterAll();
  return problem.c_str();
}
