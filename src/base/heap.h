#pragma once

namespace switchyard {

/// Keeps memory that was freed for the next allocation instead of giving it back to the kernel:
/// a training step allocates what the step before freed, and would pay for every page again
/// (glibc maps blocks above 128 KiB anew each time). Call once, before the first allocation that
/// matters. Process-wide.
void keep_freed_memory();

}  // namespace switchyard
