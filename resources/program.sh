# shellcheck shell=bash
# The program ghostlink, built if it is not up to date. To be sourced after debian.sh, with `here` being resources/.

# Sets `program` to where it is: to GHOSTLINK, if there is one.
build_program() {
    local target=${CARGO_TARGET_DIR:-$here/../target}
    program=${GHOSTLINK:-$target/testhost/release/ghostlink}
    if [[ -z ${GHOSTLINK:-} ]]; then
        say "building ghostlink, unless it is up to date"
        # No link-time optimization: it takes minutes, and a test host is slower than that anyway.
        CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_INCREMENTAL=1 \
            cargo build --release --locked --quiet --manifest-path "$here/../Cargo.toml" --bin ghostlink \
            --target-dir "$target/testhost" >&2 || die "building ghostlink failed"
    fi
    program=$(realpath "$program")
    # It is called by its name, here and in the test host.
    [[ $program == */ghostlink ]] || die "GHOSTLINK is '$program'; the file must be named ghostlink"
}
