//! The built-in guest under a real KVM: what happens to it, event by event.

mod endings;
mod faults;
mod garbage;
mod healthy;
mod hierarchy;
mod links;
mod neighbor;
mod policies;
mod selftest;
