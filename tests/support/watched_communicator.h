#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "distributed/communicator.h"
#include "distributed/mesh.h"

namespace switchyard {

/// Another communicator, whose calls a test watches.
class WatchedCommunicator : public Communicator {
 public:
  explicit WatchedCommunicator(std::unique_ptr<Communicator> inner)
      : Communicator(inner->rank(), inner->size(), inner->name()), inner_(std::move(inner)) {}

  void all_reduce(at::Tensor& x, ReduceOp op, const char* purpose) override {
    begins(purpose);
    inner_->all_reduce(x, op, purpose);
  }
  void reduce_scatter(const at::Tensor& input, at::Tensor& output, const char* purpose) override {
    begins(purpose);
    inner_->reduce_scatter(input, output, purpose);
  }
  void reduce_scatter_uneven(const at::Tensor& input, const std::vector<int64_t>& counts,
                             at::Tensor& output, const char* purpose) override {
    begins(purpose);
    inner_->reduce_scatter_uneven(input, counts, output, purpose);
  }
  void all_gather(const at::Tensor& input, at::Tensor& output, const char* purpose) override {
    begins(purpose);
    inner_->all_gather(input, output, purpose);
  }
  void broadcast(at::Tensor& x, int root, const char* purpose) override {
    begins(purpose);
    inner_->broadcast(x, root, purpose);
  }
  std::unique_ptr<UnderWay> start_all_to_all(const at::Tensor& input, const RowBlocks& send,
                                             at::Tensor& output, const RowBlocks& recv,
                                             const char* purpose) override {
    begins(purpose);
    return watched(inner_->start_all_to_all(input, send, output, recv, purpose), purpose);
  }
  std::unique_ptr<UnderWay> start_all_reduce(at::Tensor& x, ReduceOp op,
                                             const char* purpose) override {
    begins(purpose);
    return watched(inner_->start_all_reduce(x, op, purpose), purpose);
  }
  std::unique_ptr<UnderWay> start_reduce_scatter_uneven(const at::Tensor& input,
                                                        const std::vector<int64_t>& counts,
                                                        at::Tensor& output,
                                                        const char* purpose) override {
    begins(purpose);
    return watched(inner_->start_reduce_scatter_uneven(input, counts, output, purpose), purpose);
  }
  std::unique_ptr<UnderWay> start_all_gather_uneven(at::Tensor& x,
                                                    const std::vector<int64_t>& counts,
                                                    const char* purpose) override {
    begins(purpose);
    return watched(inner_->start_all_gather_uneven(x, counts, purpose), purpose);
  }
  void barrier(const char* purpose) override { inner_->barrier(purpose); }

 protected:
  virtual void begins(const char* /*purpose*/) {}
  /// Of one that was started: it is waited for.
  virtual void ends(const char* /*purpose*/) {}
  Communicator& inner() { return *inner_; }

 private:
  class Watched final : public UnderWay {
   public:
    Watched(std::unique_ptr<UnderWay> inner, WatchedCommunicator& by, const char* purpose)
        : inner_(std::move(inner)), by_(by), purpose_(purpose) {}

    void wait() override {
      by_.ends(purpose_);
      inner_->wait();
    }

   private:
    const std::unique_ptr<UnderWay> inner_;
    WatchedCommunicator& by_;
    const char* const purpose_;
  };

  std::unique_ptr<UnderWay> watched(std::unique_ptr<UnderWay> call, const char* purpose) {
    return std::make_unique<Watched>(std::move(call), *this, purpose);
  }

  std::unique_ptr<Communicator> inner_;
};

/// Notes when calls begin and are waited for: "+ dispatch of tokens", "- dispatch of tokens".
class NotedCommunicator final : public WatchedCommunicator {
 public:
  NotedCommunicator(std::unique_ptr<Communicator> inner, std::vector<std::string>& notes)
      : WatchedCommunicator(std::move(inner)), notes_(notes) {}

 private:
  void begins(const char* purpose) override { notes_.push_back(std::string("+ ") + purpose); }
  void ends(const char* purpose) override { notes_.push_back(std::string("- ") + purpose); }

  std::vector<std::string>& notes_;
};

/// What is started is done when it is waited for, and what it fills is NaN until then: the latest
/// that a transport may be.
class LateCommunicator final : public WatchedCommunicator {
 public:
  using WatchedCommunicator::WatchedCommunicator;

  std::unique_ptr<UnderWay> start_all_to_all(const at::Tensor& input, const RowBlocks& send,
                                             at::Tensor& output, const RowBlocks& recv,
                                             const char* purpose) override {
    spoil(output);
    return later([=, this, output = output]() mutable {
      inner().start_all_to_all(input, send, output, recv, purpose)->wait();
    });
  }
  std::unique_ptr<UnderWay> start_all_reduce(at::Tensor& x, ReduceOp op,
                                             const char* purpose) override {
    const at::Tensor given = x.clone();
    spoil(x);
    return later([=, this, x = x]() mutable {
      x.copy_(given);
      inner().all_reduce(x, op, purpose);
    });
  }
  std::unique_ptr<UnderWay> start_reduce_scatter_uneven(const at::Tensor& input,
                                                        const std::vector<int64_t>& counts,
                                                        at::Tensor& output,
                                                        const char* purpose) override {
    const at::Tensor given = input.clone();  // `output` may be a part of it
    spoil(output);
    return later([=, this, output = output]() mutable {
      inner().start_reduce_scatter_uneven(given, counts, output, purpose)->wait();
    });
  }
  std::unique_ptr<UnderWay> start_all_gather_uneven(at::Tensor& x,
                                                    const std::vector<int64_t>& counts,
                                                    const char* purpose) override {
    const at::Tensor given = x.clone();
    spoil(x);
    return later([=, this, x = x]() mutable {
      x.copy_(given);
      inner().start_all_gather_uneven(x, counts, purpose)->wait();
    });
  }

 private:
  class Later final : public UnderWay {
   public:
    explicit Later(std::function<void()> work) : work_(std::move(work)) {}
    void wait() override { work_(); }

   private:
    const std::function<void()> work_;
  };

  static std::unique_ptr<UnderWay> later(std::function<void()> work) {
    return std::make_unique<Later>(std::move(work));
  }
  static void spoil(at::Tensor& x) {
    if (x.is_floating_point()) x.fill_(std::numeric_limits<double>::quiet_NaN());
  }
};

/// All groups of `mesh` wrapped.
template <class Wrapper, class... Arguments>
Mesh watched(Mesh mesh, Arguments&... arguments) {
  for (auto* group : {&mesh.world, &mesh.expert, &mesh.data})
    *group = std::make_unique<Wrapper>(std::move(*group), arguments...);
  return mesh;
}

}  // namespace switchyard
