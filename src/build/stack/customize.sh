# After the last package: keeps the packages for the next time, adds what makes a stack of the
# system, removes what differs from run to run. $1 is the new root.
set -eu
root=$1

# Of the packages kept from earlier times, only those that are still current.
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get --quiet=2 --yes autoclean > /dev/null
find "$root/var/cache/apt/archives" -maxdepth 1 -name '*.deb' \
    -exec cp -t "$STAITHE_CACHE.new" {} +

echo "$STAITHE_USER:x:$STAITHE_UID:$STAITHE_GID::$STAITHE_HOME:/bin/bash" >> "$root/etc/passwd"
echo "$STAITHE_USER:x:$STAITHE_GID:" >> "$root/etc/group"
echo "$STAITHE_USER:!:1::::::" >> "$root/etc/shadow"
echo "$STAITHE_USER:!::" >> "$root/etc/gshadow"
for directory in "$STAITHE_HOME" $STAITHE_USER_DIRECTORIES; do
    install -d -o "$STAITHE_UID" -g "$STAITHE_GID" -m 0755 "$root$directory"
done
for directory in $STAITHE_ROOT_DIRECTORIES; do
    install -d -m 0755 "$root$directory"
done

# The host's own names and mirrors' options are of no use in a container.
: > "$root/etc/machine-id"
: > "$root/etc/resolv.conf"
echo localhost > "$root/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' > "$root/etc/hosts"
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap"
printf 'APT::Install-Recommends "false";\nAcquire::Languages "none";\n' \
    > "$root/etc/apt/apt.conf.d/99staithe"

for path in $STAITHE_REMOVE; do
    rm -rf "${root:?}$path"
done
rm -rf "$root/usr/share/man"
rm -f "$root/var/cache/ldconfig/aux-cache" "$root"/var/cache/debconf/*-old \
    "$root"/var/lib/dpkg/*-old "$root/var/lib/apt/extended_states"
find "$root/var/log" -type f -delete
