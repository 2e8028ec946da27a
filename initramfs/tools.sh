# shellcheck shell=bash disable=SC2154
# Programs of the golden node, with all that they need. To be sourced after common.sh; works in the folder $work,
# which the caller makes and removes.

# stage_tools TREE ROOT: copies the programs of the list `tools` that ROOT has, and the libraries that they load. What
# every node needs was looked for by `check`.
stage_tools() {
    local to=$1 from=$2 names path real libgcc
    mapfile -t names < <(awk '$1 == "node" || $1 == "may" { print $2 }' "$here/tools")
    # Few processes: a slow machine starts a hundred in a second.
    # shellcheck disable=SC2016
    chroot "$from" /bin/sh -c 'PATH=/usr/sbin:/usr/bin:/sbin:/bin; for t; do command -v "$t" || :; done' sh \
        "${names[@]}" >"$work/found"
    xargs -d '\n' chroot "$from" realpath -- <"$work/found" >"$work/real"
    while read -r path <&3 && read -r real <&4; do
        # mkfs.ext4 is mke2fs by another name, modprobe is kmod.
        [ "${real##*/}" = "${path##*/}" ] || echo "$path $real"
    done 3<"$work/found" 4<"$work/real" >"$work/aliases"
    sort -u "$work/real" >"$work/tools"
    # 123: one of them is a script or static, and ldd has nothing to say of it.
    xargs -d '\n' chroot "$from" ldd <"$work/tools" >"$work/ldd" 2>"$work/ldd.said" || [ $? -eq 123 ]
    ! grep 'not found' "$work/ldd" >&2 || die "$from lacks libraries of its own tools"
    awk '{ for (i = 1; i <= NF; i++) if ($i ~ /^\/.*\.so/) print $i }' "$work/ldd" | sort -u - "$work/tools" >"$work/files"
    # Opened by name, when a thread ends (mkfs.xfs).
    for libgcc in "$from"/usr/lib/*/libgcc_s.so.1 "$from"/usr/lib64/libgcc_s.so.1; do
        if [ -e "$libgcc" ]; then echo "${libgcc#"$from"}" >>"$work/files"; break; fi
    done
    # The golden node's /lib may be a folder where this tree has a link: each goes to where that leads.
    (cd "$from" && sed 's|^/*||' "$work/files" | xargs -d '\n' cp -L --parents --preserve=mode -t "$to")
    while read -r path real; do mkdir -p "$to/${path%/*}" && ln -sfn "$real" "$to/$path"; done <"$work/aliases"
}
