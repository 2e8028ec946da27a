# shellcheck shell=sh disable=SC2154
# The firmware that modules ask for. To be sourced after common.sh; works in the folder $work, which the caller makes
# and removes.

# stage_firmware TREE ROOT: copies the files named on standard input, as MODULE FILE, from ROOT to TREE, in the
# kernel's order of search and from any of the forms in which distributions compress them. Files that ROOT lacks are
# listed in $work/missing-firmware.
stage_firmware() {
    mkdir -p "$1/lib/firmware"
    while read -r module file; do
        for found in "$2/lib/firmware/updates/$version/$file" "$2/lib/firmware/updates/$file" \
            "$2/lib/firmware/$version/$file" "$2/lib/firmware/$file" none; do
            for form in "$found" "$found.xz" "$found.zst"; do [ ! -f "$form" ] || break 2; done
        done
        if [ "$found" = none ]; then echo "$module $file"; continue; fi
        mkdir -p "$1/lib/firmware/$(dirname "$file")"
        cp -L "$form" "$1/lib/firmware/$file${form#"$found"}"
    done >"$work/missing-firmware"
    unpack_files "$1/lib/firmware"
}

# unpack_files FOLDER: makes compressed files plain.
unpack_files() {
    find "$1" -name '*.xz' -exec xz -dq {} + -o -name '*.zst' -exec zstd -dq --rm {} + -o -name '*.gz' -exec gzip -dq {} +
}
