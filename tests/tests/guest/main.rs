//! The built-in guest under KVM: tests of the events of its run.

mod direct;
mod endings;
mod faults;
mod garbage;
mod healthy;
mod hierarchy;
mod links;
mod neighbor;
mod policies;
mod selftest;
mod stale;
