# shellcheck shell=bash
# Builds the program ghostlink. To be sourced after common.sh; `here` is the path of resources/.

# Sets `program` to the path of the program: GHOSTLINK, or one that is built if it is not up to
# date.
build_program() {
    local target=${CARGO_TARGET_DIR:-$here/../target}
    program=${GHOSTLINK:-$target/testhost/release/ghostlink}
    if [[ -z ${GHOSTLINK:-} ]]; then
        say "building ghostlink, unless it is up to date"
        # Link-time optimization takes minutes, and gains less than that in a test host.
        CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_INCREMENTAL=1 \
            cargo build --release --locked --quiet --manifest-path "$here/../Cargo.toml" --bin ghostlink \
            --target-dir "$target/testhost" >&2 || die "building ghostlink failed"
    fi
    [[ -x $program ]] || die "there is no program '$program' (GHOSTLINK)"
    program=$(realpath "$program")
    # Scripts call it by its name, here and in the test host.
    [[ $program == */ghostlink ]] || die "GHOSTLINK is '$program'; the file must be named ghostlink"
}
