# shellcheck shell=bash disable=SC2154
# A kernel's modules, with all that they need. To be sourced after common.sh and firmware.sh; works in the folder $work,
# which the caller makes and removes.

# open_kernel MODULES: $work/kernel becomes a base folder for kmod, and $version the kernel's. A kernel just
# unpacked from its package has no modules.dep: it is made there, and the given folder stays as it is.
open_kernel() {
    [ -d "$1/kernel" ] || die "$1: no kernel modules: apt-get install linux-image-${1##*/}"
    source=$(realpath "$1")
    version=${source##*/}
    index=$work/kernel/usr/lib/modules/$version
    mkdir -p "$index"
    ln -s usr/lib "$work/kernel/lib"
    ln -s "$source"/* "$index/"
    [ -e "$source/modules.dep.bin" ] || depmod -b "$work/kernel" "$version"
}

# modules_in FOLDER...: names of the kernel's modules below these folders of its own tree.
modules_in() {
    local folder
    for folder; do echo "$folder"; done | awk '
        NR == FNR { wanted["kernel/" $0]; next }
        # A folder, or the one module that bears its name.
        { path = $0; sub(":.*", "", path); folder = path; sub("[.]ko([.][a-z0-9]+)?$", "", folder) }
        { for (; folder != ""; sub("/?[^/]*$", "", folder)) if (folder in wanted) { print path; next } }
    ' - "$index/modules.dep" | names
}

# modules_by_name WHO: names of the modules that the kernel asks for by a name and no module depends on, from the list
# `by-name`: a module of that name, or one with that alias. What a kernel lacks or has built in is no fault.
modules_by_name() {
    awk -v who="$1" '
        function plain(name) { gsub("-", "_", name); return name }
        FILENAME ~ /by-name$/ { if ($1 == who) for (i = 2; i <= NF; i++) wanted[plain($i)]; next }
        $1 == "alias" { if (plain($2) in wanted) print $3; next }
        { path = $1; sub(":$", "", path); name = path; sub(".*/", "", name); sub("[.]ko.*", "", name) }
        plain(name) in wanted { print name }
    ' "$here/by-name" "$index/modules.alias" "$index/modules.dep"
}

# names: turns paths of modules into their names.
names() { sed -E 's|.*/||; s|\.ko(\.[a-z0-9]+)?$||'; }

# stage_modules TREE ROOT: puts the modules named on standard input into TREE, with all that they need (hard and
# soft dependencies), the firmware that they ask for and ROOT has, and the indexes of this subset. Firmware that
# ROOT lacks is listed in $work/missing-firmware as MODULE FILE.
stage_modules() {
    local to=$1/lib/modules/$version conf
    mkdir -p "$to"
    # kmod knows dependencies and which modules are built in. Settings of this machine are not the nodes'.
    sort -u | xargs -rd '\n' modprobe -C /dev/null -d "$work/kernel" -S "$version" --show-depends -a >"$work/insmod"
    # A version may have any letter in it, a `+` too: it is found as it is, and never as a pattern.
    MODULES=/lib/modules/$version/ awk '
        $1 == "insmod" && (at = index($2, ENVIRON["MODULES"])) { print substr($2, at + length(ENVIRON["MODULES"])) }
    ' "$work/insmod" | sort -u >"$work/modules"
    [ -s "$work/modules" ] || die "$source: none of the modules that a node needs is there"
    (cd "$source" && xargs -d '\n' cp -L --parents -t "$to" <"$work/modules")
    # Plain files: the archive is compressed as a whole, and any loader can read them.
    unpack_files "$to"
    cp "$source"/modules.order "$source"/modules.builtin "$to/"
    [ ! -e "$source/modules.builtin.modinfo" ] || cp "$source/modules.builtin.modinfo" "$to/"
    depmod -b "$1" "$version"
    # Options and blacklists that a site has for its nodes.
    for conf in "$2"/etc/ka/modprobe.d/*.conf; do
        [ ! -f "$conf" ] || install -D -m 644 "$conf" "$1/etc/modprobe.d/${conf##*/}"
    done
    find "$to" -name '*.ko' -exec modinfo {} + >"$work/modinfo"
    awk '
        /^filename:/ { module = $2; sub(".*/", "", module) }
        /^firmware:/ { file = $0; sub("^firmware:[ \t]*", "", file); print module, file }
    ' "$work/modinfo" | sort -u | stage_firmware "$1" "$2"
}
