#include "report/live_server.h"

#include <arpa/inet.h>
#include <httplib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <mutex>
#include <thread>

#include "base/checksum.h"
#include "base/error.h"
#include "report/page.h"
#include "report/run_view.h"

namespace switchyard {
namespace {

constexpr size_t kThreads = 2;

/// This thread, and those it starts, give way to the ranks.
void be_nice() { ::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), 19); }

std::string url_of(const std::string& host, int port) {
  const bool v6 = host.find(':') != std::string::npos;
  return "http://" + (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port) + "/";
}

/// "127.0.0.1:8008" -> "127.0.0.1", "[::1]:8008" -> "::1".
std::string name_in(const std::string& host_header) {
  if (host_header.starts_with('[')) return host_header.substr(1, host_header.find(']') - 1);
  return host_header.substr(0, host_header.find(':'));
}

/// A page from elsewhere whose name was made to lead here asks under that name: it must not
/// read the run. Who listens for other machines is asked under names that are not known here.
httplib::Server::HandlerResponse refuse_other_names(const httplib::Request& request,
                                                    httplib::Response& response) {
  if (is_loopback(name_in(request.get_header_value("Host")))) {
    return httplib::Server::HandlerResponse::Unhandled;
  }
  response.status = 403;
  response.set_content("ask for this page as 127.0.0.1 or localhost\n", "text/plain");
  return httplib::Server::HandlerResponse::Handled;
}

/// The default of httplib shares the port with whoever else asks for it.
void own_the_port(socket_t socket) {
  const int yes = 1;
  ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
}

}  // namespace

class LiveServer::Impl {
 public:
  Impl(const std::string& run_folder, const std::string& host, int port)
      : run_{RunView(run_folder)} {
    server_.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
    server_.set_socket_options(own_the_port);
    server_.set_keep_alive_max_count(1);
    server_.set_default_headers(
        {{"Cache-Control", "no-cache"}, {"X-Content-Type-Options", "nosniff"}});
    if (is_loopback(host)) server_.set_pre_routing_handler(refuse_other_names);
    server_.Get("/", [this](const httplib::Request&, httplib::Response& response) {
      answer(
          response, [this] { return report_page(report_model(run_), PageKind::kLive); },
          "text/html; charset=utf-8");
    });
    server_.Get("/data.json", [this](const httplib::Request& request, httplib::Response& response) {
      answer(
          response, [this] { return script_safe_json(report_model(run_)); }, "application/json");
      const std::string tag =
          '"' + digest_text(xxh3(response.body.data(), response.body.size())) + '"';
      response.set_header("ETag", tag);
      if (response.status == 200 && request.get_header_value("If-None-Match") == tag) {
        response.status = 304;
        response.body.clear();
      }
    });
    const int bound =
        port == 0 ? server_.bind_to_any_port(host) : (server_.bind_to_port(host, port) ? port : -1);
    if (bound < 0) {
      throw ConfigError("--serve: cannot listen on " + host + ":" + std::to_string(port) +
                        ", the port is taken or the address is not this machine's; --serve 0 takes "
                        "a free port");
    }
    url_ = url_of(host, bound);
    thread_ = std::thread([this] {
      be_nice();
      server_.listen_after_bind();
    });
    while (!server_.is_running()) std::this_thread::yield();
  }

  ~Impl() {
    server_.stop();
    thread_.join();
  }

  const std::string& url() const { return url_; }

 private:
  /// The run read anew, then `make` in the body; one reader at a time.
  template <typename Make>
  void answer(httplib::Response& response, Make&& make, const char* type) {
    const std::lock_guard<std::mutex> lock(mutex_);
    try {
      run_.front().refresh();
      response.set_content(make(), type);
      response.status = 200;
    } catch (const std::exception& error) {
      response.status = 503;
      response.set_content(std::string(error.what()) + "\n", "text/plain; charset=utf-8");
    }
  }

  std::mutex mutex_;
  std::vector<RunView> run_;  // one
  httplib::Server server_;
  std::string url_;
  std::thread thread_;
};

LiveServer::LiveServer(const std::string& run_folder, const std::string& host, int port)
    : impl_(std::make_unique<Impl>(run_folder, host, port)) {}

LiveServer::~LiveServer() = default;

const std::string& LiveServer::url() const { return impl_->url(); }

bool is_loopback(const std::string& host) {
  in_addr v4{};
  if (::inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  return host == "localhost" || host == "::1";
}

}  // namespace switchyard
