//! Names the linker script by its full path, whatever directory the linker is started in.

fn main() {
    let directory = env!("CARGO_MANIFEST_DIR");
    println!("cargo::rerun-if-changed=link.ld");
    println!("cargo::rerun-if-changed=src/boot");
    println!("cargo::rustc-link-arg-bins=-T{directory}/link.ld");
}
