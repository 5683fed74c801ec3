# shellcheck shell=bash
# What the scripts of this repository share. To be sourced first.
#
# An error ends a script at once, with one message and a status that is not 0. Bash needs three
# things for that: `inherit_errexit`, so that `set -e` holds in $(...); a statement of its own for
# each $(...) that may fail, since `local x=$(...)` and `f "$(...)"` drop its status; and no
# function that may fail in `if`, `&&` or `||`, since `set -e` is off in there. A condition may call
# a script.
set -euo pipefail
shopt -s inherit_errexit

# Kernels, tools and images that the scripts download or build.
# shellcheck disable=SC2034  # the scripts use it
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ghostlink

# The running script, by its path in the repository.
script=$(realpath -s --relative-to="${BASH_SOURCE[0]%/*}/.." "$0")

say() { printf '%s: %s\n' "$script" "$*" >&2; }

die() {
    say "$*"
    exit 125
}

# quietly WHAT COMMAND...: runs a program, and shows the last lines of its output only if it fails.
quietly() {
    local what=$1 output
    shift
    if ! output=$("$@" 2>&1 </dev/null); then
        tail -n 10 <<<"$output" >&2
        die "$what failed: see above"
    fi
}
