# shellcheck shell=bash
# An initramfs of busybox, modules of one kernel and a script as /init. To be sourced after
# common.sh.
#
#   make_initramfs OUT MODULES INIT MODULE...
#
# MODULES is a directory such as /lib/modules/6.18.2. Each MODULE comes with the modules that it
# depends on, decompressed, and with the files that busybox's modprobe reads. The initramfs lacks
# modules that the kernel has built in, or does not know.
# shellcheck disable=SC2154  # cache and here are the script's

# Sets `busybox` to a static one.
require_busybox() {
    busybox=$("$here/packages" tree busybox-static)
    busybox+=/bin/busybox
    [[ -e $busybox ]] || busybox=${busybox/\/bin\//\/usr\/bin\/} # from Debian 13 on
}

make_initramfs() {
    local out=$1 modules=${2%/} init=$3 release root
    shift 3
    require_busybox
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

# Makes an initramfs of a directory. It may be appended to another one.
pack() {
    local root=$1 out=$2
    require_busybox
    (cd "$root" && find . -print | LC_ALL=C sort | "$busybox" cpio -o -H newc 2>/dev/null) >"$out.partial"
    mv "$out.partial" "$out"
}

# Finds modules by name, in which '-' and '_' are the same, and their dependencies in the modules
# themselves: the packages have no modules.dep before they are installed.
copy_modules() {
    local from=$1 to=$2 name file depends
    shift 2
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
        depends=$(tr '\0' '\n' <"$to/$name.ko" | sed -n 's/^depends=//p')
        IFS=, read -ra depends <<<"$depends"
        todo+=("${depends[@]}")
    done
}
