//! Loads kernel modules from the initramfs. The file `/modules` lists them, one a line:
//!
//! ```text
//! nvme /lib/modules/6.12.117/nvme.ko nvme_core
//! ```
//!
//! the name, the file, which is not compressed, and the modules that must be loaded before. A
//! module without a line is built into the kernel, or was not built.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io;

use rustix::io::Errno;

/// A module of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Module {
    path: String,
    depends: Vec<String>,
}

/// The list of modules.
#[derive(Debug, Default)]
pub(crate) struct Modules(HashMap<String, Module>);

impl Modules {
    /// Reads the list. There is none in an initramfs without modules.
    pub(crate) fn read() -> io::Result<Self> {
        match std::fs::read_to_string("/modules") {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Self {
        let module = |line: &str| {
            let mut words = line.split_ascii_whitespace().map(str::to_owned);
            let (name, path) = (words.next()?, words.next()?);
            Some((plain(&name), Module { path, depends: words.map(|it| plain(&it)).collect() }))
        };
        Self(text.lines().filter_map(module).collect())
    }

    /// The modules to load for `name`, in order. A loop in the list ends.
    fn order(&self, name: &str) -> Vec<(&str, &Module)> {
        let mut order = Vec::new();
        let mut seen = Vec::new();
        self.add(&plain(name), &mut seen, &mut order);
        order
    }

    fn add<'a>(
        &'a self,
        name: &str,
        seen: &mut Vec<String>,
        order: &mut Vec<(&'a str, &'a Module)>,
    ) {
        let Some((name, module)) = self.0.get_key_value(name) else { return };
        if seen.contains(name) {
            return;
        }
        seen.push(name.clone());
        for other in &module.depends {
            self.add(other, seen, order);
        }
        order.push((name, module));
    }

    /// Loads the module `name` and those that it depends on, with the parameters that the kernel's
    /// command line has for them. Does nothing if it is not in the list.
    ///
    /// # Errors
    /// The first module that does not load, with the reason.
    pub(crate) fn load(&self, name: &str) -> Result<(), String> {
        let cmdline = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
        for (name, module) in self.order(name) {
            let parameters = parameters(&cmdline, name);
            let failed = |error: io::Error| {
                format!("cannot load the module {name} ({}): {error}", module.path)
            };
            let file = File::open(&module.path).map_err(failed)?;
            match rustix::system::finit_module(&file, &parameters, 0) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(failed(error.into())),
            }
        }
        Ok(())
    }
}

/// The parameters of a module on a kernel's command line: `nvme_core.io_timeout=3` is `io_timeout=3`
/// for `nvme_core`. The kernel itself reads those of built-in modules only.
fn parameters(cmdline: &str, module: &str) -> CString {
    let words = cmdline.split_ascii_whitespace().take_while(|word| *word != "--");
    let parameters: Vec<&str> = words
        .filter_map(|word| word.split_once('.'))
        .filter(|(name, _)| plain(name) == module)
        .map(|(_, parameter)| parameter)
        .collect();
    // A command line has no NUL.
    CString::new(parameters.join(" ")).unwrap_or_default()
}

/// A module's name as the kernel prints it.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(text: &str, name: &str) -> Vec<String> {
        let modules = Modules::parse(text);
        modules.order(name).into_iter().map(|(name, _)| name.to_owned()).collect()
    }

    #[test]
    fn a_module_comes_after_those_that_it_depends_on_and_once() {
        let list = "\
            nvme /m/nvme.ko nvme-core t10-pi\n\
            nvme-core /m/nvme-core.ko t10_pi auth\n\
            \n\
            t10_pi /m/t10-pi.ko builtin\n\
            auth /m/auth.ko\n";
        assert_eq!(order(list, "nvme"), ["t10_pi", "auth", "nvme_core", "nvme"]);
        assert_eq!(order(list, "nvme-core"), ["t10_pi", "auth", "nvme_core"]);
        assert!(order(list, "ext4").is_empty());
    }

    #[test]
    fn a_module_gets_its_parameters_of_the_command_line() {
        let cmdline =
            "quiet nvme-core.io_timeout=3 nvme.x=1 a=nvme_core.y=2 nvme_core.z -- nvme_core.w=1";
        assert_eq!(parameters(cmdline, "nvme_core").as_c_str(), c"io_timeout=3 z");
        assert_eq!(parameters(cmdline, "nvme").as_c_str(), c"x=1");
        assert_eq!(parameters(cmdline, "ext4").as_c_str(), c"");
    }

    #[test]
    fn a_loop_in_the_list_ends() {
        assert_eq!(order("a /a b\nb /b a\n", "a"), ["b", "a"]);
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let modules = Modules::parse("no-such /no/such.ko\n");
        let error = modules.load("no_such").unwrap_err();
        assert!(error.contains("no_such (/no/such.ko): No such file"), "{error}");
        assert_eq!(modules.load("other"), Ok(()));
    }
}
