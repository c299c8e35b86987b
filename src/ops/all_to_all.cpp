#include "ops/all_to_all.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace switchyard {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class AllToAllRows : public torch::autograd::Function<AllToAllRows> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x_SD,
                        const std::vector<int64_t>& send_rows,
                        const std::vector<int64_t>& recv_rows, Communicator* group,
                        const char* purpose) {
    ctx->saved_data["send"] = send_rows;
    ctx->saved_data["recv"] = recv_rows;
    ctx->saved_data["group"] = reinterpret_cast<int64_t>(group);
    ctx->saved_data["purpose"] = reinterpret_cast<int64_t>(purpose);
    return group->all_to_all(x_SD, send_rows, recv_rows, purpose);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    auto* group = reinterpret_cast<Communicator*>(ctx->saved_data["group"].toInt());
    const auto* purpose = reinterpret_cast<const char*>(ctx->saved_data["purpose"].toInt());
    const auto send = ctx->saved_data["send"].toIntVector(),
               recv = ctx->saved_data["recv"].toIntVector();
    return {group->all_to_all(grads[0].contiguous(), recv, send, purpose), Tensor(), Tensor(),
            Tensor(), Tensor()};
  }
};

}  // namespace

Tensor all_to_all_rows(const Tensor& x_SD, const std::vector<int64_t>& send_rows,
                       const std::vector<int64_t>& recv_rows, Communicator& group,
                       const char* purpose) {
  return AllToAllRows::apply(x_SD.contiguous(), send_rows, recv_rows, &group, purpose);
}

}  // namespace switchyard
