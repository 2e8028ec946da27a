# shellcheck shell=sh
# What the scripts of this folder share: messages, the base of a tree, and its archive with fixed bytes.
# To be sourced.

PATH=$PATH:/usr/sbin:/sbin

die() { echo "${0##*/}: $*" >&2; exit 1; }

# need TOOL PACKAGE ...: says at once which packages are missing.
need() {
    while [ $# -gt 0 ]; do
        command -v "$1" >/dev/null || die "no $1: apt-get install $2"
        shift 2
    done
}

# skeleton TREE: base folders, merged as Debian's, so that any path that a tool's package uses is found.
skeleton() {
    for dir in dev etc mnt proc root run sys tmp var usr/bin usr/sbin usr/lib usr/lib64; do mkdir -p "$1/$dir"; done
    for link in bin sbin lib lib64; do ln -s "usr/$link" "$1/$link"; done
    chmod 1777 "$1/tmp"
    mknod -m 600 "$1/dev/console" c 5 1
    mknod -m 666 "$1/dev/null" c 1 3
    printf 'root:x:0:0:root:/root:/bin/sh\n' >"$1/etc/passwd"
    printf 'root:x:0:\ndisk:x:6:\n' >"$1/etc/group"
    ln -s /proc/self/mounts "$1/etc/mtab"
}

# stage_busybox TREE ROOT: a shell and the usual small tools, none in the place of a tool that is there already.
stage_busybox() {
    box=$(find "$2/bin/busybox" "$2/usr/bin/busybox" 2>/dev/null | head -n 1)
    [ -n "$box" ] || die "$2: no busybox; apt-get install busybox-static"
    ! ldd "$box" >/dev/null 2>&1 || die "$box is not static; apt-get install busybox-static"
    cp "$box" "$1/bin/busybox"
    for applet in $("$box" --list-full | grep -E '^(usr/)?s?bin/'); do
        [ -e "$1/bin/${applet##*/}" ] || [ -e "$1/sbin/${applet##*/}" ] || ln -s /bin/busybox "$1/$applet"
    done
}

# archive TREE: TREE as a cpio that depends on nothing but its contents.
archive() {
    find "$1" -exec touch -h -d @0 {} +
    (cd "$1" && find . -mindepth 1 -print0 | LC_ALL=C sort -z | cpio -0 --quiet --reproducible -H newc -R 0:0 -o)
}
