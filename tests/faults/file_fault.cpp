#include "faults/file_fault.h"

#include <map>
#include <stdexcept>

namespace switchyard {
namespace {

using Deed = FileFault::Deed;

/// Takes "<key>...<end>" off the front; "" when there is none.
std::string take(std::string& text, const std::string& key, const std::string& end) {
  if (!text.starts_with(key)) return "";
  const size_t stop = text.find(end);
  if (stop == std::string::npos) throw std::invalid_argument("no " + end + " after " + key);
  std::string value = text.substr(key.size(), stop - key.size());
  text = text.substr(stop + end.size());
  return value;
}

void parse_deed(const std::string& name, FileFault& fault) {
  static const std::map<std::string, int> errors = {
      {"eio", EIO}, {"enospc", ENOSPC}, {"eintr", EINTR}, {"einval", EINVAL}};
  static const std::map<std::string, Deed> deeds = {
      {"short", Deed::kShort}, {"kill", Deed::kKill}, {"kill-after", Deed::kKillAfter}};
  if (errors.contains(name)) {
    fault.deed = Deed::kFail;
    fault.error = errors.at(name);
  } else if (deeds.contains(name)) {
    fault.deed = deeds.at(name);
  } else if (name.starts_with("sleep=") && name.ends_with("ms")) {
    fault.deed = Deed::kSleep;
    fault.milliseconds = std::stoi(name.substr(6));
  } else {
    throw std::invalid_argument("unknown fault \"" + name + "\"");
  }
}

}  // namespace

FileFault parse_file_fault(const std::string& text) {
  FileFault fault;
  std::string rest = text;
  if (const std::string rank = take(rest, "rank=", ":"); !rank.empty())
    fault.rank = std::stoi(rank);
  fault.path = take(rest, "path=", ":");
  if (rest.starts_with("count:")) {
    fault.deed = Deed::kCount;
    fault.count_file = rest.substr(6);
    return fault;
  }
  const size_t at = rest.find('@');
  if (at == std::string::npos) throw std::invalid_argument("no @K in \"" + text + "\"");
  parse_deed(rest.substr(0, at), fault);
  fault.for_ever = rest.ends_with('+');
  fault.at = std::stoll(rest.substr(at + 1));
  if (fault.at < 1) throw std::invalid_argument("operations are counted from 1");
  return fault;
}

}  // namespace switchyard
