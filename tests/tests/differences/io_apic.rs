//! Differences of the I/O APIC.

use super::*;
use tests::differential::place::IO_APIC;

/// Programs the entry of pin 20, the pin of the first edu.
fn program(group: &mut Group, low: u32, high: u32) {
    for (register, value) in [(0x39, high), (0x38, low)] {
        group.step(Step::WriteLong(IO_APIC, register)).step(Step::WriteLong(IO_APIC + 0x10, value));
    }
}

#[test]
fn level_of_a_message_of_the_io_apic() {
    differ(
        Mode::Legacy,
        |group| {
            program(group, 0x41, 0);
            group.step(Step::WriteLong(edu_bar(0) + 0x60, 1)).step(Step::Settle);
        },
        Observed::Messages(vec![(0xfee0_0000, 0x4041)]),
        Observed::Messages(vec![(0xfee0_0000, 0x41)]),
    );
}

#[test]
fn reserved_bits_of_a_redirection_entry() {
    differ(
        Mode::Legacy,
        |group| {
            program(group, 0xfffe_0000 | 1 << 16, 0);
            group.step(Step::ReadLong(IO_APIC + 0x10, u32::MAX));
        },
        value(1 << 16),
        value(0xffff_0000),
    );
}
