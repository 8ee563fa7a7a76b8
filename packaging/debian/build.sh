#!/usr/bin/env bash
# Builds the Debian package of what is committed: hastfs_VERSION_ARCH.deb in dist/, or in the folder that is named.
#
# usage: packaging/debian/build.sh [FOLDER]
#
# Run it on the release that the package is for. As root it installs the packages it needs for building.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
mkdir -p "${1:-$top/dist}"
out=$(cd "${1:-$top/dist}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() { printf '%s\n' "build: $*" >&2; exit 1; }

needed=(dpkg-dev $(sed -n '/^Build-Depends:/,/^[^ B]/{/^Rules/d; s/^Build-Depends://; s/-compat//; s/(.*)//; s/,//; p}' "$here/control"))
if ! { command -v dpkg-checkbuilddeps && dpkg-checkbuilddeps "$here/control"; } >/dev/null 2>&1; then
    [ "$(id -u)" = 0 ] || fail "install these packages first: ${needed[*]}"
    apt-get install -y -q --no-install-recommends "${needed[@]}"
fi

tree=$work/hastfs
mkdir "$tree"
git -C "$top" archive HEAD | tar -x -C "$tree"
cp -r "$here" "$tree/debian"
rm -f "$tree"/debian/*.sh

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$top/hastfs/__init__.py")
date=$(git -C "$top" log -1 --format=%cD)
cat >"$tree/debian/changelog" <<END
hastfs ($version) unstable; urgency=medium

  * See CHANGELOG.md.

 -- The HastFS authors <hastfs@localhost>  $date
END

(cd "$tree" && dpkg-buildpackage -b -us -uc)
cp "$work"/hastfs_*.deb "$out/"
ls -l "$out"/hastfs_"$version"_*.deb
