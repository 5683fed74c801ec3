use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use vmm_sys_util::tempdir::TempDir;

use super::*;
use crate::modules::ModuleState;
use crate::testkit::{bzimage, put, vmlinux};

const RELEASE: &str = "6.12.117+deb12-amd64";

/// An installed kernel below `root`, with a module and a built-in one.
fn install(root: &Path, release: &str) {
    put(root, &format!("boot/vmlinuz-{release}"), &bzimage(release));
    put(root, &format!("boot/config-{release}"), b"CONFIG_MODULES=y\nCONFIG_PCI=y\n");
    put(root, &format!("lib/modules/{release}/modules.builtin"), b"kernel/fs/ext4/ext4.ko\n");
    put(root, &format!("lib/modules/{release}/kernel/nvme.ko.xz"), b"");
}

fn find(root: &Path, what: &str) -> Result<GuestKernel, KernelError> {
    GuestKernel::find_in(root, Path::new(what), None)
}

/// The message, which has one line.
fn refusal(result: Result<GuestKernel, KernelError>) -> String {
    let message = result.unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn an_installed_kernel_is_found_by_release_directory_and_image() {
    let directory = TempDir::new().unwrap();
    let root = directory.as_path();
    install(root, RELEASE);
    install(root, "6.1.0-56-amd64");
    for what in [
        RELEASE.to_owned(),
        format!("{}/lib/modules/{RELEASE}", root.display()),
        format!("{}/boot/vmlinuz-{RELEASE}", root.display()),
    ] {
        let kernel = find(root, &what).unwrap();
        assert_eq!(kernel.image, root.join(format!("boot/vmlinuz-{RELEASE}")), "{what}");
        assert_eq!(kernel.release.as_str(), RELEASE);
        assert!(kernel.config.as_ref().unwrap().is_built_in("PCI"), "{what}");
        let file = root.join(format!("lib/modules/{RELEASE}/kernel/nvme.ko.xz"));
        assert_eq!(kernel.module("nvme"), ModuleState::File(file), "{what}");
        assert_eq!(kernel.module("ext4"), ModuleState::BuiltIn);
        assert_eq!(kernel.module("vfio-pci"), ModuleState::Absent);
    }
}

#[test]
fn an_unpacked_package_is_found_and_two_kernels_in_one_are_named() {
    let directory = TempDir::new().unwrap();
    let root = directory.as_path();
    let package = root.join("package");
    install(&package, RELEASE);
    symlink(format!("vmlinuz-{RELEASE}"), package.join("boot/vmlinuz")).unwrap();
    let kernel = find(root, package.to_str().unwrap()).unwrap();
    assert_eq!(kernel.release.as_str(), RELEASE);
    assert_eq!(kernel.modules.unwrap().directory(), package.join("lib/modules").join(RELEASE));
    install(&package, "6.1.0-56-amd64");
    let message = refusal(find(root, package.to_str().unwrap()));
    assert!(message.contains("has 2 kernels") && message.contains("vmlinuz-6.1.0-56"), "{message}");
    // As Debian packs kernels from 6.19 on, and Fedora all.
    let newer = root.join("newer");
    put(&newer, "usr/lib/modules/7.3.4/vmlinuz", &bzimage("7.3.4"));
    put(&newer, "usr/lib/modules/7.3.4/config", b"CONFIG_PCI=y\n");
    put(&newer, "usr/lib/modules/7.3.4/kernel/nvme.ko", b"");
    for what in ["newer", "newer/usr/lib/modules/7.3.4"] {
        let kernel = find(root, root.join(what).to_str().unwrap()).unwrap();
        assert!(kernel.config.as_ref().unwrap().is_built_in("PCI"));
        assert!(matches!(kernel.module("nvme"), ModuleState::File(_)));
    }
}

#[test]
fn a_build_tree_gives_its_image_configuration_and_modules() {
    let directory = TempDir::new().unwrap();
    let root = directory.as_path();
    let tree = root.join("tree");
    put(&tree, "Makefile", b"VERSION = 7\n");
    put(&tree, ".config", b"CONFIG_BLK_DEV_NVME=m\nCONFIG_VFIO=y\nCONFIG_MODULES=y\n");
    let what = tree.to_str().unwrap();
    let message = refusal(find(root, what));
    assert!(message.contains("is not built") && message.contains("run make"), "{message}");

    put(&tree, "vmlinux", &vmlinux("7.1.0-rc3"));
    assert_eq!(find(root, what).unwrap().image, tree.join("vmlinux"));
    put(&tree, "arch/x86/boot/bzImage", &bzimage("7.1.0-rc3"));
    put(&tree, "include/config/kernel.release", b"7.1.0-rc3\n");
    let kernel = find(root, what).unwrap();
    assert_eq!(kernel.image, tree.join("arch/x86/boot/bzImage"));
    assert!(kernel.modules.is_none());
    assert_eq!(kernel.module("vfio"), ModuleState::BuiltIn, "the configuration says so");
    assert_eq!(kernel.module("vfio-pci"), ModuleState::Absent, "VFIO_PCI is not set");

    put(&tree, "modules.order", b"drivers/nvme/host/nvme.o\nkernel/fs/vfat.ko\n");
    // The image alone leads to the tree, too.
    for what in [what, kernel.image.to_str().unwrap(), tree.join("vmlinux").to_str().unwrap()] {
        let kernel = find(root, what).unwrap();
        assert_eq!(
            kernel.module("nvme"),
            ModuleState::File(tree.join("drivers/nvme/host/nvme.ko")),
            "{what}"
        );
        assert_eq!(kernel.module("vfat"), ModuleState::File(tree.join("fs/vfat.ko")));
    }

    put(&tree, "include/config/kernel.release", b"7.1.0-rc4\n");
    let message = refusal(find(root, what));
    assert!(message.contains("is 7.1.0-rc3") && message.contains("says 7.1.0-rc4"), "{message}");
}

#[test]
fn what_is_no_kernel_is_refused_with_the_reason() {
    let directory = TempDir::new().unwrap();
    let root = directory.as_path();
    let path = |name: &str| root.join(name).display().to_string();
    let mut old = bzimage("6.1");
    old[0x236] = 0;
    let mut nameless = bzimage("6.1");
    nameless[0x20e..0x210].fill(0);
    let mut wild = bzimage("6.1");
    wild[0x20e..0x210].fill(0xff);
    let mut arm = vmlinux("6.1");
    arm[18] = 183;
    for (name, bytes, reason) in [
        ("empty", &b""[..], "it is empty"),
        ("text", b"#!/bin/sh\n", "neither Linux's setup header nor an ELF header"),
        ("packed", b"\x1f\x8b\x08...", "compressed by gzip; unpack it"),
        ("efi", b"MZ....", "EFI program without Linux's setup header"),
        ("deb", b"!<arch>\n", "such as a Debian package"),
        ("cpio", b"070701", "cpio archive"),
        ("old", &old, "without a 64-bit entry"),
        ("nameless", &nameless, "names no release"),
        ("wild", &wild, "names no release"),
        ("arm", &arm, "machine 183, class 2"),
        ("short", b"\x7fELF", "too short"),
        ("program", &vmlinux("")[..], "without the text 'Linux version'"),
        ("cut", &bzimage("6.1")[..0x220], "neither Linux's setup header"),
    ] {
        put(root, name, bytes);
        let message = refusal(find(root, &path(name)));
        assert!(message.contains(&path(name)) && message.contains(reason), "{message}");
    }
    let message = refusal(find(root, "/dev/null"));
    assert!(message.contains("not a regular file"), "{message}");
    fs::create_dir(root.join("nothing")).unwrap();
    assert!(refusal(find(root, &path("nothing"))).contains("has no kernel"));
}

#[test]
fn a_release_that_is_not_installed_is_refused_with_those_that_are() {
    let directory = TempDir::new().unwrap();
    let root = directory.as_path();
    assert!(refusal(find(root, "6.18.2")).ends_with("no kernel is installed"));
    install(root, RELEASE);
    install(root, "6.12.9");
    let message = refusal(find(root, "6.18.2"));
    assert!(message.contains("'6.18.2'"), "{message}");
    assert!(message.ends_with(&format!("installed are 6.12.9, {RELEASE}")), "{message}");
    assert!(refusal(find(root, "no/such/path")).contains("'no/such/path'"));
    fs::remove_file(root.join("boot/vmlinuz-6.12.9")).unwrap();
    let message = refusal(find(root, "6.12.9"));
    assert!(
        message.contains("boot/vmlinuz-6.12.9") && message.contains("give the image"),
        "{message}"
    );
}

#[test]
fn modules_are_taken_from_where_the_user_says_unless_they_are_of_another_kernel() {
    let directory = TempDir::new().unwrap();
    let root = directory.as_path();
    put(root, "bzImage", &bzimage("6.18.2"));
    let image = root.join("bzImage");
    let find = |modules: &str| GuestKernel::find_in(root, &image, Some(&root.join(modules)));
    put(root, "out/lib/modules/6.18.2/kernel/nvme.ko", b"");
    put(root, "flat/nvme.ko.zst", b"");
    put(root, "tree/modules.order", b"drivers/nvme.o\n");
    put(root, "tree/include/config/kernel.release", b"6.18.2\n");
    for modules in ["out", "out/lib/modules", "out/lib/modules/6.18.2", "flat", "tree"] {
        let kernel = find(modules).unwrap();
        assert!(matches!(kernel.module("nvme"), ModuleState::File(_)), "{modules}");
    }
    put(root, "other/lib/modules/6.18.1/modules.order", b"");
    put(root, "stale/include/config/kernel.release", b"6.18.1\n");
    for modules in ["other", "other/lib/modules", "other/lib/modules/6.18.1", "stale"] {
        let message = refusal(find(modules));
        assert!(message.contains("are of 6.18.1"), "{message}");
        assert!(message.ends_with("give modules of 6.18.2"), "{message}");
    }
    fs::create_dir(root.join("empty")).unwrap();
    assert!(refusal(find("empty")).contains("has no modules"));
    assert!(refusal(find("missing")).contains("cannot read"));
    assert!(refusal(find("bzImage")).contains("cannot read"));
}

#[test]
fn modules_dep_decides_and_updates_come_first() {
    let directory = TempDir::new().unwrap();
    let root = directory.as_path();
    let modules = root.join("lib/modules/6.18.2");
    put(root, "boot/vmlinuz-6.18.2", &bzimage("6.18.2"));
    for file in ["kernel/nvme.ko", "updates/nvme.ko", "kernel/vfio.ko", "extra/vfio.ko"] {
        put(&modules, file, b"");
    }
    put(&modules, "modules.dep", b"kernel/vfio.ko: kernel/irqbypass.ko\ngone.ko:\n:\n");
    symlink("/", modules.join("build")).unwrap();
    let kernel = find(root, "6.18.2").unwrap();
    assert_eq!(kernel.module("nvme"), ModuleState::File(modules.join("updates/nvme.ko")));
    assert_eq!(kernel.module("vfio"), ModuleState::File(modules.join("kernel/vfio.ko")));
    assert_eq!(kernel.module("gone"), ModuleState::Unknown);
    let tree = kernel.modules.unwrap();
    assert_eq!(tree.listed_dependencies("vfio").unwrap(), ["irqbypass"]);
    assert_eq!(tree.listed_dependencies("nvme"), None);
}
