#!/bin/sh
# Puts the official OpenAI client into .build/node, for the test of
# internal/serve/gateway. Running it again when it stands changes nothing.
set -eu

cd "$(dirname "$0")"
build=$(cd ../.. && pwd)/.build/node

fail() { echo "hack/openai/install.sh: $1" >&2; exit 1; }

command -v npm >/dev/null || fail "npm is missing. Install Node.js 20 or newer"

# The lock is copied last: it stands there only if everything before it worked.
if cmp -s package-lock.json "$build/installed-lock.json"; then
	exit 0
fi

mkdir -p "$build"
cp package.json package-lock.json "$build/"
(cd "$build" && npm ci --ignore-scripts --no-audit --no-fund --silent) ||
	fail "npm ci did not succeed in $build. Run it there without --silent to see why"
cp package-lock.json "$build/installed-lock.json"
