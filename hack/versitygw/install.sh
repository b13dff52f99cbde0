#!/usr/bin/env bash
# Builds versitygw, the S3 server that the tests of internal/blob/s3 run
# against, into .build/versitygw. It is built from a Go module of its own, so
# that its dependencies don't enter ours. Running it again when it stands
# changes nothing.
set -euo pipefail

usage="usage: hack/versitygw/install.sh

Builds .build/versitygw/versitygw from the version in hack/versitygw/go.mod.
Needs Go and, the first time, the module proxy; takes minutes once."

case "${1-}" in
"") ;;
-h | --help) echo "$usage"; exit 0 ;;
*) echo "$usage" >&2; exit 2 ;;
esac

cd "$(dirname "$0")"
build=$(cd ../.. && pwd)/.build/versitygw

fail() { echo "hack/versitygw/install.sh: $1" >&2; exit 1; }

command -v go >/dev/null || fail "go is missing. Install the version that go.mod names"

# The sums are copied last: they stand there only if everything before worked.
if cmp -s go.sum "$build/installed.sum" && [ -x "$build/versitygw" ]; then
	exit 0
fi

mkdir -p "$build"
rm -f "$build/installed.sum"
CGO_ENABLED=0 go build -mod=readonly -trimpath -o "$build/versitygw.new" github.com/versity/versitygw/cmd/versitygw ||
	fail "the build did not succeed. Run 'go mod download' in hack/versitygw to see whether the module proxy answers"
# A test that runs the old one at this moment keeps it.
mv "$build/versitygw.new" "$build/versitygw"
cp go.sum "$build/installed.sum"
