# shellcheck shell=sh disable=SC2034
# What the packages share; sourced in the top directory.
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
architecture=$(dpkg --print-architecture)
maintainer='The ka authors <ka@localhost.localdomain>'
# The packages of one source are the same whenever they are built.
date=$(LC_ALL=C date -uR -d "@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}")
# A program runs with the C library that it was built with, and with later ones.
libc=$(ldd --version | sed -n '1s/.* //p')
