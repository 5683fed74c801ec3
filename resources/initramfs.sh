# shellcheck shell=bash
# An initramfs of busybox, modules of one kernel and a script as /init. To be sourced after debian.sh.
#
#   make_initramfs OUT MODULES INIT MODULE...
#
# MODULES is a directory such as /lib/modules/6.18.2. Modules come with what they depend on, decompressed and with the
# files that busybox's modprobe reads; what the kernel has built in, or never had, is left out.
# shellcheck disable=SC2154  # cache is debian.sh's

make_initramfs() {
    local out=$1 modules=${2%/} init=$3 busybox release root
    shift 3
    busybox=$(package_directory busybox-static)/bin/busybox
    release=${modules##*/}
    root=$(mktemp -d "$cache/partial.XXXXXX")
    mkdir -p "$root"/{bin,dev,proc,sys,run,tmp,mnt,sbin} "$root/lib/modules/$release"
    cp "$busybox" "$root/bin/busybox"
    ln -s ../bin/busybox "$root/sbin/modprobe" # where the kernel looks for it
    install -m 755 "$init" "$root/init"
    copy_modules "$modules" "$root/lib/modules/$release" "$@"
    "$busybox" depmod -b "$root" "$release"
    pack "$root" "$out"
    rm -rf "$root"
}

# A directory as an initramfs, whole or not at all. May be appended to another one.
pack() {
    local root=$1 out=$2 busybox
    busybox=$(package_directory busybox-static)/bin/busybox
    (cd "$root" && find . -print | LC_ALL=C sort | "$busybox" cpio -o -H newc 2>/dev/null) >"$out.partial"
    mv "$out.partial" "$out"
}

# Modules are found by name ('-' and '_' are the same in it), and their dependencies by what they say of
# themselves: the packages have no modules.dep before they are installed.
copy_modules() {
    local from=$1 to=$2 busybox name file
    shift 2
    busybox=$(package_directory busybox-static)/bin/busybox
    local -a todo=("$@")
    while [[ ${#todo[@]} -gt 0 ]]; do
        name=${todo[0]}
        todo=("${todo[@]:1}")
        [[ ! -e $to/$name.ko ]] || continue
        file=$(find "$from/kernel" -regex ".*/${name//[-_]/[-_]}\.ko\(\.xz\)?" -print -quit)
        [[ -n $file ]] || continue
        case $file in
            *.xz) "$busybox" unxz -c "$file" >"$to/$name.ko" ;;
            *) cp "$file" "$to/$name.ko" ;;
        esac
        IFS=, read -ra file < <(tr '\0' '\n' <"$to/$name.ko" | sed -n 's/^depends=//p')
        todo+=("${file[@]}")
    done
}
