#include "support/mpi_main.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "distributed/communicator.h"

// A GoogleTest main for tests that run under mpirun: every rank runs every test,
// rank 0 prints, other ranks print their failures, and when one rank fails all exit
// with 1. What would leave the others waiting in a collective (an exception, a
// failed ASSERT) ends the job at once.

namespace switchyard {
namespace {

const Runtime* runtime_of_test = nullptr;

class RankListener : public testing::EmptyTestEventListener {
 public:
  void OnTestStart(const testing::TestInfo& info) override {
    test_ = std::string(info.test_suite_name()) + "." + info.name();
  }

  void OnTestPartResult(const testing::TestPartResult& result) override {
    const Runtime& runtime = test_runtime();
    if (result.failed() && runtime.rank() > 0) {
      std::fprintf(stderr, "[rank %d] %s\n%s:%d: %s\n", runtime.rank(), test_.c_str(),
                   result.file_name() == nullptr ? "?" : result.file_name(), result.line_number(),
                   result.message());
    }
    if (result.fatally_failed()) runtime.abort_job(test_ + ": a failed ASSERT", /*exit_code=*/1);
  }

 private:
  std::string test_;
};

/// Whether this rank ran tests, all of them, and none failed. A skip is a failure.
bool passes() {
  const bool all_passed = RUN_ALL_TESTS() == 0;
  const testing::UnitTest& tests = *testing::UnitTest::GetInstance();
  if (tests.skipped_test_count() > 0) std::fprintf(stderr, "a test skipped itself\n");
  return all_passed && tests.skipped_test_count() == 0 && tests.test_to_run_count() > 0;
}

int run_tests(const Runtime& runtime) {
  testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
  if (runtime.rank() > 0) delete listeners.Release(listeners.default_result_printer());
  listeners.Append(new RankListener);
  GTEST_FLAG_SET(catch_exceptions, false);
  const std::string result = passes() ? "passed" : "failed";
  const Mesh mesh = runtime.make_mesh({});
  int failed_ranks = 0;
  for (const std::string& text : all_gather_text(*mesh.world, result, "results of the tests")) {
    failed_ranks += text != "passed";
  }
  return failed_ranks == 0 ? 0 : 1;
}

}  // namespace

const Runtime& test_runtime() { return *runtime_of_test; }

}  // namespace switchyard

int main(int argc, char** argv) {
  const switchyard::Runtime runtime(argc, argv);
  switchyard::runtime_of_test = &runtime;
  testing::InitGoogleTest(&argc, argv);
  try {
    return switchyard::run_tests(runtime);
  } catch (const std::exception& error) {
    const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
    const std::string where = test == nullptr ? "" : std::string(test->name()) + ": ";
    runtime.abort_job(where + error.what(), /*exit_code=*/1);
  }
}
