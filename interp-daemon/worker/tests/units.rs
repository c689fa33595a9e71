//! The parts of the extension that know nothing of Python, with their own tests. (The extension itself can only be loaded
//! by a Python, whose functions it calls.)
#![allow(dead_code, unreachable_pub)]

#[path = "../src/engine/drain.rs"]
mod drain;
#[path = "../src/engine/seats.rs"]
mod seats;

/// What they need of the engine's own.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
