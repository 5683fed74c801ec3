//! An interrupt's way under a real KVM: COM1, I/O APIC, local APIC, handler, and back by the end
//! of interrupt.

use std::time::Duration;

use iommu::event::Event;
use vmm::Exit;

use crate::guest::{Guest, kvm_wanted};

/// Remote IRR of a redirection entry: delivered, and not ended yet.
const REMOTE_IRR: u32 = 1 << 14;

/// Makes COM1's pin level-triggered with vector 0x40, causes its interrupt, and tells what the
/// entry was in the handler and after it.
#[rustfmt::skip]
const LEVEL_INTERRUPT: &[u8] = &[
    // Entry 0x40 of an interrupt table at 0x180000: the handler, by an interrupt gate.
    0xbf, 0x00, 0x04, 0x18, 0x00,             // mov $0x180400, %edi
    0x8d, 0x05, 0x7c, 0x00, 0x00, 0x00,       // lea handler(%rip), %eax
    0x89, 0xc2,                               // mov %eax, %edx
    0x81, 0xe2, 0xff, 0xff, 0x00, 0x00,       // and $0xffff, %edx
    0x81, 0xca, 0x00, 0x00, 0x10, 0x00,       // or $0x100000, %edx
    0x89, 0x17,                               // mov %edx, (%rdi)
    0x25, 0x00, 0x00, 0xff, 0xff,             // and $0xffff0000, %eax
    0x0d, 0x00, 0x8e, 0x00, 0x00,             // or $0x8e00, %eax
    0x89, 0x47, 0x04,                         // mov %eax, 4(%rdi)
    0x48, 0xc7, 0x47, 0x08, 0, 0, 0, 0,       // movq $0, 8(%rdi)
    0x0f, 0x01, 0x1d, 0x67, 0x00, 0x00, 0x00, // lidt table(%rip)
    // Local APIC: spurious vector 0xff, on.
    0xb8, 0xf0, 0x00, 0xe0, 0xfe,             // mov $0xfee000f0, %eax
    0xc7, 0x00, 0xff, 0x01, 0x00, 0x00,       // movl $0x1ff, (%rax)
    // I/O APIC, pin 4: to CPU 0, level-triggered, vector 0x40.
    0xb8, 0x00, 0x00, 0xc0, 0xfe,             // mov $0xfec00000, %eax
    0xc7, 0x00, 0x19, 0x00, 0x00, 0x00,       // movl $0x19, (%rax)
    0xc7, 0x40, 0x10, 0x00, 0x00, 0x00, 0x00, // movl $0, 0x10(%rax)
    0xc7, 0x00, 0x18, 0x00, 0x00, 0x00,       // movl $0x18, (%rax)
    0xc7, 0x40, 0x10, 0x40, 0x80, 0x00, 0x00, // movl $0x8040, 0x10(%rax)
    // COM1: an interrupt when the transmitter is empty, which it always is.
    0xba, 0xf9, 0x03, 0x00, 0x00,             // mov $0x3f9, %edx
    0xb0, 0x02,                               // mov $2, %al
    0xee,                                     // out %al, %dx
    0xfb,                                     // sti
    0xf4,                                     // hlt
    // Back from the handler: report the entry as it is now, exit with the one that it saw.
    0xb8, 0x00, 0x00, 0xc0, 0xfe,             // mov $0xfec00000, %eax
    0xc7, 0x00, 0x18, 0x00, 0x00, 0x00,       // movl $0x18, (%rax)
    0x8b, 0x40, 0x10,                         // mov 0x10(%rax), %eax
    0xba, 0xf0, 0x05, 0x00, 0x00,             // mov $0x5f0, %edx
    0xef,                                     // out %eax, %dx
    0x89, 0xd8,                               // mov %ebx, %eax
    0xba, 0xf4, 0x00, 0x00, 0x00,             // mov $0xf4, %edx
    0xef,                                     // out %eax, %dx
    // handler:
    0x50,                                     // push %rax
    0xb8, 0x00, 0x00, 0xc0, 0xfe,             // mov $0xfec00000, %eax
    0x8b, 0x58, 0x10,                         // mov 0x10(%rax), %ebx
    0xb8, 0xb0, 0x00, 0xe0, 0xfe,             // mov $0xfee000b0, %eax
    0xc7, 0x00, 0x00, 0x00, 0x00, 0x00,       // movl $0, (%rax)
    0x58,                                     // pop %rax
    0x48, 0xcf,                               // iretq
    // table: its limit and address.
    0x0f, 0x04, 0x00, 0x00, 0x18, 0x00, 0x00, 0x00, 0x00, 0x00,
];

/// Runs `code`, and returns the entry as the handler saw it and as it was afterwards.
fn entry_in_and_after_handler(code: &[u8]) -> (u32, u64) {
    let mut guest = Guest::new(code);
    guest.config.time_limit = Some(Duration::from_secs(20));
    let Exit::DebugExit(in_handler) = guest.run().unwrap() else {
        panic!("the interrupt did not come: {:?}", guest.events.events());
    };
    let after = guest.events.events().into_iter().find_map(|event| match event.event {
        Event::GuestReport { value, .. } => Some(value >> 32),
        _ => None,
    });
    (in_handler, after.unwrap())
}

#[test]
fn a_level_interrupt_reaches_the_cpu_and_its_end_reaches_the_io_apic() {
    if !kvm_wanted() {
        return;
    }
    assert_eq!(entry_in_and_after_handler(LEVEL_INTERRUPT), (0x8040 | REMOTE_IRR, 0x8040));
}

#[test]
fn the_end_of_an_interrupt_that_was_masked_meanwhile_reaches_the_io_apic() {
    if !kvm_wanted() {
        return;
    }
    let mut code = LEVEL_INTERRUPT.to_vec();
    let find =
        |code: &[u8], part: &[u8]| code.windows(part.len()).position(|at| at == part).unwrap();
    let lidt = find(&code, &[0x0f, 0x01, 0x1d]);
    // movl $0x18040, 0x10(%rax), behind the handler's mov 0x10(%rax), %ebx: the table moves.
    let mask = [0xc7, 0x40, 0x10, 0x40, 0x80, 0x01, 0x00];
    code[lidt + 3] += mask.len() as u8;
    let at = find(&code, &[0x8b, 0x58, 0x10]) + 3;
    code.splice(at..at, mask);
    assert_eq!(entry_in_and_after_handler(&code), (0x8040 | REMOTE_IRR, 0x1_8040));
}
