#!/bin/sh
# Install the Debian packages named as arguments that are missing. Says what it is
# about to install; does nothing, without network, when all are there.
missing=
for package in "$@"; do
    case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
    "install ok installed") ;;
    *) missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -eq 0 ]; then sudo=
elif command -v sudo > /dev/null; then sudo=sudo
else
    echo "missing packages:$missing" >&2
    echo "install them as root: apt-get install$missing" >&2
    exit 1
fi
echo "installing with apt-get:$missing"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -q > /dev/null || echo "apt-get update failed; trying with the lists that are here" >&2
# shellcheck disable=SC2086
$sudo apt-get install -q -y --no-install-recommends $missing > /tmp/phi-apt.$$ 2>&1 || {
    tail -n 20 /tmp/phi-apt.$$ >&2
    rm -f /tmp/phi-apt.$$
    echo "apt-get could not install:$missing" >&2
    exit 1
}
rm -f /tmp/phi-apt.$$
