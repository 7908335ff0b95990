#!/usr/bin/env bash
# Builds the images with Debian's buildah, without a daemon, a registry or privileges beyond root's, and tries them out.
#
#   images/build-test.sh operator        # or probe, or both (default)
#
# No base image is pulled: debootstrap makes one from Debian's packages, with its own Python. What this proves is that the
# Containerfiles build and the images run as they say; what it does not is the bases that they name by default.
#
#   WORK           folder for storage and the base (default: .cache/images, kept: a second run is quicker)
#   SUITE          Debian's release for the base (default: bookworm)
#   ORRERY_CACHE   assets of builtin: sources (default: ~/.cache/orrery); where they are, a probe measures for real
#   BUILD_VOLUMES  further files and folders that builds see, read-only, at the same path: pip's configuration, a mirror
set -euo pipefail
cd "$(dirname "$0")/.."
work=${WORK:-$PWD/.cache/images}
suite=${SUITE:-bookworm}
base=localhost/orrery-base:$suite
volumes=(--volume /etc/ssl/certs:/etc/ssl/certs:ro)
for path in ${BUILD_VOLUMES:-}; do volumes+=(--volume "$path:$path:ro"); done

for tool in buildah debootstrap; do
  command -v "$tool" > /dev/null || { echo "$tool is missing: apt-get install buildah debootstrap" >&2; exit 2; }
done
mkdir -p "$work"
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs TMPDIR=$work
in_storage() { buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"; }

make_base() {
  in_storage inspect --type image "$base" > /dev/null 2>&1 && return
  if [ ! -e "$work/base.tar" ]; then
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates "$suite" "$work/base" > "$work/debootstrap.log"
    tar -C "$work/base" --exclude=./var/cache/apt --exclude=./var/lib/apt/lists -cf "$work/base.tar" .
    rm -rf "$work/base"
  fi
  local container
  container=$(in_storage from scratch)
  in_storage add --quiet "$container" "$work/base.tar" /
  in_storage commit --quiet --rm "$container" "$base"
}

# try COMMAND...: runs it in the container that is tried, as the image's own user
try() { in_storage run --isolation chroot "${mounts[@]}" "$container" -- "$@"; }
mounts=()

# One load of MiniLM, two measurements on CPU: what a Job's container is given, and where its assets are mounted.
spec='{"model": {"name": "minilm", "architecture": "Encoder", "source": {"builtin": {"name": "all-minilm-l6-v2"}}},
  "task": {"type": "Classification", "dataset": {"source": {"builtin": {"name": "bigbench/intent_recognition"}}}},
  "accelerator": "cpu", "deadlineSeconds": 600, "trials": [
    {"name": "lora", "strategy": "LoRA", "fidelity": {"trainingExamples": 16, "evaluationItems": 50}},
    {"name": "full", "strategy": "FullFineTuning", "fidelity": {"trainingExamples": 16, "evaluationItems": 50}}]}'

expect() { # expect WHAT COMMAND...
  local what=$1
  shift
  if "$@" > "$work/out" 2>&1; then echo "ok: $what"; else echo "FAILED: $what"; cat "$work/out"; exit 1; fi
}

refuse() { # refuse WHAT COMMAND...
  local what=$1
  shift
  if "$@" > "$work/said" 2>&1; then echo "FAILED: $what"; cat "$work/said"; exit 1; else echo "ok: $what"; fi
}

build() {
  local name=$1 image=localhost/orrery-$1:test began=$SECONDS
  in_storage bud --layers --isolation chroot --network host --pull-never "${volumes[@]}" --build-arg "BASE=$base" \
    --file "images/$name/Containerfile" --tag "$image" . > "$work/$name.log" 2>&1 \
    || { tail -40 "$work/$name.log"; echo "FAILED: building $name; the log is $work/$name.log"; exit 1; }
  echo "ok: $name builds, $((SECONDS - began)) s"
  local python=/opt/orrery/bin/python
  container=$(in_storage from --pull-never "$image")
  expect "$name says its version" try orrery --version
  expect "$name is not root" try "$python" -c 'import os; assert os.getuid() == 65532 == os.getgid()'
  expect "$name has no pip" try "$python" -c 'import importlib.util as u; assert not u.find_spec("pip")'
  expect "$name cannot write its own code" try "$python" -c \
    'import os, orrery.api as a; assert not os.access(a.__path__[0], os.W_OK)'
  if [ "$name" = operator ]; then
    expect "operator has no torch" try "$python" -c \
      'import importlib.util as u; assert not any(map(u.find_spec, ("torch", "transformers", "numba")))'
    expect "operator imports its controller" try "$python" -c 'import orrery.controller.main'
    refuse "operator refuses to start without a probe image" try orrery operator
    expect "and says what to set" grep -q "ORRERY_PROBE_IMAGE is not set" "$work/said"
  else
    expect "probe has no Kubernetes client" try "$python" -c \
      'import importlib.util as u; assert not any(map(u.find_spec, ("kubernetes", "kopf")))'
    expect "probe trains a step" try "$python" -c \
      'import torch, peft, transformers; w = torch.ones(2, requires_grad=True); (w * w).sum().backward(); assert w.grad.sum() == 4'
    expect "probe explains itself" try orrery probe --help
    local assets=${ORRERY_CACHE:-$HOME/.cache/orrery}
    if [ -d "$assets/builtin" ]; then
      # the image's user reads the assets; a home folder may be closed to it
      mounts=(--volume "$assets:/assets:ro")
      expect "probe measures" try env ORRERY_CACHE=/assets ORRERY_PROBE_SPEC="$spec" orrery probe
      expect "and its report says so" python3 -c '
import json, sys
report = json.loads(sys.argv[1])
assert report["complete"] and len(sys.argv[1].encode()) <= 4096, report
assert {t["outcome"] for t in report["trials"]} == {"Measured"}, report
print([(t["name"], t["score"]) for t in report["trials"]])' "$(tail -1 "$work/out")"
      cat "$work/out"
    else
      echo "skipped: probe measures (no assets in $assets: orrery assets fetch)"
    fi
  fi
  in_storage rm "$container" > /dev/null
}

make_base
echo "ok: base of Debian $suite"
if [ $# -eq 0 ]; then set -- operator probe; fi
for name in "$@"; do build "$name"; done
