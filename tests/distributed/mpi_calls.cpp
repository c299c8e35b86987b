#include "distributed/mpi_calls.h"

#include <mpi.h>

#include <algorithm>
#include <numeric>

namespace switchyard {
namespace {

int64_t largest = 0;

void record(int64_t count) { largest = std::max(largest, count); }

}  // namespace

int64_t largest_mpi_count() { return largest; }
void forget_mpi_counts() { largest = 0; }

}  // namespace switchyard

// MPI's profiling interface: a program's own MPI_X is called in place of the
// library's, which stays reachable as PMPI_X.

using switchyard::record;

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

int MPI_Isend(const void* in, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
              MPI_Request* request) {
  record(count);
  return PMPI_Isend(in, count, type, to, tag, comm, request);
}

int MPI_Irecv(void* out, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm,
              MPI_Request* request) {
  record(count);
  return PMPI_Irecv(out, count, type, from, tag, comm, request);
}
