# Bootstraps one image; started in namespaces of its own, as their first process, so that its mounts
# and all its children end with it. Its arguments are mmdebstrap's options and sources, its settings
# are STAITHE_* variables.
exec 2>&1
umask 022
work=$STAITHE_WORK
if [ -n "$STAITHE_MEMORY" ]; then
    mount -t tmpfs -o "size=$STAITHE_MEMORY,mode=0700" staithe-stack "$work"
fi
mkdir "$work/tmp"
rm -rf "$STAITHE_CACHE.new"
mkdir -p "$STAITHE_CACHE" "$STAITHE_CACHE.new"

TMPDIR=$work/tmp mmdebstrap "$@"

dpkg-query --admindir="$work/root/var/lib/dpkg" --show \
    --showformat='${Package} ${Version}\n' > "$STAITHE_OUT.packages"
# mmdebstrap could write the tar, but would set all times after SOURCE_DATE_EPOCH to it, and Python
# takes bytecode for stale whose source has another time than when it was compiled.
tar --create --file "$STAITHE_OUT" --directory "$work/root" --sort=name --numeric-owner \
    --one-file-system --exclude='./dev/*' .

# apt trusts a file of the right size in its cache: it must not be one that a power cut hollowed out.
sync --file-system "$STAITHE_CACHE.new"
rm -rf "$STAITHE_CACHE"
mv "$STAITHE_CACHE.new" "$STAITHE_CACHE"
