//! `ghostlink kernel-config`.

use std::fs;

use vmm_sys_util::tempdir::TempDir;

use crate::cli::ghostlink;

/// Status, standard output and standard error.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = ghostlink(&[&["kernel-config"], arguments].concat()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn what_a_configuration_lacks_is_what_has_to_be_added_to_it() {
    let (status, fragment, _) = run(&[]);
    assert_eq!(status, Some(0));
    let directory = TempDir::new().unwrap();
    let config = directory.as_path().join(".config");
    let check = |text: &str| {
        fs::write(&config, text).unwrap();
        run(&["--check", directory.as_path().to_str().unwrap()])
    };
    let (status, printed, _) = check(&fragment);
    assert_eq!(status, Some(0));
    assert!(printed.ends_with("has all that scenarios need.\n"), "{printed}");

    let without = |option: &str| fragment.replace(&format!("CONFIG_{option}=y"), "# nothing");
    let (status, printed, message) = check(&without("VFIO_PCI"));
    assert_eq!(status, Some(1));
    assert_eq!(
        printed,
        "# Without it Linux gives no PCI device to user space: step vfio\nCONFIG_VFIO_PCI=y\n"
    );
    assert!(message.contains("lacks 1 option; add this output to .config"), "{message}");
    assert_eq!(check(&format!("{}{printed}", without("VFIO_PCI"))).0, Some(0), "the output helps");

    // Distributions lack these, and their kernels are good enough.
    let (status, printed, _) = check(&without("INTEL_IOMMU_DEBUGFS"));
    assert_eq!(status, Some(0));
    assert!(printed.contains("# Optional, INTEL_IOMMU_DEBUGFS: "), "{printed}");
}

#[test]
fn what_has_no_configuration_is_refused_on_one_line() {
    for what in ["/dev/null", "/etc/passwd", "6.99.99", "/nosuch"] {
        let (status, printed, message) = run(&["--check", what]);
        assert_eq!((status, printed.as_str()), (Some(2), ""), "{what}");
        assert!(message.contains(what) && message.lines().count() == 1, "{message}");
    }
}
