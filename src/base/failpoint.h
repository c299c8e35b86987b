#pragma once

namespace switchyard {

/// A named place where a test can make this rank die, stop, wait, throw or go wrong.
/// The program that users run is linked with failpoint.cpp, where it does nothing;
/// the one of tests/faults is linked with another definition, which reads what to
/// do from the environment. Returns whether the caller should do its work wrongly:
///
///   if (failpoint("gradient")) gradient.fill_(NAN);
///
/// Names are those of phases and steps of a protocol, in lower case. A failpoint is
/// for places that are passed a few times a step, not for inner loops.
bool failpoint(const char* name);

}  // namespace switchyard
