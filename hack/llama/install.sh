#!/bin/sh
# Puts the llama.cpp libraries that penstock-llama loads into .build/llama/lib.
# Running it again when they stand changes nothing.
set -eu

cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
build=$root/.build/llama
libs=node_modules/@node-llama-cpp/linux-x64/bins/linux-x64

fail() { echo "hack/llama/install.sh: $1" >&2; exit 1; }

case $(uname -sm) in
"Linux x86_64") ;;
*) fail "the prebuilt libraries are for Linux x86_64; this is $(uname -sm). Build llama.cpp v0.4.0 and set PENSTOCK_LLAMA_LIB to its folder" ;;
esac
command -v npm >/dev/null || fail "npm is missing. Install Node.js 20 or newer"

# The lock is copied last: it stands there only if everything before it worked.
if cmp -s package-lock.json "$build/installed-lock.json"; then
	exit 0
fi

mkdir -p "$build"
rm -rf "$build/lib" "$build/installed-lock.json"
cp package.json package-lock.json "$build/"
(cd "$build" && npm ci --ignore-scripts --no-audit --no-fund --silent) ||
	fail "npm ci did not succeed in $build. Run it there without --silent to see why"
[ -f "$build/$libs/libllama.v0.4.0.so" ] || fail "the package holds no $libs/libllama.v0.4.0.so. Its version must be 3.21.1"

mkdir "$build/lib"
for file in "$build/$libs"/*.so; do
	ln -s "../$libs/$(basename "$file")" "$build/lib/"
done
# The loader asks for names without a version.
ln -s libllama.v0.4.0.so "$build/lib/libllama.so"
ln -s libggml.v0.4.0.so "$build/lib/libggml.so"
cp package-lock.json "$build/installed-lock.json"
