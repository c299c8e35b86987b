#include <exception>
#include <string>

#include "base/error.h"
#include "distributed/runtime.h"

// How a job ends whose ranks fail; failing_rank_test.sh runs it under mpirun:
//
//   failing_rank one   rank 1 finds a damaged file while the others wait in a barrier
//   failing_rank bug   rank 1 throws what nobody expects
//   failing_rank all   all ranks refuse the same config

namespace {

void fail(const std::string& who, const switchyard::Runtime& runtime) {
  if (who == "all") throw switchyard::ConfigError("optim.lr: -1 is below 0");
  const switchyard::Mesh mesh = runtime.make_mesh({});
  if (runtime.rank() == 1) {
    if (who == "one") throw switchyard::DataError("corpus/shard-7: its checksum differs");
    throw std::runtime_error("index 9 out of range");
  }
  mesh.world->barrier("the failing rank");
}

}  // namespace

int main(int argc, char** argv) {
  switchyard::Runtime runtime(argc, argv);
  try {
    fail(argv[1], runtime);
  } catch (const switchyard::Error& error) {
    runtime.abort_job(error.what(), error.exit_code);
  } catch (const std::exception& error) {
    runtime.abort_job(error.what(), switchyard::kExitBug);
  }
}
