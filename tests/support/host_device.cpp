#include "support/host_device.h"

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/stack.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <sys/mman.h>
#include <torch/library.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <map>
#include <mutex>
#include <string_view>
#include <vector>

namespace switchyard {
namespace {

using at::Tensor;

constexpr auto kDevice = c10::DeviceType::PrivateUse1;
std::atomic<int64_t> to_host{0}, to_device{0}, waits_to_device{0};

/// The device's memory: one file, mapped twice. Tensors point into the first mapping, which
/// nobody may read; kernels use the second.
class Memory {
 public:
  static Memory& instance() {
    static Memory memory;
    return memory;
  }

  /// `bytes` of it, not zero.
  char* take(size_t bytes) {
    const size_t size = std::bit_ceil(std::max(bytes, kLeast));
    const std::lock_guard lock(mutex_);
    std::vector<char*>& free = free_[size];
    char* address = nullptr;
    if (free.empty()) {
      TORCH_CHECK(used_ + size <= kSize, "host_device: out of memory");
      address = locked_ + used_;
      used_ += size;
    } else {
      address = free.back();
      free.pop_back();
    }
    size_of_[address] = size;
    std::memset(open(address), 0xff, bytes);
    return address;
  }

  void give_back(char* address) {
    const std::lock_guard lock(mutex_);
    free_[size_of_.at(address)].push_back(address);
  }

  /// The same memory where it can be read.
  char* open(const void* address) { return open_ + (static_cast<const char*>(address) - locked_); }

 private:
  static constexpr size_t kSize = size_t{1} << 36;  // of addresses
  static constexpr size_t kLeast = 64;

  Memory() {
    const int file = memfd_create("host_device", 0);
    TORCH_CHECK(file >= 0 && ftruncate(file, kSize) == 0, "host_device: no memory");
    const auto map = [&](int protection) {
      void* address = mmap(nullptr, kSize, protection, MAP_SHARED | MAP_NORESERVE, file, 0);
      TORCH_CHECK(address != MAP_FAILED, "host_device: no addresses");
      return static_cast<char*>(address);
    };
    locked_ = map(PROT_NONE);
    open_ = map(PROT_READ | PROT_WRITE);
    close(file);
  }

  std::mutex mutex_;
  char *locked_ = nullptr, *open_ = nullptr;
  size_t used_ = 0;
  std::map<size_t, std::vector<char*>> free_;
  std::map<char*, size_t> size_of_;
};

class DeviceAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, host_device()};
    char* address = Memory::instance().take(bytes);
    return {address, address, &release, host_device()};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    std::memcpy(Memory::instance().open(to), Memory::instance().open(from), bytes);
  }

 private:
  static void release(void* address) { Memory::instance().give_back(static_cast<char*>(address)); }
};

DeviceAllocator& allocator() {
  static DeviceAllocator device_allocator;
  return device_allocator;
}

/// One device, one stream, on which everything has happened already.
class DeviceGuard final : public c10::impl::NoOpDeviceGuardImpl<kDevice> {
 public:
  c10::Device exchangeDevice(c10::Device /*device*/) const override { return host_device(); }
  c10::Device getDevice() const override { return host_device(); }
  c10::Stream getStream(c10::Device /*device*/) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, host_device());
  }
  void record(void** /*event*/, const c10::Stream& /*stream*/, c10::DeviceIndex /*index*/,
              c10::EventFlag /*flag*/) const override {}
  void block(void* /*event*/, const c10::Stream& /*stream*/) const override {}
  bool queryEvent(void* /*event*/) const override { return true; }
  void synchronizeEvent(void* /*event*/) const override {}
  void synchronizeDevice(c10::DeviceIndex /*index*/) const override {}
};

/// What autograd asks of an accelerator.
struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex /*index*/) const override { return true; }
};

bool is_on_device(const Tensor& x) { return x.defined() && x.device().type() == kDevice; }

/// The tensor's memory as a host tensor; itself if it is one.
Tensor opened(const Tensor& x) {
  if (!is_on_device(x)) return x;
  const at::TensorOptions options = x.options().device(at::kCPU);
  if (x.numel() == 0) return at::empty(x.sizes(), options);
  return at::from_blob(Memory::instance().open(x.unsafeGetTensorImpl()->data()), x.sizes(),
                       x.strides(), options);
}

// ------------------------------------------------------------------ kernels

Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype,
             std::optional<at::Layout> /*layout*/, std::optional<at::Device> /*device*/,
             std::optional<bool> /*pinned*/, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &allocator(),
                                   c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   at::dtype_or_default(dtype), format);
}

Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride,
                     std::optional<at::ScalarType> dtype, std::optional<at::Layout> /*layout*/,
                     std::optional<at::Device> /*device*/, std::optional<bool> /*pinned*/) {
  return at::detail::empty_strided_generic(size, stride, &allocator(),
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           at::dtype_or_default(dtype));
}

const Tensor& resize(const Tensor& self, at::IntArrayRef size,
                     std::optional<at::MemoryFormat> /*format*/) {
  const size_t bytes = c10::multiply_integers(size) * self.element_size();
  const c10::Storage& storage = self.storage();
  if (storage.nbytes() < bytes) {
    c10::DataPtr memory = allocator().allocate(bytes);
    if (storage.nbytes() > 0) allocator().copy_data(memory.get(), storage.data(), storage.nbytes());
    storage.set_data_ptr_noswap(std::move(memory));
    storage.set_nbytes(bytes);
  }
  self.unsafeGetTensorImpl()->set_sizes_contiguous(size);
  return self;
}

Tensor copy_from(const Tensor& from, const Tensor& to, bool non_blocking) {
  if (!is_on_device(to)) ++to_host;
  if (!is_on_device(from)) ++to_device;
  if (!is_on_device(from) && !non_blocking) ++waits_to_device;
  opened(to).copy_(opened(from));
  return to;
}

Tensor copy_from_and_resize(const Tensor& from, const Tensor& to) {
  to.resize_(from.sizes());
  return copy_from(from, to, /*non_blocking=*/false);
}

at::Scalar local_scalar_dense(const Tensor& x) {
  ++to_host;
  return opened(x).item();
}

/// LibTorch has a fused cell for every device but the CPU, which has none.
Tensor gru_cell(const Tensor& input, const Tensor& before, const Tensor& w_ih, const Tensor& w_hh,
                const std::optional<Tensor>& b_ih, const std::optional<Tensor>& b_hh) {
  const auto i = at::linear(input, w_ih, b_ih).chunk(3, 1);
  const auto h = at::linear(before, w_hh, b_hh).chunk(3, 1);
  const Tensor reset = (i[0] + h[0]).sigmoid(), update = (i[1] + h[1]).sigmoid();
  const Tensor made = (i[2] + reset * h[2]).tanh();
  return (before - made) * update + made;
}

/// Gives a tensor of either device the data of one of the other, as for CUDA.
bool has_compatible_type(const Tensor& /*self*/, const Tensor& /*from*/) { return true; }

/// The shape of what these return is in their arguments' values.
bool waits_for_device(const std::string& op) {
  constexpr std::array<std::string_view, 9> kOps = {
      "aten::nonzero",  "aten::masked_select",     "aten::_unique",
      "aten::_unique2", "aten::unique_dim",        "aten::unique_consecutive",
      "aten::bincount", "aten::repeat_interleave", "aten::equal"};
  return std::ranges::find(kOps, op) != kOps.end();
}

/// Arguments of one call, and what they are on the host.
class Call {
 public:
  explicit Call(const c10::OperatorHandle& op) : op_(op) {}

  Tensor to_host_tensor(const Tensor& x, bool is_written) {
    if (!x.defined()) return x;
    TORCH_CHECK(is_on_device(x) || x.dim() == 0, op_.schema().name(), ": a host tensor of shape ",
                x.sizes(), " among tensors of the device");
    Tensor on_host = opened(x);
    if (is_written) written_.emplace_back(x, on_host);
    return on_host;
  }

  /// An argument that was written is returned as itself.
  Tensor to_device_tensor(const Tensor& x) {
    if (!x.defined()) return x;
    for (const auto& [argument, on_host] : written_) {
      if (on_host.is_same(x)) return argument;
    }
    Tensor out = at::empty_strided(x.sizes(), x.strides(), x.options().device(host_device()));
    opened(out).copy_(x);
    return out;
  }

  /// Written arguments of no elements got a shape on the host.
  void bring_back() {
    for (const auto& [argument, on_host] : written_) {
      if (!is_on_device(argument) || argument.sizes() == on_host.sizes()) continue;
      argument.resize_(on_host.sizes());
      opened(argument).copy_(on_host);
    }
  }

 private:
  const c10::OperatorHandle& op_;
  std::vector<std::pair<Tensor, Tensor>> written_;
};

c10::IValue to_host_value(Call& call, const c10::IValue& value, bool is_written) {
  if (value.isTensor()) return call.to_host_tensor(value.toTensor(), is_written);
  if (value.isTensorList()) {
    std::vector<Tensor> tensors = value.toTensorVector();
    for (Tensor& x : tensors) x = call.to_host_tensor(x, is_written);
    return tensors;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<Tensor>> tensors;
    for (const std::optional<Tensor>& x : value.toOptionalTensorVector()) {
      tensors.push_back(x ? std::optional(call.to_host_tensor(*x, is_written)) : std::nullopt);
    }
    return tensors;
  }
  if (value.isDevice()) return c10::Device(at::kCPU);
  return value;
}

c10::IValue to_device_value(Call& call, const c10::IValue& value) {
  if (value.isTensor()) return call.to_device_tensor(value.toTensor());
  if (!value.isTensorList()) return value;
  std::vector<Tensor> tensors = value.toTensorVector();
  for (Tensor& x : tensors) x = call.to_device_tensor(x);
  return tensors;
}

/// Every other operator: the CPU's, on the memory where it is.
void run_on_host(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  const c10::FunctionSchema& schema = op.schema();
  if (waits_for_device(schema.name())) ++to_host;
  const size_t arguments = schema.arguments().size(), returns = schema.returns().size();
  Call call(op);
  for (size_t i = 0; i < arguments; ++i) {
    const c10::AliasInfo* alias = schema.arguments()[i].alias_info();
    c10::IValue& value = (*stack)[stack->size() - arguments + i];
    value = to_host_value(call, value, alias != nullptr && alias->isWrite());
  }
  for (const c10::Argument& result : schema.returns()) {
    const c10::AliasInfo* alias = result.alias_info();
    TORCH_CHECK(alias == nullptr || alias->isWrite(), "host_device: a view by ", schema.name());
  }
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  call.bring_back();
  for (size_t i = 0; i < returns; ++i) {
    c10::IValue& value = (*stack)[stack->size() - returns + i];
    value = to_device_value(call, value);
  }
}

}  // namespace

c10::Device host_device() { return {kDevice, 0}; }

HostDeviceTraffic host_device_traffic() {
  return {to_host.load(), to_device.load(), waits_to_device.load()};
}

namespace {

const bool is_registered = [] {
  static Hooks hooks;
  c10::SetAllocator(kDevice, &allocator());
  c10::register_privateuse1_backend("host_device");
  at::RegisterPrivateUse1HooksInterface(&hooks);
  return true;
}();

C10_REGISTER_GUARD_IMPL(PrivateUse1, DeviceGuard)

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("resize_", &resize);
  library.impl("_copy_from", &copy_from);
  library.impl("_copy_from_and_resize", &copy_from_and_resize);
  library.impl("_local_scalar_dense", &local_scalar_dense);
  library.impl("_has_compatible_shallow_copy_type", &has_compatible_type);
  library.impl("as_strided", &at::native::as_strided_tensorimpl);
  library.impl("view", static_cast<Tensor (*)(const Tensor&, at::IntArrayRef)>(&at::native::view));
  library.impl("_reshape_alias", &at::native::_reshape_alias);
  library.impl("unfold", &at::native::unfold);
}

TORCH_LIBRARY_IMPL(aten, AutogradPrivateUse1, library) { library.impl("gru_cell", &gru_cell); }

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
}

}  // namespace
}  // namespace switchyard
