//! The code at the reset vector, F000:FFF0. Software that jumps there as to a BIOS wants the machine to
//! be reset: so does Linux, which on hardware-reduced ACPI prefers EFI's reset to that of ACPI, and
//! the BIOS where there is no EFI.

use iommu::Memory;

use super::write_boot_data;
use crate::Error;
use crate::layout::RESET_VECTOR;

/// Real mode: writes 6, "reset the CPUs and all else", to reset control.
#[rustfmt::skip]
const CODE: [u8; 9] = [
    0xb0, 0x06,       //        mov $6, %al
    0xba, 0xf9, 0x0c, //        mov $0xcf9, %dx
    0xee,             //        out %al, %dx
    0xf4,             // again: hlt
    0xeb, 0xfd,       //        jmp again
];

pub(super) fn write(memory: &Memory) -> Result<(), Error> {
    write_boot_data(memory, RESET_VECTOR, &CODE)
}
