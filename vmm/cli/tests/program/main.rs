//! The program `ghostlink` as its users see it.

mod browser;
mod cli;
#[path = "../../../tests/machine/code.rs"]
#[expect(dead_code, reason = "the machines of vmm's tests use the rest")]
mod code;
mod demo;
mod doctor;
#[path = "../../../tests/machine/elf.rs"]
#[expect(dead_code, reason = "the machines of vmm's tests use the rest")]
mod elf;
mod experiment;
mod host;
mod kernel_config;
mod lab;
mod qemu_qtest;
mod scenarios;
mod testhost;
mod validate;
