#pragma once

#include <memory>
#include <string>

namespace switchyard {

/// `train --serve`: the report of a run that goes on, over HTTP, from a thread of its own that
/// reads the run's folder when somebody asks and never touches the training.
///
///   GET /           the page, which asks for /data.json every few seconds
///   GET /data.json  the model of the page; 304 to If-None-Match when nothing is new
///
/// On a loopback address it answers only to that address's names (403): a web page whose name was
/// made to lead here cannot read the run. What it reads is what the run has written, so a broken
/// file costs an answer (503), not the run.
class LiveServer {
 public:
  /// Takes host:port, 0 for any free port, and begins to answer. Throws ConfigError, before
  /// anything is trained, when the port is taken or the address is none of this machine's.
  LiveServer(const std::string& run_folder, const std::string& host, int port);

  /// Stops answering; waits for what is being answered.
  ~LiveServer();
  LiveServer(const LiveServer&) = delete;
  LiveServer& operator=(const LiveServer&) = delete;

  /// "http://127.0.0.1:8008/"
  const std::string& url() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// Whether an address or `localhost` is reached from this machine alone.
bool is_loopback(const std::string& host);

}  // namespace switchyard
