//! Who is below whom, and which port leads to which bus.

use std::cell::Cell;

/// What is on the bus below a port, or on bus 0.
#[derive(Debug, Default)]
pub(super) struct Below {
    /// Ports, by their index, in the order in which they were added.
    pub(super) ports: Vec<usize>,
    /// Functions, by their index, in the order of where they are.
    pub(super) functions: Vec<usize>,
    /// Where those are.
    places: Vec<u8>,
}

impl Below {
    /// The function that is there.
    pub(super) fn function(&self, devfn: u8) -> Option<usize> {
        self.places.binary_search(&devfn).ok().map(|at| self.functions[at])
    }
}

/// Who leads to a bus: nobody, bus 0 itself, or a port.
type Owner = Option<Option<usize>>;

/// The index of a tree.
#[derive(Debug)]
pub(super) struct Index {
    /// Bus 0, and then what is below each port.
    below: Vec<Below>,
    /// Who leads to each bus, as far as that has been asked since software numbered buses.
    owners: Box<[Cell<Option<Owner>>; 256]>,
}

impl Default for Index {
    fn default() -> Self {
        let owners = Box::new([const { Cell::new(None) }; 256]);
        Self { below: vec![Below::default()], owners }
    }
}

impl Index {
    pub(super) fn below(&self, above: Option<usize>) -> &Below {
        &self.below[place(above)]
    }

    /// Adds the port with the next index, `port`.
    pub(super) fn add_port(&mut self, above: Option<usize>, port: usize) {
        self.below[place(above)].ports.push(port);
        self.below.push(Below::default());
        self.forget_buses();
    }

    pub(super) fn add_function(&mut self, above: Option<usize>, devfn: u8, function: usize) {
        let Below { functions, places, .. } = &mut self.below[place(above)];
        let at = places.partition_point(|place| *place < devfn);
        places.insert(at, devfn);
        functions.insert(at, function);
    }

    /// Who leads to `bus`, which `find` says if nobody has asked before.
    pub(super) fn owner(&self, bus: u8, find: impl FnOnce() -> Owner) -> Owner {
        let owner = &self.owners[usize::from(bus)];
        let found = owner.get().unwrap_or_else(find);
        owner.set(Some(found));
        found
    }

    /// Buses have other numbers, or may have.
    pub(super) fn forget_buses(&mut self) {
        self.owners.iter_mut().for_each(|owner| *owner = Cell::new(None));
    }
}

fn place(above: Option<usize>) -> usize {
    above.map_or(0, |port| port + 1)
}
