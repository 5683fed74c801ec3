# shellcheck shell=bash
# Packages of Debian, unpacked into a cache without being installed. To be sourced.
#
#   package_directory linux-image-6.12.117+deb12-amd64    # prints where it is unpacked
#   package_directory seabios bookworm-backports          # the same, from a suite that apt need not know
#   kernel_package 6.12                                   # prints the newest package of that series
#   old_kernel 6.12.74                                    # prints where that one's package is unpacked
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

# Where a kernel of that very version is unpacked: of this machine's Debian, or from where backports keep them.
old_kernel() {
    local version=$1 suite name options directories
    local pattern="linux-image-$version(\\+deb[0-9]+)?-amd64"
    shopt -s nullglob
    directories=("$cache/linux-image-$version"*-amd64*)
    shopt -u nullglob
    for name in "${directories[@]##*/}"; do
        if [[ $name =~ ^($pattern)(-(.*))?$ ]]; then
            package_directory "${BASH_REMATCH[1]}" "${BASH_REMATCH[4]}"
            return
        fi
    done
    require_apt
    for suite in '' bookworm-backports trixie-backports; do
        see_suite "$suite"
        name=$(apt-cache "${options[@]}" pkgnames "linux-image-$version" | grep -xE "$pattern" | head -n 1) || continue
        package_directory "$name" "$suite"
        return
    done
    die "neither apt nor Debian's backports have a kernel $version; see https://packages.debian.org/linux-image"
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

# Makes apt-get, with `options`, see that suite and nothing else; or, if it is empty, what the system sees. The
# system's own lists stay as they are.
see_suite() {
    local apt=$cache/apt-$1
    options=(-o "APT::Sandbox::User=$(id -un)")
    [[ -n $1 ]] || return 0
    mkdir -p "$apt/lists/partial"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $1 main" \
        >"$apt/sources.list"
    options+=(-o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State::Lists=$apt/lists" -o Dir::State::Status=/dev/null -o Dir::Cache::PkgCache= -o Dir::Cache::SrcPkgCache=)
    apt-get "${options[@]}" update -qq >&2 || die "apt-get update of the suite $1 failed"
}

unpack() {
    local name=$1 directory=$2 suite=$3 work package options
    see_suite "$suite"
    work=$(mktemp -d "$cache/partial.XXXXXX")
    # shellcheck disable=SC2064  # as it is called now
    trap "rm -rf '$work'" EXIT
    say "$name is not in $cache: downloading it"
    mkdir "$work/root"
    download "$name"
    # From 6.19 on a kernel's package is but a list of others, and all is below /usr/lib/modules.
    for package in $(dpkg-deb -f "$work"/*.deb Depends | grep -oE 'linux-(base|binary|modules)-[0-9][^ ,]*'); do
        download "$package"
    done
    for package in "$work"/*.deb; do
        dpkg -x "$package" "$work/root"
    done
    (
        cd "$work/root" || exit
        if [[ -d usr/lib/modules ]]; then
            mkdir -p boot lib
            mv usr/lib/modules lib/modules
            for file in vmlinuz config; do
                mv lib/modules/*/"$file" "boot/$file-${name#linux-image-}"
            done
        fi
        # shellcheck disable=SC2086  # patterns and several words
        rm -rf $unwanted
        find . -type f -print0 | sort -z | xargs -0 sha256sum >../SHA256SUMS
        mv ../SHA256SUMS .
    )
    mv "$work/root" "$directory"
    rm -rf "$work"
}

# Into `work`.
download() {
    (cd "$work" && apt-get "${options[@]}" download "$1" >&2) ||
        die "cannot download $1: see above; 'apt-get update' helps if the archive has moved on"
}
