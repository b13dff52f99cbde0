#!/bin/sh
# Puts htmx and uPlot where internal/webui embeds them, and the driver of its
# browser test into .build/web. Running it again when they stand changes
# nothing. A build without them works too: pages then show plain plots and have
# to be reloaded by hand.
set -eu

cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
build=$root/.build/web
vendor=$root/internal/webui/assets/vendor

fail() { echo "hack/web/install.sh: $1" >&2; exit 1; }

command -v npm >/dev/null || fail "npm is missing. Install Node.js 20 or newer"

# The lock is copied last: it stands there only if everything before it worked.
if cmp -s package-lock.json "$build/installed-lock.json" && [ -f "$vendor/htmx.min.js" ]; then
	exit 0
fi

mkdir -p "$build" "$vendor"
rm -f "$build/installed-lock.json"
cp package.json package-lock.json "$build/"
(cd "$build" && npm ci --ignore-scripts --no-audit --no-fund --silent) ||
	fail "npm ci did not succeed in $build. Run it there without --silent to see why"
modules=$build/node_modules
cp "$modules/uplot/dist/uPlot.iife.min.js" "$modules/uplot/dist/uPlot.min.css" "$vendor/"
cp "$modules/htmx.org/dist/htmx.min.js" "$vendor/"
cp package-lock.json "$build/installed-lock.json"
