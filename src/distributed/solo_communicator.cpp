#include "distributed/solo_communicator.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class SoloCommunicator final : public Communicator {
 public:
  explicit SoloCommunicator(const std::string& name) : Communicator(/*rank=*/0, /*size=*/1, name) {}

  void all_reduce(at::Tensor& /*x*/, ReduceOp /*op*/, const char* /*purpose*/) override {}
  void reduce_scatter(const at::Tensor& input, at::Tensor& output,
                      const char* /*purpose*/) override {
    if (input.data_ptr() != output.data_ptr()) output.copy_(input.view_as(output));
  }
  void reduce_scatter_uneven(const at::Tensor& input, const std::vector<int64_t>& counts,
                             at::Tensor& output, const char* /*purpose*/) override {
    TORCH_CHECK(counts.size() == 1 && counts[0] == input.numel(),
                "reduce_scatter in a world of one: the only piece is the input");
    output.copy_(input.view_as(output));
  }
  void all_gather(const at::Tensor& input, at::Tensor& output, const char* /*purpose*/) override {
    if (input.data_ptr() != output.data_ptr()) output.copy_(input.view_as(output));
  }
  void broadcast(at::Tensor& /*x*/, int /*root*/, const char* /*purpose*/) override {}
  std::unique_ptr<UnderWay> start_all_to_all(const at::Tensor& input, const RowBlocks& send,
                                             at::Tensor& output, const RowBlocks& recv,
                                             const char* /*purpose*/) override {
    check_blocks(input, send, output, recv);
    TORCH_CHECK(send.rows == recv.rows, "all-to-all in a world of one: all rows stay here");
    for (size_t i = 0; i < send.rows.size(); ++i) {
      output.narrow(0, recv.begin[i], recv.rows[i])
          .copy_(input.narrow(0, send.begin[i], send.rows[i]));
    }
    return std::make_unique<Over>();
  }
  void barrier(const char* /*purpose*/) override {}
};

}  // namespace

std::unique_ptr<Communicator> make_solo_communicator(const std::string& name) {
  return std::make_unique<SoloCommunicator>(name);
}

}  // namespace switchyard
