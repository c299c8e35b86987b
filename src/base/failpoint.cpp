#include "base/failpoint.h"

namespace switchyard {

bool failpoint(const char* /*name*/) { return false; }

}  // namespace switchyard
