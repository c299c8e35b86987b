#pragma once

#include <nccl.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>

namespace switchyard {

/// NCCL's communicator of one rank of a group: its calls, its errors and its end. A failure of a
/// call, or of what is under way by then, is a CommError; one that comes while nobody calls is
/// seen by a thread of its own ten times a second, which aborts what can no longer end and leaves
/// the reason to the next call. `purpose` and `what`, the name of NCCL's function, are told.
class NcclGroup {
 public:
  /// Of rank `rank` of the `size` ranks that `name` names to readers. Waits until all have come
  /// with the same `id`. The current device is the rank's.
  NcclGroup(const std::string& name, int rank, int size, const ncclUniqueId& id);
  /// In good order where all went well, which every rank of the group takes part in; else at once.
  ~NcclGroup();
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;

  /// Null after an abort.
  ncclComm_t get() const { return comm_; }

  /// From now on errors are looked for while nobody calls.
  void start_to_watch();

  /// Throws what NCCL has met by now, on its own threads and on the network.
  ncclResult_t state(const char* what, const char* purpose);

  /// Throws unless `result` is of a call that is over, or that NCCL goes on with by itself.
  void check(ncclResult_t result, const char* what, const char* purpose);

  /// Waits until `done()`, and looks for errors meanwhile.
  template <class Done>
  void poll(const char* what, const char* purpose, const Done& done) {
    constexpr int kEager = 1000;
    for (int tries = 0; !done(); ++tries) {
      state(what, purpose);
      if (tries < kEager) {
        std::this_thread::yield();
      } else {
        std::this_thread::sleep_for(std::chrono::microseconds(100));
      }
    }
  }

  /// `make`, a call of NCCL, until NCCL is through with it: its work is on its stream.
  template <class Call>
  void call(const char* what, const char* purpose, const Call& make) {
    std::unique_lock lock(mutex_);
    const bool is_lost = comm_ == nullptr;
    if (!is_lost) check(make(), what, purpose);
    lock.unlock();
    if (is_lost) throw_lost(what, purpose);
    poll(what, purpose, [&] { return state(what, purpose) == ncclSuccess; });
  }

  /// Calls of NCCL as one: `make` gives what it is given the name and the result of each.
  template <class Calls>
  void call_together(const char* purpose, const Calls& make) {
    call("ncclGroupEnd", purpose, [&] {
      check(ncclGroupStart(), "ncclGroupStart", purpose);
      make([&](const char* what, ncclResult_t result) { check(result, what, purpose); });
      return ncclGroupEnd();
    });
  }

  /// Ends what is under way; calls of other threads wait for the end of the process from now on.
  void abort();

 private:
  std::string message(ncclResult_t result, const std::string& what) const;
  /// After an abort: by this group, which knows why, or before the process ends.
  [[noreturn]] void throw_lost(const char* what, const char* purpose);
  void watch(const std::stop_token& stop);

  const std::string name_;
  const int rank_, size_;
  std::mutex mutex_;  // of the next two
  ncclComm_t comm_ = nullptr;
  std::string failure_;  // why comm_ was aborted from here
  bool failed_ = false;
  std::condition_variable_any wake_;
  std::jthread watcher_;
};

}  // namespace switchyard
