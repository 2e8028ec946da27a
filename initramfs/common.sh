# shellcheck shell=bash disable=SC2154
# What the scripts of this folder share: how they fail, the base of a tree, and its archive with fixed bytes.
# To be sourced first, by bash. A program that fails ends the script, in a pipe and in a substitution too; what it
# said stands above the line that names it.

set -Eeuo pipefail
shopt -s inherit_errexit
PATH=$PATH:/usr/sbin:/sbin
# The order of names, and what a letter is, must be the same everywhere.
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
trap 'echo "${0##*/}: line $LINENO of ${BASH_SOURCE[0]##*/}: this failed: $BASH_COMMAND" >&2' ERR

die() { echo "${0##*/}: $*" >&2; exit 1; }

# say WHAT: tells whoever waits what is being done.
say() { echo "${0##*/}: $*"; }

# need MODULES ROOT: ends with everything that `check` misses.
need() {
    local missing
    missing=$("$here/check" "$1" "$2") || die "cannot look for what is missing"
    [ -z "$missing" ] || die "$missing"
}

# skeleton TREE: base folders, merged as Debian's, so that any path that a tool's package uses is found.
skeleton() {
    local name
    mkdir -p "$1"/{dev,etc,mnt,proc,root,run,sys,tmp,var,usr/bin,usr/sbin,usr/lib,usr/lib64}
    for name in bin sbin lib lib64; do ln -s "usr/$name" "$1/$name"; done
    chmod 1777 "$1/tmp"
    mknod -m 600 "$1/dev/console" c 5 1
    mknod -m 666 "$1/dev/null" c 1 3
    printf 'root:x:0:0:root:/root:/bin/sh\n' >"$1/etc/passwd"
    printf 'root:x:0:\ndisk:x:6:\n' >"$1/etc/group"
    ln -s /proc/self/mounts "$1/etc/mtab"
}

# stage_shell TREE ROOT: a shell for the person who has to look before stage2 is there. klibc's, with its few small
# tools, has a fifth of busybox's size; Debian's initramfs-tools bring it along. Without it, busybox.
stage_shell() {
    local library
    for library in "$2"/lib/klibc-*.so "$2"/usr/lib/klibc-*.so; do
        if [ ! -f "$library" ] || [ ! -x "$2/usr/lib/klibc/bin/sh" ]; then continue; fi
        cp "$2"/usr/lib/klibc/bin/* "$1/bin/"
        # For disks, and for a root on a network.
        rm -f "$1"/bin/{kinit,nfsmount,resume,run-init,fstype,losetup,cpio,nuke,gzip,gunzip,zcat}
        cp "$library" "$1/lib/"
        return
    done
    stage_busybox "$1" "$2"
}

# stage_busybox TREE ROOT: a shell and the usual small tools, none in the place of a tool that is there already.
stage_busybox() {
    local box=$2/bin/busybox applet
    [ -f "$box" ] || box=$2/usr/bin/busybox
    ! ldd "$box" >/dev/null 2>&1 || die "$box is not static: apt-get install busybox-static"
    cp "$box" "$1/bin/busybox"
    "$box" --list-full >"$work/applets"
    while read -r applet; do
        case $applet in
        bin/?* | sbin/?* | usr/bin/?* | usr/sbin/?*) ;;
        *) continue ;;
        esac
        # A link that leads nowhere from out here is there as well.
        for place in "$1/bin/${applet##*/}" "$1/sbin/${applet##*/}"; do
            if [ -e "$place" ] || [ -L "$place" ]; then continue 2; fi
        done
        echo "$applet"
    done <"$work/applets" | links /bin/busybox | cpio -i --quiet -D "$1"
}

# links TARGET: a cpio of links to TARGET, with the names on standard input. One process then makes them all: on a
# slow machine, a process for each of four hundred takes seconds.
links() {
    local name number=1
    while read -r name; do
        link "$((number++))" 0120777 "$name" "$1"
    done
    link 0 0 'TRAILER!!!' ''
}

# link INODE MODE NAME TARGET: one entry, cpio(5): thirteen numbers, the name, zeros to a multiple of four, the target.
link() {
    printf '070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s' \
        "$1" "$2" 0 0 1 0 "${#4}" 0 0 0 0 "$((${#3} + 1))" 0 "$3"
    zeros $((4 - (110 + ${#3}) % 4))
    printf '%s' "$4"
    zeros $(((4 - ${#4} % 4) % 4))
}

# zeros COUNT: at most four.
zeros() { case $1 in 1) printf '\0' ;; 2) printf '\0\0' ;; 3) printf '\0\0\0' ;; 4) printf '\0\0\0\0' ;; esac }

# archive TREE: TREE as a cpio that depends on nothing but its contents.
archive() {
    find "$1" -exec touch -h -d @0 {} +
    (cd "$1" && find . -mindepth 1 -print0 | sort -z | cpio -0 --quiet --reproducible -H newc -R 0:0 -o)
}
