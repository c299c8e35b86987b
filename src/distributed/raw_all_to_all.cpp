#include "distributed/raw_all_to_all.h"

#include <mpi.h>

#include <limits>
#include <vector>

#include "distributed/check_mpi.h"

namespace switchyard {

void raw_all_to_all(const at::Tensor& input, at::Tensor& output) {
  int ranks = 0;
  check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &ranks), "MPI_Comm_size", "raw all-to-all");
  TORCH_CHECK(input.is_contiguous() && output.is_contiguous() && input.nbytes() == output.nbytes(),
              "raw_all_to_all: two contiguous tensors of one size");
  TORCH_CHECK(input.nbytes() % ranks == 0 && input.nbytes() <= std::numeric_limits<int>::max(),
              "raw_all_to_all: ", input.nbytes(), " bytes for ", ranks, " ranks");
  const int piece = static_cast<int>(input.nbytes()) / ranks;
  const std::vector<int> counts(ranks, piece);
  std::vector<int> begins(ranks);
  for (int r = 0; r < ranks; ++r) begins[r] = r * piece;
  check_mpi(
      MPI_Alltoallv(input.data_ptr(), counts.data(), begins.data(), MPI_BYTE, output.data_ptr(),
                    counts.data(), begins.data(), MPI_BYTE, MPI_COMM_WORLD),
      "MPI_Alltoallv", "raw all-to-all");
}

}  // namespace switchyard
