//! Guests that write random data.

use proptest::prelude::*;

use super::driver::{BAR, Driver, Sqe, rings};
use crate::pcie::Function;
use crate::pcie::reset::Reset;

#[derive(Debug, Clone)]
enum Step {
    Write(u64, Vec<u8>),
    Read(u64, usize),
    Config(u16, Vec<u8>),
    Command(u16, [u32; 16]),
    /// Random data in the ring, or elsewhere in memory.
    Memory(u64, u64),
    Unmap,
    Time,
    PowerCycle,
}

fn step() -> impl Strategy<Value = Step> {
    let offset = prop_oneof![
        0_u64..0x40,
        (0_u64..20).prop_map(|doorbell| 0x1000 + doorbell * 4),
        0_u64..0x4000
    ];
    let value = prop_oneof![
        (0_u32..10).prop_map(|value| value.to_le_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..9),
        Just(0x0046_0001_u32.to_le_bytes().to_vec()),
    ];
    let command = (0_u16..3, 0_u32..14, any::<[u32; 16]>(), 0_u32..4, 0_u64..64);
    let command = command.prop_map(|(queue, opcode, mut dwords, psdt, page)| {
        dwords[0] = dwords[0] & 0xffff_0000 | psdt << 14 | opcode;
        dwords[1] %= 3;
        if page < 60 {
            dwords[6..10].copy_from_slice(&[0x80_0000 + page as u32 * 0x1000, 0, 0x90_0000, 0]);
            dwords[10] %= 0x400;
            dwords[11] %= 4;
        }
        Step::Command(queue, dwords)
    });
    prop_oneof![
        6 => (offset.clone(), value.clone()).prop_map(|(at, data)| Step::Write(at, data)),
        2 => (offset, 0_usize..17).prop_map(|(at, length)| Step::Read(at, length)),
        1 => (any::<u16>(), value).prop_map(|(at, data)| Step::Config(at, data)),
        10 => command,
        2 => (0x90_0000_u64..0x90_1000, any::<u64>()).prop_map(|(at, word)| Step::Memory(at, word)),
        1 => Just(Step::Unmap),
        6 => Just(Step::Time),
        1 => Just(Step::PowerCycle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_guest_can_break_it(
        steps in prop::collection::vec(step(), 0..80), ats: bool, ready: bool,
    ) {
        let mut driver = if ready { Driver::ready() } else { Driver::bare() };
        driver.set_ats(ats);
        for step in steps {
            match step {
                Step::Write(at, data) => driver.write(at, &data),
                Step::Read(at, length) => driver.read(at, &mut vec![0; length]),
                Step::Config(at, data) => driver.config_write(at, &data),
                Step::Command(queue, dwords) => { driver.submit(queue, Sqe(dwords)); }
                Step::Memory(at, word) => driver.upstream.store(at, &word.to_le_bytes()),
                Step::Unmap => driver.upstream.map(rings(1).1, 12, 0, false, false),
                Step::Time => driver.settle(),
                Step::PowerCycle => driver.nvme.reset(Reset::Cold, driver.now),
            }
            while driver.nvme.poll_message().is_some() {}
        }
        // `settle` ends, however many commands are due.
        driver.settle();
        // After a reset the controller works.
        driver.upstream.map(0, 32, 0, true, true);
        driver.nvme.reset(Reset::Hot, driver.now);
        driver.program();
        driver.enable();
        driver.create_pair(1);
        prop_assert_eq!(driver.run(1, Sqe::blocks(2, 0, 1)).code, 0);
        prop_assert!(driver.nvme.claims(BAR, 4));
    }
}
