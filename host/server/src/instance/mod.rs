//! The instances that answer requests: when one may start and compute, how it runs, and what stops it.

pub(crate) mod admission;
pub(crate) mod guest;
mod guest_thread;
pub(crate) mod permit;
mod scheduled_guest;
mod scheduler;
mod watchdog;
