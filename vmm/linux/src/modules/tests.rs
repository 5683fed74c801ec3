use std::fs;
use std::path::Path;

use cpio::newc::Reader;
use vmm_sys_util::tempdir::TempDir;

use super::normalize;
use crate::testkit::{bzimage, gzip, module, put, xz, zstd};
use crate::{GuestKernel, Initramfs};

const RELEASE: &str = "6.12.117+deb12-amd64";
const VERMAGIC: &str = "vermagic=6.12.117+deb12-amd64 SMP preempt mod_unload ";

/// A kernel below `root` with these modules: file name, content.
fn kernel(root: &Path, modules: &[(&str, Vec<u8>)]) -> GuestKernel {
    put(root, &format!("boot/vmlinuz-{RELEASE}"), &bzimage(RELEASE));
    let directory = root.join("lib/modules").join(RELEASE);
    put(&directory, "modules.builtin", b"kernel/lib/crc16.ko\n");
    for (name, bytes) in modules {
        put(&directory.join("kernel"), name, bytes);
    }
    GuestKernel::find_in(root, root, None).unwrap()
}

/// The files of an archive: path, mode, content.
fn unpack(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
    let (mut files, mut rest) = (Vec::new(), archive);
    loop {
        let reader = Reader::new(rest).unwrap();
        if reader.entry().is_trailer() {
            return files;
        }
        let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
        let mut bytes = Vec::new();
        rest = reader.to_writer(&mut bytes).unwrap();
        files.push((name, mode, bytes));
    }
}

fn content(archive: &[u8], path: &str) -> Vec<u8> {
    let mut files = unpack(archive).into_iter();
    files.find(|(name, ..)| name == path).unwrap_or_else(|| panic!("there is no {path}")).2
}

fn list(archive: &[u8]) -> String {
    String::from_utf8(content(archive, "modules")).unwrap()
}

#[test]
fn an_archive_has_its_files_below_their_directories() {
    let mut initramfs = Initramfs::new();
    initramfs.file("/init", 0o755, *b"first").file("init", 0o755, *b"second").directory("/proc");
    initramfs.file("a/b/c", 0o600, *b"12345");
    let archive = initramfs.clone().build();
    let files = unpack(&archive);
    let names: Vec<(&str, u32)> =
        files.iter().map(|(name, mode, _)| (name.as_str(), *mode)).collect();
    assert_eq!(
        names,
        [
            ("a", 0o40755),
            ("a/b", 0o40755),
            ("a/b/c", 0o100_600),
            ("init", 0o100_755),
            ("modules", 0o100_644),
            ("proc", 0o40755)
        ]
    );
    assert_eq!(content(&archive, "init"), b"second");
    assert_eq!(content(&archive, "a/b/c"), b"12345");
    assert_eq!(archive.len() % 4, 0);
    assert_eq!(initramfs.build(), archive, "the same content makes the same bytes");
}

#[test]
fn modules_come_unpacked_and_after_all_that_they_need() {
    let directory = TempDir::new().unwrap();
    let nvme = module(&["name=nvme", "depends=nvme-core", VERMAGIC]);
    let core = module(&["depends=nvme-auth,crc16", VERMAGIC]);
    let ext4 = module(&["softdep=pre: crypto-crc32c gone post: nvme", "depends=jbd2", VERMAGIC]);
    let jbd2 = module(&["softdep=pre: crypto-crc32c", "depends=", VERMAGIC]);
    let plain = module(&["depends=", VERMAGIC]);
    let kernel = kernel(
        directory.as_path(),
        &[
            ("nvme.ko.xz", xz(&nvme)),
            ("nvme-core.ko.zst", zstd(&core)),
            ("nvme-auth.ko.gz", gzip(&plain)),
            ("ext4.ko", ext4),
            ("jbd2.ko", jbd2),
            ("crc32c_generic.ko", plain.clone()),
            ("unused.ko", plain.clone()),
        ],
    );
    let mut initramfs = Initramfs::new();
    initramfs.modules(&kernel, &["nvme", "crc16"]).unwrap();
    initramfs.modules(&kernel, &["ext4", "nvme-core"]).unwrap();
    let archive = initramfs.build();
    assert_eq!(
        list(&archive),
        "nvme_auth /lib/modules/nvme_auth.ko\n\
         nvme_core /lib/modules/nvme_core.ko nvme_auth\n\
         nvme /lib/modules/nvme.ko nvme_auth nvme_core\n\
         crc32c_generic /lib/modules/crc32c_generic.ko\n\
         jbd2 /lib/modules/jbd2.ko crc32c_generic\n\
         ext4 /lib/modules/ext4.ko crc32c_generic jbd2\n"
    );
    assert_eq!(content(&archive, "lib/modules/nvme.ko"), nvme);
    assert_eq!(content(&archive, "lib/modules/nvme_core.ko"), core);
    assert_eq!(content(&archive, "lib/modules/nvme_auth.ko"), plain);
}

#[test]
fn modules_dep_counts_where_a_module_does_not_say_what_it_needs() {
    let directory = TempDir::new().unwrap();
    let plain = module(&["depends=", VERMAGIC]);
    let built = kernel(directory.as_path(), &[("a.ko", plain.clone()), ("b-c.ko", plain)]);
    let modules = built.modules.unwrap().directory().to_owned();
    put(&modules, "modules.dep", b"kernel/a.ko: kernel/b-c.ko\n");
    let kernel = GuestKernel::find_in(directory.as_path(), directory.as_path(), None).unwrap();
    let mut initramfs = Initramfs::new();
    initramfs.modules(&kernel, &["a"]).unwrap();
    assert!(list(&initramfs.build()).contains("a /lib/modules/a.ko b_c\n"));
}

#[test]
fn a_circle_of_dependencies_ends() {
    let directory = TempDir::new().unwrap();
    let [a, b] = ["depends=b,a", "depends=a"].map(|depends| module(&[depends, VERMAGIC]));
    let kernel = kernel(directory.as_path(), &[("a.ko", a), ("b.ko", b)]);
    let mut initramfs = Initramfs::new();
    initramfs.modules(&kernel, &["a"]).unwrap();
    assert_eq!(list(&initramfs.build()), "b /lib/modules/b.ko\na /lib/modules/a.ko b\n");
}

/// The message for a module that cannot be had, which has one line and names the module.
fn refusal(kernel: &GuestKernel, name: &str) -> String {
    let message = Initramfs::new().modules(kernel, &[name]).unwrap_err().to_string();
    assert!(
        !message.contains('\n') && message.contains(&format!("'{}'", normalize(name))),
        "{message}"
    );
    message
}

#[test]
fn what_is_missing_damaged_or_of_another_kernel_is_named_with_the_reason() {
    let directory = TempDir::new().unwrap();
    let plain = module(&["depends=", VERMAGIC]);
    let mut headers = plain.clone();
    headers[40..48].fill(0xff);
    let mut section = plain.clone();
    let at = section.len() - 128;
    section[at + 32..at + 40].fill(0xff);
    let mut stripped = plain.clone();
    let at = stripped.windows(8).position(|bytes| bytes == b".modinfo").unwrap();
    stripped[at] = b'x';
    let bomb = gzip(vec![0; (64 << 20) + 1]);
    let kernel = kernel(
        directory.as_path(),
        &[
            ("nvme.ko", module(&["depends=nvme-core", VERMAGIC])),
            ("other.ko", module(&["depends=", "vermagic=6.12.118 SMP "])),
            ("none.ko", module(&["depends="])),
            ("stripped.ko", stripped),
            ("empty.ko", Vec::new()),
            ("text.ko", b"hello".to_vec()),
            ("cut_xz.ko.xz", xz(&plain)[..40].to_vec()),
            ("cut_zst.ko.zst", zstd(&plain)[..40].to_vec()),
            ("cut_gz.ko.gz", gzip(&plain)[..40].to_vec()),
            ("headers.ko", headers),
            ("section.ko", section),
            ("bomb.ko.gz", bomb),
            ("packed_text.ko.xz", xz(b"hello")),
        ],
    );
    let message = refusal(&kernel, "vfio-pci");
    assert!(
        message.contains("has no module 'vfio_pci': it is neither built in nor in"),
        "{message}"
    );
    assert!(message.ends_with("build it with CONFIG_VFIO_PCI=y or m"), "{message}");
    let message = refusal(&kernel, "nvme");
    assert!(message.contains("no module 'nvme_core', which 'nvme' needs"), "{message}");
    for (name, reason) in [
        ("other", "is of 6.12.118, and the kernel is 6.12.117+deb12-amd64"),
        ("none", "is of no kernel (it has no vermagic)"),
        ("stripped", "it has no section .modinfo"),
        ("empty", "it is empty"),
        ("text", "it is no ELF file"),
        ("cut_xz", "it cannot be unpacked"),
        ("cut_zst", "it cannot be unpacked"),
        ("cut_gz", "it cannot be unpacked"),
        ("headers", "ELF headers are damaged"),
        ("section", "ELF headers are damaged"),
        ("bomb", "it has more than 64 MiB"),
        ("packed_text", "it is no ELF file"),
    ] {
        let message = refusal(&kernel, name);
        assert!(message.contains(reason), "{message}");
        assert!(message.contains(&format!("{name}.ko")), "{message}");
    }
}

#[test]
fn a_kernel_without_modules_is_judged_by_its_configuration() {
    let directory = TempDir::new().unwrap();
    let root = directory.as_path();
    put(root, "bzImage", &bzimage("6.18.2"));
    let find = || GuestKernel::find_in(root, &root.join("bzImage"), None).unwrap();
    let nothing = Initramfs::new().build();
    let kernel = find();
    let with = |kernel: &GuestKernel| {
        let mut initramfs = Initramfs::new();
        initramfs.modules(kernel, &["nvme"]).unwrap();
        initramfs.build()
    };
    assert_eq!(with(&kernel), nothing, "nothing is known: the step of the guest tells");
    put(root, "config", b"CONFIG_BLK_DEV_NVME=y\n");
    assert_eq!(with(&find()), nothing);
    put(root, "config", b"CONFIG_MODULES=y\n");
    assert!(refusal(&find(), "nvme").contains("build it with CONFIG_BLK_DEV_NVME"));
    put(root, "config", b"CONFIG_MODULES=y\nCONFIG_BLK_DEV_NVME=m\n");
    assert!(refusal(&find(), "nvme").ends_with("give their directory by --modules"));
}

#[test]
fn a_module_that_the_tree_has_not_built_is_named_with_what_to_do() {
    let directory = TempDir::new().unwrap();
    let tree = directory.as_path().join("tree");
    put(&tree, "arch/x86/boot/bzImage", &bzimage("7.1.0-rc3"));
    put(&tree, "modules.order", b"drivers/nvme/host/nvme.o\n");
    let kernel = GuestKernel::find_in(directory.as_path(), &tree, None).unwrap();
    let message = refusal(&kernel, "nvme");
    assert!(message.contains("tree/drivers/nvme/host/nvme.ko"), "{message}");
    assert!(message.ends_with("; run make modules"), "{message}");
    fs::create_dir_all(tree.join("drivers/nvme/host/nvme.ko")).unwrap();
    assert!(refusal(&kernel, "nvme").contains("cannot read"));
}
