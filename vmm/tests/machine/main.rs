//! Whole machines under a real KVM, each with a guest of a few bytes of machine code.

mod buses;
mod code;
mod doctor;
mod edu;
mod elf;
mod endings;
mod guest;
mod interrupts;
mod linux;
mod multiboot;
mod same_machine;
mod sleep;
