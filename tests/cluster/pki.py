"""Keys and certificates of one cluster, made with openssl: a certificate authority, the API server, the kubelet, the administrator.

Elliptic-curve keys cost milliseconds. Key usage and key identifiers are set because Python 3.13 and newer verify strictly
(VERIFY_X509_STRICT) and refuse certificates without them.
"""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

DAYS = "3650"
LOCAL = "IP:127.0.0.1,DNS:localhost"
SERVICE_NAMES = "IP:10.0.0.1,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"


def make_pki(folder: Path, openssl: str) -> None:
    """Writes ca, apiserver, kubelet, admin (.crt and .key) and the service-account key pair sa.key, sa.pub into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "sa.pub").exists():
        return
    _Maker(folder, openssl).run()


def kubeconfig_text(
    server: str, authority: Path, certificate: Path | None = None, key: Path | None = None, token: str = ""
) -> str:
    """A self-contained kubeconfig for one user, by client certificate or by bearer token."""
    user = (
        f"token: {token}"
        if certificate is None or key is None
        else f"client-certificate-data: {_base64(certificate)}, client-key-data: {_base64(key)}"
    )
    return f"""apiVersion: v1
kind: Config
clusters: [{{name: test, cluster: {{server: "{server}", certificate-authority-data: {_base64(authority)}}}}}]
users: [{{name: user, user: {{{user}}}}}]
contexts: [{{name: test, context: {{cluster: test, user: user, namespace: default}}}}]
current-context: test
"""


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


class _Maker:
    def __init__(self, folder: Path, openssl: str) -> None:
        self.folder, self.openssl = folder, openssl

    def run(self) -> None:
        self.key("ca")
        self.call(
            "req", "-x509", "-new", "-key", "ca.key", "-days", DAYS, "-subj", "/CN=test-ca", "-out", "ca.crt",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature",
        )  # fmt: skip
        self.signed(
            "apiserver", "/CN=kube-apiserver", f"extendedKeyUsage=serverAuth\nsubjectAltName={LOCAL},{SERVICE_NAMES}"
        )
        self.signed("kubelet", "/CN=kubelet", f"extendedKeyUsage=serverAuth\nsubjectAltName={LOCAL}")
        self.signed("admin", "/O=system:masters/CN=admin", "extendedKeyUsage=clientAuth")
        self.key("sa")
        self.call("ec", "-in", "sa.key", "-pubout", "-out", "sa.pub")

    def signed(self, name: str, subject: str, usage: str) -> None:
        extensions = "basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        (self.folder / f"{name}.ext").write_text(extensions + usage + "\n")
        self.key(name)
        self.call("req", "-new", "-key", f"{name}.key", "-subj", subject, "-out", f"{name}.csr")
        self.call(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", DAYS,
            "-out", f"{name}.crt", "-extfile", f"{name}.ext",
        )  # fmt: skip

    def key(self, name: str) -> None:
        self.call("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")

    def call(self, *arguments: str) -> None:
        subprocess.run([self.openssl, *arguments], cwd=self.folder, check=True, capture_output=True)
