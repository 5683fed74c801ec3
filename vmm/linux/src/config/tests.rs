use std::path::Path;

use vmm_sys_util::tempdir::TempDir;

use super::*;
use crate::testkit::{bzimage, bzimage_with, gzip, put, vmlinux};

const TEXT: &str = "# Linux\nCONFIG_64BIT=y\n# CONFIG_PCI is not set\nCONFIG_ACPI=m\n";

fn embedded() -> Vec<u8> {
    [&b"IKCFG_ST"[..], &gzip(TEXT), b"IKCFG_ED..."].concat()
}

#[test]
fn a_configuration_is_found_inside_and_beside() {
    let directory = TempDir::new().unwrap();
    let root = directory.as_path();
    let packed = gzip("x".repeat(3000));
    // A text that looks like the marker comes first.
    let inside = [&vmlinux("6.12-x")[..], b"IKCFG_ST no archive IKCFG_ED", &embedded()].concat();
    put(root, "vmlinux-6.12-x", &inside);
    let kernel = root.join("vmlinux-6.12-x");
    let config = KernelConfig::of_image(&kernel).unwrap();
    assert_eq!(config.origin(), "its built-in configuration");
    assert!(config.is_built_in("64BIT"));
    assert!(!config.is_built_in("PCI") && !config.is_built_in("ACPI"));
    assert_eq!(config.value("ACPI"), Some("m"));
    put(root, "config-6.12-x", b"CONFIG_PCI=y\n");
    assert!(KernelConfig::of_image(&kernel).unwrap().is_built_in("PCI"));
    put(root, "bzImage", &bzimage_with("6.12", &packed));
    assert_eq!(KernelConfig::of_image(&root.join("bzImage")), None);
    put(root, "config-6.12", b"CONFIG_SMP=y\n");
    assert!(KernelConfig::of_image(&root.join("bzImage")).unwrap().is_built_in("SMP"));
}

#[test]
fn the_payload_of_a_bzimage_is_unpacked_to_find_one() {
    let directory = TempDir::new().unwrap();
    let root = directory.as_path();
    let mut text = vmlinux("6.12");
    text.extend_from_slice(&embedded());
    let payload = gzip(&text);
    put(root, "bzImage", &bzimage_with("6.12", &payload));
    let find = |name: &str| GuestKernel::find(&root.join(name), None).unwrap().config;
    assert!(find("bzImage").unwrap().is_built_in("64BIT"));
    assert_eq!(KernelConfig::of_image(&root.join("bzImage")), None, "this is quick");
    put(root, "cut", &bzimage_with("6.12", &payload[..payload.len() / 4]));
    assert_eq!(find("cut"), None);
}

#[test]
fn what_has_none_or_a_broken_one_has_none() {
    let directory = TempDir::new().unwrap();
    let root = directory.as_path();
    let image = |rest: &[u8]| [&vmlinux("6.1")[..], rest].concat();
    for (name, bytes) in [
        ("a", b"".to_vec()),
        ("b-1", b"MZ".to_vec()),
        ("c", image(b"IKCFG_STno archiveIKCFG_ED")),
        ("d", image(&[b"IKCFG_ST", &gzip(TEXT)[..]].concat())),
        ("e", bzimage("6.1")),
    ] {
        put(root, name, &bytes);
        assert_eq!(KernelConfig::of_image(&root.join(name)), None, "{name}");
    }
    assert_eq!(KernelConfig::of_image(Path::new("/no/such-kernel")), None);
    assert_eq!(KernelConfig::parse("x", "# CONFIG_PCI is not set\nhello\n"), None);
}

#[test]
fn a_user_names_a_file_a_tree_or_a_kernel() {
    let directory = TempDir::new().unwrap();
    let root = directory.as_path();
    put(root, "tree/.config", TEXT.as_bytes());
    put(root, "image", &bzimage("6.12"));
    for what in ["tree", "tree/.config"] {
        assert!(KernelConfig::find(&root.join(what)).unwrap().is_built_in("64BIT"), "{what}");
    }
    let error = KernelConfig::find(&root.join("image")).unwrap_err().to_string();
    assert!(error.starts_with("there is no configuration of"), "{error}");
    let error = KernelConfig::find(&root.join("none")).unwrap_err().to_string();
    assert!(error.starts_with("there is no file, directory or installed kernel"), "{error}");
}

fn complete() -> KernelConfig {
    KernelConfig::parse("config-x", &fragment(REQUIREMENTS)).unwrap()
}

/// `complete` with other values; an empty one means that the option is not set.
fn with(changes: &[(&str, &str)]) -> KernelConfig {
    let mut config = complete();
    for (option, value) in changes {
        config.values.remove(*option);
        if !value.is_empty() {
            config.values.insert((*option).to_owned(), (*value).to_owned());
        }
    }
    config
}

fn names(rows: Vec<&Requirement>) -> Vec<&'static str> {
    rows.into_iter().map(|row| row.option).collect()
}

#[test]
fn the_fragment_meets_each_requirement_and_each_line_of_it_counts() {
    assert_eq!(complete().unmet().count(), 0);
    for row in REQUIREMENTS {
        let unmet = names(with(&[(row.option, "")]).unmet().collect());
        let expected = if row.need == Need::Prerequisite { vec![] } else { vec![row.option] };
        assert_eq!(unmet, expected);
        let as_module = with(&[(row.option, "m")]);
        assert_eq!(row.is_met(&as_module), row.module.is_some(), "{}", row.option);
    }
    let mut options: Vec<&str> = REQUIREMENTS.iter().map(|row| row.option).collect();
    options.sort_unstable();
    options.dedup();
    assert_eq!(options.len(), REQUIREMENTS.len(), "an option has one row");
    assert!(fragment(REQUIREMENTS).lines().all(|line| {
        line.starts_with("# Without it Linux ") && !line.contains("CONFIG_")
            || line.starts_with("CONFIG_") && line.ends_with("=y")
    }));
}

#[test]
fn what_is_missing_for_a_machine_is_named() {
    let missing = |config: &KernelConfig, cpus, initramfs| {
        config.missing_options("vmlinuz", cpus, initramfs).unwrap_or_default()
    };
    assert_eq!(missing(&complete(), true, true), "");
    let wanting = with(&[("PCI", "m"), ("SMP", ""), ("BLK_DEV_INITRD", ""), ("PROC_FS", "")]);
    assert_eq!(
        missing(&wanting, false, true),
        "'vmlinuz' has no CONFIG_BLK_DEV_INITRD (without it Linux does not unpack the initramfs), \
         no CONFIG_PCI (without it Linux finds no devices), says config-x"
    );
    assert!(missing(&wanting, true, false).contains("CONFIG_SMP (without it Linux uses one CPU)"));
}

#[test]
fn what_is_missing_for_a_scenario_depends_on_its_steps() {
    let config =
        with(&[("VFIO", ""), ("PCI_IOV", ""), ("PROC_FS", ""), ("INTEL_IOMMU_DEBUGFS", "")]);
    let missing = |steps: &[&str]| names(config.unmet_by_scenario(steps));
    assert_eq!(missing(&["nvme", "vfioo"]), ["PROC_FS"]);
    assert_eq!(missing(&["nvme", "?vfio:bind"]), ["PROC_FS", "VFIO"]);
    assert_eq!(missing(&["vfs:2"]), ["PROC_FS", "PCI_IOV"]);
}

#[test]
fn modules_are_known_by_their_options() {
    let config = with(&[("VFIO_PCI", "m"), ("VFIO", "")]);
    assert_eq!(config.module_state("nvme"), ModuleState::BuiltIn);
    assert_eq!(config.module_state("vfio-pci"), ModuleState::Unknown);
    assert_eq!(config.module_state("vfio"), ModuleState::Absent);
    assert_eq!(config.module_state("jbd2"), ModuleState::Unknown);
}
