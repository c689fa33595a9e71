//! The program `vivariumd`: see the library of the same crate.

#![deny(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    vivarium_supervisor::main()
}
