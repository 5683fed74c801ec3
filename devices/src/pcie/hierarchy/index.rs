//! An index of the tree: the nodes below each port, and the port that leads to each bus.

use std::cell::Cell;

/// The nodes on the bus below a port, or on bus 0.
#[derive(Debug, Default)]
pub(super) struct Below {
    /// Ports, by their index, in the order in which they were added.
    pub(super) ports: Vec<usize>,
    /// Functions, by their index, in the order of `devfns`.
    pub(super) functions: Vec<usize>,
    /// Device and function numbers of the functions, ascending.
    devfns: Vec<u8>,
}

impl Below {
    /// The function at `devfn`.
    pub(super) fn function(&self, devfn: u8) -> Option<usize> {
        self.devfns.binary_search(&devfn).ok().map(|at| self.functions[at])
    }
}

/// The port that leads to a bus: `None` if no port does, `Some(None)` for bus 0.
type Owner = Option<Option<usize>>;

/// The index of a tree.
#[derive(Debug)]
pub(super) struct Index {
    /// Bus 0, and then the bus below each port.
    below: Vec<Below>,
    /// The owner of each bus, cached until software writes to a port.
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
        let Below { functions, devfns, .. } = &mut self.below[place(above)];
        let at = devfns.partition_point(|other| *other < devfn);
        devfns.insert(at, devfn);
        functions.insert(at, function);
    }

    /// The owner of `bus`, which `find` looks up if it is not cached.
    pub(super) fn owner(&self, bus: u8, find: impl FnOnce() -> Owner) -> Owner {
        let owner = &self.owners[usize::from(bus)];
        let found = owner.get().unwrap_or_else(find);
        owner.set(Some(found));
        found
    }

    /// Drops the cached owners: buses may have other numbers.
    pub(super) fn forget_buses(&mut self) {
        self.owners.iter_mut().for_each(|owner| *owner = Cell::new(None));
    }
}

fn place(above: Option<usize>) -> usize {
    above.map_or(0, |port| port + 1)
}
