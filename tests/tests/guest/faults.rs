//! Faults and their triggers. The guest checks all cells of the fault's row of
//! `docs/failure-modes.md`, ends the fault, and checks that the device is as the table says, and
//! works again.

use std::time::Duration;

use iommu::event::Event;
use tests::{Rig, VICTIM, count};

/// Runs the guest's test with a fault that begins at the doorbell, above a host and without one.
fn fault(mode: &str, row: &str) {
    let above_host: fn(Rig) -> Rig = |rig| rig.policy("bounded:50ms");
    for build in [above_host, Rig::direct] {
        let Some(rig) = Rig::new(&format!("test=fault mode={row}")) else { return };
        // The physical unit gives up soon: later requests in its queue wait until then.
        let rig = build(rig).ict(Duration::from_millis(300));
        let run = rig.fault(&format!("on=doorbell,mode={mode}")).run().passed();
        let injected = |event: &Event| matches!(event, Event::FaultInjected { .. });
        assert_eq!(count(&run.events, injected), 1, "{run}");
    }
}

/// Runs the guest's test with a fault, below other ports.
fn fault_below(devices: &[&str], mode: &str, row: &str) {
    let Some(rig) = Rig::new(&format!("test=fault mode={row}")) else { return };
    let rig = rig.policy("bounded:50ms").ict(Duration::from_millis(300)).devices(devices);
    rig.fault(&format!("on=doorbell,{mode}")).run().passed();
}

#[test]
fn safe_removal() {
    let devices = ["root-port,id=rp0,hotplug=button", "ats-endpoint,bus=rp0"];
    fault_below(&devices, "mode=safe,for=2s", "safe");
}

#[test]
fn below_a_switch() {
    let devices = ["root-port,id=rp0", "switch,id=sw0,bus=rp0,ports=2", "ats-endpoint,bus=sw0.1"];
    for (mode, row) in [("surprise,for=500ms", "surprise"), ("disable", "disable"), ("dpc", "dpc")]
    {
        fault_below(&devices, &format!("mode={mode},port=sw0.1"), row);
    }
}

#[test]
fn silent() {
    fault("silent,for=500ms", "silent");
}

#[test]
fn ghost() {
    fault("ghost,for=500ms", "ghost");
}

#[test]
fn flap() {
    fault("flap:500ms", "flap");
}

#[test]
fn flap_that_keeps_the_state_of_the_device() {
    fault("flap:900ms:keep", "flap-keep");
}

#[test]
fn link_disable() {
    fault("disable", "disable");
}

#[test]
fn surprise() {
    fault("surprise,for=500ms", "surprise");
}

#[test]
fn containment() {
    fault("dpc", "dpc");
}

#[test]
fn error_report() {
    fault("aer,for=500ms", "aer");
}

#[test]
fn no_completion() {
    fault("no-completion,for=700ms", "no-completion");
}

#[test]
fn lossy() {
    fault("lossy:1,for=700ms", "lossy");
}

#[test]
fn late() {
    fault("late:2s,for=700ms", "late");
}

#[test]
fn slow() {
    fault("slow:1ms..20ms", "slow");
}

#[test]
fn duplicate() {
    fault("dup", "dup");
}

/// Runs a guest that flushes until a flush fails.
fn flushing(fault: &str) -> Option<tests::Run> {
    let rig = Rig::new("test=drop drop=wait flushes=4 blame=owner")?;
    Some(rig.policy("bounded:50ms").ict(Duration::from_millis(300)).fault(fault).run())
}

#[test]
fn after_a_number_of_invalidations() {
    let Some(run) = flushing("after=invalidations:9,mode=silent") else { return };
    let position = |wanted: fn(&Event) -> bool| {
        run.events.iter().position(|timed| wanted(&timed.event)).expect("it happens")
    };
    let injected = position(|event| matches!(event, Event::FaultInjected { .. }));
    let completed = |event: &Event| {
        matches!(event, Event::InvalidateCompleted { unit: iommu::event::UnitRole::Host, .. })
    };
    assert_eq!(count(&run.events[..injected], completed), 9, "{run}");
}

#[test]
fn at_a_line_of_the_console() {
    let Some(run) = flushing("on=serial:/^# healthy: [0-9]+ flushes,/,mode=silent") else { return };
    assert_eq!(count(&run.events, |event| matches!(event, Event::FaultInjected { .. })), 1);
    assert!(count(&run.events, |event| matches!(event, Event::Lost { .. })) >= 1, "{run}");
}

#[test]
fn after_a_number_of_dma_requests() {
    let Some(run) = flushing("after=dma:2,mode=silent") else { return };
    let dma = |event: &Event| matches!(event, Event::Dma { function: VICTIM, .. });
    assert_eq!(count(&run.events, dma), 2, "{run}");
}
