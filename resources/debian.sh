# shellcheck shell=bash
# Packages of Debian, unpacked into a cache without being installed. To be sourced.
#
#   package_directory linux-image-6.12.117+deb12-amd64    # prints where it is unpacked
#   package_directory seabios bookworm-backports          # the same, from a suite that apt need not know
#   kernel_package 6.12                                   # prints the newest package of that series
#
# Nothing is pinned: versions go from the archive when newer ones come. apt-get verifies what it downloads;
# the sums of what has been unpacked are kept beside it and verified whenever it is used. What is there is
# whole: everything is made under another name and renamed at the end.

cache=${XDG_CACHE_HOME:-$HOME/.cache}/ghostlink

say() { printf '%s: %s\n' "${0##*resources/}" "$*" >&2; }

die() {
    say "$*"
    exit 125
}

# Whether apt can get a package.
available() {
    [[ $(apt-cache show --no-all-versions "$1" 2>/dev/null) == *$'\nFilename: '* ]]
}

# Lists of packages, where there are none (as in containers) and we may.
require_apt() {
    if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
        die "there is no apt-get: the kernels here are Debian's; elsewhere name a kernel of your own"
    fi
    if ! available busybox-static; then
        [[ $EUID -eq 0 ]] || die "apt knows no packages: run 'apt-get update' as root first"
        say "apt knows no packages: apt-get update"
        apt-get update -qq >&2 || die "apt-get update failed"
    fi
}

# The newest kernel package of a series ("6.12") for all-purpose machines.
kernel_package() {
    local pattern="^linux-image-${1//./\\.}\\.[0-9]+(-[0-9]+)?(\\+deb[0-9]+(\\+[0-9]+)?)?-amd64\$" name
    require_apt
    while read -r name; do
        if available "$name"; then
            printf '%s\n' "$name"
            return
        fi
    done < <(apt-cache pkgnames "linux-image-$1." | grep -E "$pattern" | sort -rV)
    die "apt offers no kernel of series $1: look for one by 'apt-cache pkgnames linux-image-'"
}

# What nobody boots here, and what half of a kernel package consists of.
unwanted='lib/modules/*/kernel/drivers/gpu lib/modules/*/kernel/drivers/media lib/modules/*/kernel/drivers/net
    lib/modules/*/kernel/sound usr/share/doc'

# Unpacks a package (of a suite of Debian's) into the cache, unless it is there; prints the directory.
package_directory() {
    local name=$1 suite=${2:-} directory=$cache/$1${2:+-$2}
    mkdir -p "$cache"
    (
        exec 9>"$cache/lock"
        flock 9
        if [[ ! -d $directory ]]; then
            require_apt
            unpack "$name" "$directory" "$suite"
        fi
        cd "$directory"
        sha256sum --quiet --check SHA256SUMS >&2 ||
            die "'$directory' has changed since it was unpacked: remove it, and run this again"
    ) </dev/null || exit
    printf '%s\n' "$directory"
}

# Makes apt-get, with `options`, see that suite and nothing else. The system's own lists stay as they are.
see_suite() {
    local apt=$cache/apt-$1
    mkdir -p "$apt/lists/partial"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $1 main" \
        >"$apt/sources.list"
    options+=(-o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State::Lists=$apt/lists" -o Dir::State::Status=/dev/null -o Dir::Cache::PkgCache= -o Dir::Cache::SrcPkgCache=)
    apt-get "${options[@]}" update -qq >&2 || die "apt-get update of the suite $1 failed"
}

unpack() {
    local name=$1 directory=$2 suite=$3 work options
    options=(-o "APT::Sandbox::User=$(id -un)")
    [[ -z $suite ]] || see_suite "$suite"
    work=$(mktemp -d "$cache/partial.XXXXXX")
    # shellcheck disable=SC2064  # as it is called now
    trap "rm -rf '$work'" EXIT
    say "$name is not in $cache: downloading it"
    (cd "$work" && apt-get "${options[@]}" download "$name" >&2) ||
        die "cannot download $name: see above; 'apt-get update' helps if the archive has moved on"
    mkdir "$work/root"
    dpkg -x "$work"/*.deb "$work/root"
    (
        cd "$work/root" || exit
        # shellcheck disable=SC2086  # patterns and several words
        rm -rf $unwanted
        find . -type f -print0 | sort -z | xargs -0 sha256sum >../SHA256SUMS
        mv ../SHA256SUMS .
    )
    mv "$work/root" "$directory"
    rm -rf "$work"
}
