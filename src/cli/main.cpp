#include <exception>
#include <new>

#include "base/error.h"
#include "cli/command.h"
#include "distributed/runtime.h"

int main(int argc, char** argv) {
  const switchyard::Runtime runtime(argc, argv);
  try {
    return switchyard::run_command(argc, argv, runtime);
  } catch (const switchyard::Error& error) {  // the user, a file or the fabric
    runtime.abort_job(error.what(), error.exit_code);
  } catch (const std::bad_alloc&) {
    runtime.abort_job("out of memory: an allocation failed (std::bad_alloc)", switchyard::kExitBug);
  } catch (const std::exception& error) {  // ours: a bug
    runtime.abort_job(error.what(), switchyard::kExitBug);
  }
}
