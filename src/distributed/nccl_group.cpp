#include "distributed/nccl_group.h"

#include <signal.h>

#include <exception>

#include "base/error.h"

namespace switchyard {
namespace {

/// The process ends sooner after an abort.
constexpr auto kEnd = std::chrono::seconds(5);

bool is_good(ncclResult_t result) { return result == ncclSuccess || result == ncclInProgress; }

}  // namespace

NcclGroup::NcclGroup(const std::string& name, int rank, int size, const ncclUniqueId& id)
    : name_(name), rank_(rank), size_(size) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  constexpr const char* kInit = "ncclCommInitRankConfig";
  check(ncclCommInitRankConfig(&comm_, size, id, rank, &config), kInit, "start");
  poll(kInit, "start", [&] { return state(kInit, "start") == ncclSuccess; });
}

NcclGroup::~NcclGroup() {
  watcher_ = {};  // asks it to stop, and waits
  if (comm_ == nullptr) return;
  if (failed_ || std::uncaught_exceptions() > 0) {  // the others may not come to an orderly end
    ncclCommAbort(comm_);
    return;
  }
  ncclResult_t result = ncclCommFinalize(comm_);
  while (result == ncclInProgress && ncclCommGetAsyncError(comm_, &result) == ncclSuccess) {
  }
  ncclCommDestroy(comm_);
}

void NcclGroup::start_to_watch() {
  sigset_t all, before;  // signals are for the main thread
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  watcher_ = std::jthread([this](const std::stop_token& stop) { watch(stop); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

ncclResult_t NcclGroup::state(const char* what, const char* purpose) {
  std::unique_lock lock(mutex_);
  ncclResult_t now = ncclSuccess;
  if (comm_ != nullptr) {
    check(ncclCommGetAsyncError(comm_, &now), "ncclCommGetAsyncError", purpose);
    check(now, what, purpose);
    return now;
  }
  lock.unlock();
  throw_lost(what, purpose);
}

void NcclGroup::check(ncclResult_t result, const char* what, const char* purpose) {
  if (is_good(result)) return;
  failed_ = true;
  throw CommError(message(result, std::string(what) + ", " + purpose));
}

void NcclGroup::abort() {
  const std::lock_guard lock(mutex_);
  if (comm_ == nullptr) return;
  ncclCommAbort(comm_);
  comm_ = nullptr;
}

std::string NcclGroup::message(ncclResult_t result, const std::string& what) const {
  const char* detail = comm_ == nullptr ? "" : ncclGetLastError(comm_);
  return what + ": rank " + std::to_string(rank_) + " of " + std::to_string(size_) + " of " +
         name_ + ": " + ncclGetErrorString(result) + (*detail == '\0' ? "" : ": ") + detail;
}

void NcclGroup::throw_lost(const char* what, const char* purpose) {
  if (failure_.empty()) std::this_thread::sleep_for(kEnd);  // who has aborted tells why
  throw CommError(std::string(what) + ", " + purpose + ": " +
                  (failure_.empty() ? name_ + " was given up" : failure_));
}

void NcclGroup::watch(const std::stop_token& stop) {
  constexpr auto kLook = std::chrono::milliseconds(100);
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, stop, kLook, [&] { return stop.stop_requested(); })) {
    if (stop.stop_requested() || comm_ == nullptr) return;
    ncclResult_t now = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm_, &now);
    if (is_good(asked) && is_good(now)) continue;
    failure_ = message(is_good(asked) ? now : asked, "ncclCommGetAsyncError");
    ncclCommAbort(comm_);
    comm_ = nullptr;
  }
}

}  // namespace switchyard
