#pragma once

namespace switchyard {

// A scheduler asks a job to stop with a signal, and kills it some seconds later. The
// signal only leaves a mark; the run looks at it where it can save. SIGUSR1, SIGUSR2,
// SIGTERM and the first SIGINT are such requests; a second SIGINT (Ctrl-C) ends the
// process at once. One set per process, as signals are.

/// From now on stop signals leave a mark in place of ending the process.
void catch_stop_signals();

/// The number of the last stop signal that came, 0 if none did. Any thread.
int stop_signal();

/// "SIGTERM".
const char* stop_signal_name(int signal);

/// Stop signals end the process again. One that has already come does not.
void restore_stop_signals();

/// Stop signals end the process again, and one that has already come does so now.
void release_stop_signals();

}  // namespace switchyard
