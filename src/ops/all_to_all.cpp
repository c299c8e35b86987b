#include "ops/all_to_all.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace switchyard {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

Tensor exchange(const Tensor& x_SD, const RowBlocks& send, const RowBlocks& recv,
                Communicator& group, const char* purpose) {
  Tensor out_RD = at::empty({recv.total(), x_SD.size(1)}, x_SD.options());
  group.start_all_to_all(x_SD, send, out_RD, recv, purpose)->wait();
  return out_RD;
}

class AllToAllRows : public torch::autograd::Function<AllToAllRows> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x_SD, const RowBlocks& send,
                        const RowBlocks& recv, Communicator* group, const char* purpose) {
    ctx->saved_data["send"] = send.rows;
    ctx->saved_data["send_begin"] = send.begin;
    ctx->saved_data["recv"] = recv.rows;
    ctx->saved_data["recv_begin"] = recv.begin;
    ctx->saved_data["group"] = reinterpret_cast<int64_t>(group);
    ctx->saved_data["purpose"] = reinterpret_cast<int64_t>(purpose);
    return exchange(x_SD, send, recv, *group, purpose);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    auto* group = reinterpret_cast<Communicator*>(ctx->saved_data["group"].toInt());
    const auto* purpose = reinterpret_cast<const char*>(ctx->saved_data["purpose"].toInt());
    const RowBlocks send{ctx->saved_data["send"].toIntVector(),
                         ctx->saved_data["send_begin"].toIntVector()};
    const RowBlocks recv{ctx->saved_data["recv"].toIntVector(),
                         ctx->saved_data["recv_begin"].toIntVector()};
    return {exchange(grads[0].contiguous(), recv, send, *group, purpose), Tensor(), Tensor(),
            Tensor(), Tensor()};
  }
};

}  // namespace

Tensor all_to_all_rows(const Tensor& x_SD, const RowBlocks& send, const RowBlocks& recv,
                       Communicator& group, const char* purpose) {
  TORCH_CHECK(x_SD.dim() == 2 && send.total() == x_SD.size(0), "all_to_all_rows: ", send.total(),
              " rows of ", x_SD.sizes());
  return AllToAllRows::apply(x_SD.contiguous(), send, recv, &group, purpose);
}

}  // namespace switchyard
