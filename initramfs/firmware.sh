# shellcheck shell=bash disable=SC2154
# The firmware that modules ask for. To be sourced after common.sh; works in the folder $work, which the caller makes
# and removes.

# stage_firmware TREE ROOT: copies the files named on standard input, as MODULE FILE, from ROOT to TREE, in the
# kernel's order of search and from any of the forms in which distributions compress them. Files that ROOT lacks are
# listed in $work/missing-firmware.
stage_firmware() {
    local module file folder form
    mkdir -p "$1/lib/firmware"
    while read -r module file; do
        for folder in "updates/$version" updates "$version" .; do
            for form in '' .xz .zst; do
                if [ -f "$2/lib/firmware/$folder/$file$form" ]; then
                    printf '%s\0' "./$file$form" >>"$work/firmware-of-${folder//\//_}"
                    continue 3
                fi
            done
        done
        echo "$module $file"
    done >"$work/missing-firmware"
    for folder in "updates/$version" updates "$version" .; do
        [ ! -e "$work/firmware-of-${folder//\//_}" ] || (cd "$2/lib/firmware/$folder" &&
            xargs -0 cp -L --parents -t "$1/lib/firmware" <"$work/firmware-of-${folder//\//_}")
    done
    unpack_files "$1/lib/firmware"
}

# unpack_files FOLDER: makes compressed files plain.
unpack_files() {
    find "$1" -name '*.xz' -exec xz -dq {} +
    find "$1" -name '*.zst' -exec zstd -dq --rm {} +
    find "$1" -name '*.gz' -exec gzip -dq {} +
}
