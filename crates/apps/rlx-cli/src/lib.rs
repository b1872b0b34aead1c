//! Shared command line of the rlx binaries: arguments, progress, inspect, check, bench, forward.
