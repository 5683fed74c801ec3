//! Registers of the HPET (IA-PC HPET Specification 1.0a, 2.3): each 64 bits wide, and accessible as two
//! halves.

use bitfield_struct::bitfield;

/// Bytes of the register block.
pub const SIZE: u64 = 0x400;
/// Timers.
pub const TIMERS: usize = 3;

/// General Capabilities and ID.
pub const CAPABILITIES: u64 = 0x000;
/// General Configuration.
pub const CONFIGURATION: u64 = 0x010;
/// General Interrupt Status: a bit for each level-triggered timer, cleared by writing 1.
pub const INTERRUPT_STATUS: u64 = 0x020;
/// Main Counter Value.
pub const COUNTER: u64 = 0x0f0;
/// The registers of timer 0; those of the next timers follow, [`TIMER_STRIDE`] bytes apart.
pub const TIMER: u64 = 0x100;
/// Bytes from one timer's registers to the next one's.
pub const TIMER_STRIDE: u64 = 0x20;
/// In a timer's registers: Configuration and Capabilities.
pub const TIMER_CONFIGURATION: u64 = 0x00;
/// In a timer's registers: Comparator Value.
pub const TIMER_COMPARATOR: u64 = 0x08;
/// In a timer's registers: FSB Interrupt Route.
pub const TIMER_FSB_ROUTE: u64 = 0x10;

/// Nanoseconds of a tick of the main counter: 100 MHz, as QEMU's.
pub const TICK_NANOS: u64 = 10;
/// The I/O APIC pins that timers can be routed to, a bit for each: 2, 8, and 16 to 19. Those
/// from 20 up are INTA of PCI functions.
pub const ROUTES: u32 = 0x000f_0104;

/// General Capabilities and ID (2.3.4).
#[bitfield(u64)]
pub struct Capabilities {
    /// Revision of the specification.
    pub revision: u8,
    /// The number of the last timer.
    #[bits(5)]
    pub last_timer: u8,
    /// The main counter has 64 bits.
    pub is_64_bit: bool,
    __: bool,
    /// Timers 0 and 1 can take the place of PIT and RTC.
    pub legacy_replacement: bool,
    /// PCI vendor id.
    pub vendor: u16,
    /// Femtoseconds of a tick.
    pub period: u32,
}

/// The value of [`CAPABILITIES`].
pub const CAPABILITIES_VALUE: Capabilities = Capabilities::new()
    .with_revision(1)
    .with_last_timer(TIMERS as u8 - 1)
    .with_is_64_bit(true)
    .with_legacy_replacement(true)
    .with_vendor(0x8086)
    .with_period(TICK_NANOS as u32 * 1_000_000);

/// General Configuration (2.3.5).
#[bitfield(u64)]
pub struct Configuration {
    /// The main counter runs, and timers interrupt.
    pub enable: bool,
    /// Timer 0 interrupts at pin 2 and timer 1 at pin 8, whatever their routes say.
    pub legacy_replacement: bool,
    #[bits(62)]
    __: u64,
}

/// Timer N Configuration and Capabilities (2.3.8).
#[bitfield(u64)]
pub struct TimerConfiguration {
    __: bool,
    /// Interrupts are level-triggered.
    pub level: bool,
    /// The timer interrupts.
    pub enable: bool,
    /// The comparator goes on by the period at each match.
    pub periodic: bool,
    /// The timer can be periodic.
    pub can_be_periodic: bool,
    /// The comparator has 64 bits.
    pub is_64_bit: bool,
    /// The next write of the comparator of a periodic timer sets the comparator as well.
    pub set_value: bool,
    __: bool,
    /// The timer compares the low 32 bits only.
    pub force_32_bit: bool,
    /// The I/O APIC pin.
    #[bits(5)]
    pub route: u8,
    /// Interrupts are messages: writes of the FSB Interrupt Route.
    pub fsb_enable: bool,
    /// Interrupts can be messages.
    pub can_send_fsb: bool,
    __: u16,
    /// The I/O APIC pins that `route` can be.
    pub routes: u32,
}

impl TimerConfiguration {
    /// The value after a reset.
    pub const RESET: Self = Self::new()
        .with_can_be_periodic(true)
        .with_is_64_bit(true)
        .with_can_send_fsb(true)
        .with_routes(ROUTES);

    /// The bits that software can write.
    pub const WRITABLE: Self = Self::new()
        .with_level(true)
        .with_enable(true)
        .with_periodic(true)
        .with_set_value(true)
        .with_force_32_bit(true)
        .with_route(0x1f)
        .with_fsb_enable(true);
}
