#include "distributed/mpi_calls.h"

#include <mpi.h>

#include <algorithm>
#include <numeric>

namespace switchyard {
namespace {

int64_t largest = 0;

void record(int64_t count) { largest = std::max(largest, count); }

void record_all(const int* counts, MPI_Comm comm) {
  int size = 0;
  PMPI_Comm_size(comm, &size);
  for (int r = 0; r < size; ++r) record(counts[r]);
}

}  // namespace

int64_t largest_mpi_count() { return largest; }
void forget_mpi_counts() { largest = 0; }

}  // namespace switchyard

// MPI's profiling interface: a program's own MPI_X is called in place of the
// library's, which stays reachable as PMPI_X.

using switchyard::record;
using switchyard::record_all;

int MPI_Allreduce(const void* in, void* out, int count, MPI_Datatype type, MPI_Op op,
                  MPI_Comm comm) {
  record(count);
  return PMPI_Allreduce(in, out, count, type, op, comm);
}

int MPI_Reduce(const void* in, void* out, int count, MPI_Datatype type, MPI_Op op, int root,
               MPI_Comm comm) {
  record(count);
  return PMPI_Reduce(in, out, count, type, op, root, comm);
}

int MPI_Reduce_scatter_block(const void* in, void* out, int count, MPI_Datatype type, MPI_Op op,
                             MPI_Comm comm) {
  int size = 0;
  PMPI_Comm_size(comm, &size);
  record(static_cast<int64_t>(count) * size);
  return PMPI_Reduce_scatter_block(in, out, count, type, op, comm);
}

int MPI_Reduce_scatter(const void* in, void* out, const int* counts, MPI_Datatype type, MPI_Op op,
                       MPI_Comm comm) {
  int size = 0;
  PMPI_Comm_size(comm, &size);
  record(std::accumulate(counts, counts + size, int64_t{0}));
  return PMPI_Reduce_scatter(in, out, counts, type, op, comm);
}

int MPI_Allgather(const void* in, int in_count, MPI_Datatype in_type, void* out, int out_count,
                  MPI_Datatype out_type, MPI_Comm comm) {
  int size = 0;
  PMPI_Comm_size(comm, &size);
  record(static_cast<int64_t>(out_count) * size);
  return PMPI_Allgather(in, in_count, in_type, out, out_count, out_type, comm);
}

int MPI_Bcast(void* x, int count, MPI_Datatype type, int root, MPI_Comm comm) {
  record(count);
  return PMPI_Bcast(x, count, type, root, comm);
}

int MPI_Alltoallv(const void* in, const int* in_counts, const int* in_at, MPI_Datatype in_type,
                  void* out, const int* out_counts, const int* out_at, MPI_Datatype out_type,
                  MPI_Comm comm) {
  for (const int* values : {in_counts, in_at, out_counts, out_at}) record_all(values, comm);
  return PMPI_Alltoallv(in, in_counts, in_at, in_type, out, out_counts, out_at, out_type, comm);
}

int MPI_Type_create_hindexed(int count, const int* lengths, const MPI_Aint* displacements,
                             MPI_Datatype of, MPI_Datatype* made) {
  for (int i = 0; i < count; ++i) record(lengths[i]);
  return PMPI_Type_create_hindexed(count, lengths, displacements, of, made);
}
