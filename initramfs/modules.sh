# shellcheck shell=sh disable=SC2154
# A kernel's modules, with all that they need. To be sourced after common.sh and firmware.sh; works in the folder $work, which the
# caller makes and removes.

# open_kernel MODULES: $work/kernel becomes a base folder for kmod, and $version the kernel's. A kernel just
# unpacked from its package has no modules.dep: it is made there, and the given folder stays as it is.
open_kernel() {
    [ -d "$1/kernel" ] || die "$1: no kernel modules; apt-get install linux-image-${1##*/}"
    source=$(realpath "$1")
    version=${source##*/}
    mkdir -p "$work/kernel/usr/lib/modules/$version"
    ln -s usr/lib "$work/kernel/lib"
    ln -s "$source"/* "$work/kernel/lib/modules/$version/"
    [ -e "$source/modules.dep.bin" ] || depmod -b "$work/kernel" "$version"
}

# modules_in FOLDER...: names of the kernel's modules below these folders of its own tree.
modules_in() {
    pattern=$(printf '|%s' "$@")
    sed 's/:.*//' "$work/kernel/lib/modules/$version/modules.dep" | grep -E "^kernel/(${pattern#|})(/|\.ko)" | names
}

# names: turns paths of modules into their names.
names() { sed -E 's|.*/||; s|\.ko(\.[a-z0-9]+)?$||'; }

# stage_modules TREE ROOT: puts the modules named on standard input into TREE, with all that they need (hard and
# soft dependencies), the firmware that they ask for and ROOT has, and the indexes of this subset. Firmware that
# ROOT lacks is listed in $work/missing-firmware as MODULE FILE.
stage_modules() {
    to=$1/lib/modules/$version
    mkdir -p "$to"
    # kmod knows dependencies and which modules are built in. Settings of this machine are not the nodes'.
    sort -u | xargs modprobe -C /dev/null -d "$work/kernel" -S "$version" --show-depends -a >"$work/insmod"
    sed -nE "s|^insmod .*/lib/modules/$version/([^ ]+).*|\1|p" "$work/insmod" | LC_ALL=C sort -u >"$work/modules"
    (cd "$source" && xargs cp -L --parents -t "$to" <"$work/modules")
    # Plain files: the archive is compressed as a whole, and any loader can read them.
    unpack_files "$to"
    cp "$source"/modules.order "$source"/modules.builtin "$source"/modules.builtin.modinfo "$to/"
    depmod -b "$1" "$version"
    rm "$to/modules.symbols" "$to/modules.symbols.bin"
    # Options and blacklists that a site has for its nodes.
    for conf in "$2"/etc/ka/modprobe.d/*.conf; do
        [ ! -f "$conf" ] || install -D -m 644 "$conf" "$1/etc/modprobe.d/${conf##*/}"
    done
    find "$to" -name '*.ko' -exec modinfo {} + >"$work/modinfo"
    awk '/^filename:/ { m = $2; sub(".*/", "", m) } /^firmware:/ { print m, $2 }' "$work/modinfo" |
        LC_ALL=C sort -u | stage_firmware "$1" "$2"
}
