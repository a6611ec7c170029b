#!/bin/sh
# The steps of the container images. Dockerfile and itk-ncr.def call them one by one; where there is no engine, `try` runs
# all of them:
#
#   sh containers/build.sh wheel WHEELS             build the wheel of this checkout, without CUDA
#   sh containers/build.sh install PREFIX WHEELS    make an environment of it, with torch's CPU build
#   sh containers/build.sh check PREFIX             register a small pair with it
#   sh containers/build.sh try FOLDER               all three, in a new folder
#
# PYTHON=python3.12 takes another interpreter, TORCH_INDEX=URL another package index for torch (empty: the usual one).
set -eu
here="$(cd "$(dirname "$0")/.." && pwd)"
python="${PYTHON:-python3}"
torch_index="${TORCH_INDEX-https://download.pytorch.org/whl/cpu}"

wheel() {
  "$python" -m pip wheel --quiet --no-deps -C cmake.define.NCR_CUDA=OFF -w "$1" "$here"
}

install() {
  prefix="$1"
  "$python" -m venv "$prefix"
  # torch first, and a CPU build: that of the usual index has CUDA, 3 GB more.
  torch="$(grep '^torch==' "$here/constraints.txt")"
  if [ -n "$torch_index" ]; then
    from_pip --extra-index-url "$torch_index" "$torch+cpu"
  else
    from_pip "$torch"
  fi
  from_pip "$(ls "$2"/itk_ncr-*.whl)[report,nibabel]"
}

from_pip() {
  "$prefix/bin/python" -m pip install --quiet --no-cache-dir -c "$here/constraints.txt" "$@"
}

check() {
  folder="$(mktemp -d)"
  prefix="$(cd "$1" && pwd)"
  cd "$folder"
  "$prefix/bin/itk-ncr" info | grep '^kernels .*compiled: '
  "$prefix/bin/python" - << 'PAIR'
import numpy, SimpleITK
y, x = numpy.mgrid[-1:1:40j, -1:1:48j]
for name, shift in (("fixed", 0), ("moving", .1)):
    image = 100 * ((x - shift) ** 2 + y**2 < .5) * (1 + .3 * y)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(image.astype("float32")), name + ".nrrd")
PAIR
  "$prefix/bin/itk-ncr" register fixed.nrrd moving.nrrd -o out --threads 1 --quiet
  test -s out/report.html
  rm -r "$folder"
}

try() {
  mkdir "$1"
  wheel "$1/wheels"
  install "$1/environment" "$1/wheels"
  check "$1/environment"
}

step="${1:-}"
case "$step" in
  wheel | install | check | try)
    shift
    "$step" "$@"
    ;;
  *)
    sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
