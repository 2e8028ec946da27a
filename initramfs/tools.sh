# shellcheck shell=sh disable=SC2154
# Programs of the golden node, with all that they need. To be sourced after common.sh; works in the folder $work,
# which the caller makes and removes.

# stage_tools TREE ROOT TOOL...: copies these programs of ROOT, and the libraries that they load. A TOOL that ends in
# a question mark may be missing.
stage_tools() {
    to=$1 from=$2
    shift 2
    for tool in "$@"; do
        path=$(chroot "$from" /bin/sh -c "PATH=/usr/sbin:/usr/bin:/sbin:/bin; command -v ${tool%\?}") || {
            [ "$tool" != "${tool%\?}" ] || die "$from has no $tool, which every node needs"
            continue
        }
        real=$(chroot "$from" realpath "$path")
        echo "$real"
        # mkfs.ext4 is mke2fs by another name, modprobe is kmod.
        [ "${real##*/}" = "${path##*/}" ] || ln -sfn "$real" "$to/$path"
    done >"$work/tools"
    sort -u -o "$work/tools" "$work/tools"
    # 123: one of them is a script or static, and ldd has nothing to say of it.
    xargs chroot "$from" ldd <"$work/tools" >"$work/ldd" 2>/dev/null || [ $? -eq 123 ]
    ! grep 'not found' "$work/ldd" >&2 || die "$from lacks libraries of its own tools"
    grep -oE '/[^ ]*\.so[^ ]*' "$work/ldd" | sort -u - "$work/tools" >"$work/files"
    # Opened by name, when a thread ends (mkfs.xfs).
    libgcc=$(chroot "$from" sh -c 'ls /usr/lib/*/libgcc_s.so.1 /usr/lib64/libgcc_s.so.1 2>/dev/null | head -n 1')
    [ -z "$libgcc" ] || echo "$libgcc" >>"$work/files"
    while read -r file; do
        mkdir -p "$to/${file%/*}"
        cp -L --preserve=mode "$from/$file" "$to/$file"
    done <"$work/files"
}
