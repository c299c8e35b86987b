#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <string_view>

#include "base/error.h"
#include "base/heap.h"
#include "base/stop_signal.h"
#include "cli/command.h"
#include "distributed/runtime.h"

namespace {

switchyard::ExitCode run(int argc, char** argv) {
  switchyard::keep_freed_memory();
  // Before MPI starts: a scheduler may ask a run to stop at any moment.
  if (argc > 1 && std::string_view(argv[1]) == "train") switchyard::catch_stop_signals();
  const switchyard::Runtime runtime(argc, argv);
  try {
    return switchyard::run_command(argc, argv, runtime);
  } catch (const switchyard::Error& error) {  // the user, a file or the fabric
    runtime.abort_job(error.what(), error.exit_code);
  } catch (const std::bad_alloc&) {
    runtime.abort_job(
        "out of memory: an allocation failed (std::bad_alloc); use a smaller "
        "train.micro_batch_size, or more ranks",
        switchyard::kExitBug);
  } catch (const std::exception& error) {  // ours: a bug
    runtime.abort_job(error.what(), switchyard::kExitBug);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const switchyard::ExitCode exit_code = run(argc, argv);
  // Not by return: LibTorch would take its table of operators apart for a tenth of a second.
  std::fflush(nullptr);
  std::quick_exit(exit_code);
}
