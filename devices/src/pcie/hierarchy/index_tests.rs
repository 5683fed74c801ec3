//! The cost of a request, as calls to functions, does not depend on the number of functions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use iommu::ats::{ITag, PageRange};

use super::*;
use crate::pcie::FunctionCore;
use crate::pcie::caps::express::{HotPlug, PortType, Slot};
use crate::pcie::header::{ConfigBuilder, HeaderType, Identity};
use crate::pcie::reset::Reset;

/// A function that counts the calls of its methods.
#[derive(Debug)]
struct Counting {
    calls: Arc<AtomicUsize>,
    core: FunctionCore,
}

impl Counting {
    fn new(calls: Arc<AtomicUsize>) -> Self {
        let identity = Identity { vendor: 0, device: 0, class: 0, revision: 0 };
        let builder = ConfigBuilder::new(identity, HeaderType::Endpoint);
        Self { calls, core: FunctionCore::new(builder, None) }
    }

    fn count(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }
}

impl Function for Counting {
    fn core(&self) -> &FunctionCore {
        &self.core
    }

    fn core_mut(&mut self) -> &mut FunctionCore {
        &mut self.core
    }

    fn config_read(&self, _: u16, _: &mut [u8]) {
        self.count();
    }

    fn virtual_function(&self, _: Bdf) -> Option<&dyn Function> {
        self.count();
        None
    }

    fn config_write(&mut self, _: Bdf, _: u16, _: &[u8], _: Instant) {
        self.count();
    }

    fn claims(&self, _: u64, _: usize) -> bool {
        self.count();
        false
    }

    fn memory_read(&mut self, _: u64, _: &mut [u8], _: &mut dyn Upstream, _: Instant) {
        self.count();
    }

    fn memory_write(&mut self, _: u64, _: &[u8], _: &mut dyn Upstream, _: Instant) {
        self.count();
    }

    fn invalidate_request(&mut self, _: InvalidateRequest) -> bool {
        self.count();
        false
    }

    fn poll_message(&mut self) -> Option<UpstreamMessage> {
        self.count();
        None
    }

    fn reset(&mut self, _: Reset, _: Instant) {
        self.count();
    }

    fn poll_reset(&mut self) -> Option<Bdf> {
        None
    }
}

/// Calls to functions while one of them is configured and gets an Invalidate Request, in a tree of
/// `cards` devices with `functions` functions each.
fn questions(cards: u8, functions: u8) -> usize {
    let asked = Arc::new(AtomicUsize::new(0));
    let now = Instant::START;
    let mut hierarchy = Hierarchy::empty(Tracer::none());
    for card in 0..cards {
        let slot = Slot { number: card + 1, hot_plug: HotPlug::Surprise };
        let (name, place) = (format!("rp{card}"), card + 8);
        let port = hierarchy.add_port(&name, None, place, PortType::RootPort(slot)).unwrap();
        let id = Bdf::new(0, place >> 3, place & 7);
        hierarchy.config_write(id, 0x19, &[card + 1], now);
        hierarchy.config_write(id, 0x1a, &[card + 1], now);
        for function in 0..functions {
            hierarchy.add_function(Some(port), function, Box::new(Counting::new(asked.clone())));
        }
    }
    asked.store(0, Ordering::Relaxed);
    let destination = Bdf::new(cards, 0, functions - 1);
    hierarchy.config_write(destination, 0x04, &[6], now);
    hierarchy.config_read(destination, 0, &mut [0; 2], now);
    let (itag, range) = (ITag::new(0), PageRange::ALL);
    let request = InvalidateRequest { destination, itag, pasid: None, global: false, range };
    hierarchy.invalidate_request(request, now);
    hierarchy.collect_messages_of(usize::from(cards) * usize::from(functions) - 1, now);
    hierarchy.handle_link_timeout(now);
    asked.load(Ordering::Relaxed)
}

#[test]
fn a_request_to_one_function_asks_as_many_as_there_were_only_that() {
    let alone = questions(1, 1);
    assert!(alone >= 4, "it is asked: {alone}");
    for (cards, functions) in [(1, 8), (16, 1), (200, 8)] {
        assert_eq!(questions(cards, functions), alone, "{cards} cards of {functions}");
    }
}
