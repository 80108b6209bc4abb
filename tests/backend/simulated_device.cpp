// A device in host memory under torch's name for outside devices, `privateuseone`, to see which of its operations a
// program needs. Dispatch is torch's own: composite operations come apart here exactly as they do on such a device.
//
// An operation named by `simulated::start` runs on the CPU and is noted; any other is refused where it is called. So is
// a tensor of a number type that is not allowed, and a CPU tensor among those of the device, numbers excepted.
#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace {

using at::Tensor;
using torch::jit::Stack;

constexpr auto kDevice = c10::DeviceType::PrivateUse1;
const c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);

C10_REGISTER_GUARD_IMPL(PrivateUse1, c10::impl::NoOpDeviceGuardImpl<kDevice>)

// Fresh memory is full of NaN, so that nobody reads what nobody wrote.
struct HostMemory final : c10::Allocator {
  c10::DataPtr allocate(size_t size) override {
    void* start = std::malloc(size + 1);
    std::memset(start, 0xff, size);
    return {start, start, &std::free, c10::Device(kDevice, 0)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &std::free; }
  void copy_data(void* to, const void* from, std::size_t size) const override { std::memcpy(to, from, size); }
};
HostMemory memory;
REGISTER_ALLOCATOR(kDevice, &memory)

std::mutex lock;
std::set<std::string> seen;
std::set<c10::ScalarType> allowed;
std::unique_ptr<torch::Library> kernels;

std::string full_name(const c10::OperatorName& name) {
  return name.overload_name.empty() ? name.name : name.name + "." + name.overload_name;
}

void require_allowed(c10::ScalarType type) {
  TORCH_CHECK(allowed.count(type), "the simulated device has no ", toString(type));
}

Tensor on_host(const Tensor& tensor) {
  if (tensor.device().type() != kDevice) return tensor;
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(), tensor.options().device(at::kCPU));
}

Tensor to_device(const Tensor& result) {
  auto copy = at::empty_strided(result.sizes(), result.strides(), result.options().device(c10::Device(kDevice, 0)));
  on_host(copy).copy_(result);
  return copy;
}

const Tensor& resize_(const Tensor& self, at::IntArrayRef size, std::optional<at::MemoryFormat>) {
  TORCH_CHECK(self.numel() == 0, "the simulated device resizes only what is empty");
  const auto bytes = at::detail::computeStorageNbytesContiguous(size, self.element_size());
  self.storage().set_data_ptr_noswap(memory.allocate(bytes));
  self.storage().set_nbytes(bytes);
  self.unsafeGetTensorImpl()->set_sizes_contiguous(size);
  return self;
}

// One call: its device tensors beside the host's views of the same memory; results that may grow get memory of their own.
struct Call {
  std::string name, types;
  std::vector<std::pair<Tensor, Tensor>> tensors;

  Tensor lower(const Tensor& tensor) {
    if (!tensor.defined()) return tensor;
    if (tensor.device().type() != kDevice) {
      TORCH_CHECK(tensor.dim() == 0, name, " is given a tensor of the CPU");
      return tensor;
    }
    require_allowed(tensor.scalar_type());
    types += std::string(types.empty() ? "" : ",") + toString(tensor.scalar_type());
    tensors.emplace_back(tensor, tensor.numel() ? on_host(tensor) : at::empty_like(tensor, at::kCPU));
    return tensors.back().second;
  }

  Tensor raise(const Tensor& result) {
    if (!result.defined()) return result;
    for (auto& [device, host] : tensors) {
      if (!result.is_same(host)) continue;
      if (result.sizes() == device.sizes()) return device;
      resize_(device, result.sizes(), std::nullopt);
      on_host(device).copy_(result);
      return device;
    }
    for (auto& [device, host] : tensors)
      TORCH_CHECK(result.numel() == 0 || !result.is_alias_of(host), name, " returns a view");
    return to_device(result);
  }
};

void run(const c10::OperatorHandle& op, Stack* stack) {
  Call call{full_name(op.operator_name()), "", {}};
  const auto num_arguments = op.schema().arguments().size();
  for (auto value = stack->end() - num_arguments; value != stack->end(); ++value) {
    if (value->isTensor()) {
      *value = call.lower(value->toTensor());
    } else if (value->isTensorList()) {
      c10::List<Tensor> list;
      for (const Tensor& one : value->toTensorVector()) list.push_back(call.lower(one));
      *value = list;
    } else if (value->isOptionalTensorList()) {
      c10::List<std::optional<Tensor>> list;
      for (const std::optional<Tensor>& one : value->toOptionalTensorVector())
        list.push_back(one ? std::optional<Tensor>(call.lower(*one)) : std::nullopt);
      *value = list;
    } else if (value->isDevice() && value->toDevice().type() == kDevice) {
      *value = c10::Device(at::kCPU);
    }
  }
  {
    std::lock_guard<std::mutex> guard(lock);
    seen.insert(call.name + " " + call.types);
  }
  op.callBoxed(stack);
  const auto num_returns = op.schema().returns().size();
  for (auto value = stack->end() - num_returns; value != stack->end(); ++value)
    if (value->isTensor()) *value = call.raise(value->toTensor());
}

void refuse(const c10::OperatorHandle& op, Stack*) {
  TORCH_CHECK_NOT_IMPLEMENTED(false, full_name(op.operator_name()), " has no kernel on the simulated device");
}

Tensor empty(
    at::IntArrayRef size,
    std::optional<at::ScalarType> type,
    std::optional<at::Layout>,
    std::optional<at::Device>,
    std::optional<bool>,
    std::optional<at::MemoryFormat> format) {
  const auto chosen = type.value_or(at::kFloat);
  require_allowed(chosen);
  return Tensor(at::detail::empty_generic(size, &memory, kKeys, chosen, format));
}

Tensor empty_strided(
    at::IntArrayRef size,
    at::IntArrayRef stride,
    std::optional<at::ScalarType> type,
    std::optional<at::Layout>,
    std::optional<at::Device>,
    std::optional<bool>) {
  const auto chosen = type.value_or(at::kFloat);
  require_allowed(chosen);
  return Tensor(at::detail::empty_strided_generic(size, stride, &memory, kKeys, chosen));
}

Tensor& copy_(Tensor& self, const Tensor& from, bool) {
  on_host(self).copy_(on_host(from));
  return self;
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("copy_", &copy_);
  m.impl("resize_", &resize_);
  m.impl("as_strided", &at::native::as_strided_tensorimpl);
  m.impl("view", &at::native::view);
  m.impl("_reshape_alias", &at::native::_reshape_alias);
  m.impl("alias", &at::native::alias);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&refuse>());
}

// Kernels of its own, above, and operations that return a part of their argument, which come apart into those.
bool is_given(const c10::OperatorHandle& op) {
  static const std::set<std::string> names{"aten::copy_", "aten::empty", "aten::empty_strided", "aten::resize_", "aten::_unsafe_view"};
  if (names.count(op.operator_name().name)) return true;
  for (const auto& one : op.schema().returns())
    if (one.alias_info() && !one.alias_info()->isWrite()) return true;
  return false;
}

void start(const std::vector<std::string>& names, const std::vector<at::ScalarType>& types) {
  kernels = std::make_unique<torch::Library>(
      torch::Library::IMPL, "aten", c10::DispatchKey::PrivateUse1, __FILE__, __LINE__);
  allowed = {types.begin(), types.end()};
  for (const auto& name : names) {
    const auto dot = name.find('.');
    const c10::OperatorName wanted(name.substr(0, dot), dot == std::string::npos ? "" : name.substr(dot + 1));
    const auto op = c10::Dispatcher::singleton().findSchema(wanted);
    if (op && !is_given(*op)) kernels->impl(name.c_str(), torch::CppFunction::makeFromBoxedFunction<&run>());
  }
}

std::vector<std::string> take() {
  std::lock_guard<std::mutex> guard(lock);
  std::vector<std::string> names(seen.begin(), seen.end());
  seen.clear();
  return names;
}

}  // namespace

TORCH_LIBRARY(simulated, m) {
  m.def("start(str[] names, ScalarType[] types) -> ()", [](std::vector<std::string> names, std::vector<at::ScalarType> types) {
    start(names, types);
  });
  m.def("take() -> str[]", &take);
}
