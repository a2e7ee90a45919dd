# Before the first package: offers the packages of an earlier bootstrap to apt. $1 is the new root.
set -eu
# Some packages' scripts fail without it when manual pages are left out (openjdk among them).
mkdir -p "$1/usr/share/man/man1" "$1/var/cache/apt/archives/partial"
find "$STAITHE_CACHE" -maxdepth 1 -name '*.deb' -exec cp -t "$1/var/cache/apt/archives" {} +
