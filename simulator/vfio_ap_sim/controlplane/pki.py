"""Keys and certificates of one control plane: three authorities, serving and client certificates.

Everything is EC P-256, which is made in a millisecond. Files are readable by their owner only. A folder that is
used again keeps its authorities and its service-account key, so that what etcd holds stays valid; the rest is
made anew.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

FRONT_PROXY_USER = "front-proxy-client"
"""Name in the certificate with which kube-apiserver speaks to extension API servers."""

_VALID = datetime.timedelta(days=365)
_SKEW = datetime.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, PEM files."""

    cert: Path
    key: Path


def write_private(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, readable by its owner from the first byte on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(data)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _name(user: str, groups: Sequence[str] = ()) -> x509.Name:
    """Return the subject from which Kubernetes reads a user (CN) and groups (O)."""
    return x509.Name(
        [
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups),
            x509.NameAttribute(NameOID.COMMON_NAME, user),
        ]
    )


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _VALID)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


class Authority:
    """A certificate authority in ``<folder>/<name>.crt`` and ``.key``, made when they are not there."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self.files = Pair(folder / f"{name}.crt", folder / f"{name}.key")
        if self.files.cert.exists() and self.files.key.exists():
            self._key = _load_key(self.files.key)
            self._cert = x509.load_pem_x509_certificate(self.files.cert.read_bytes())
            return
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(f"vfio-ap {name}")
        self._cert = (
            _builder(subject, subject, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        write_private(self.files.key, _key_pem(self._key))
        write_private(self.files.cert, self._cert.public_bytes(serialization.Encoding.PEM))

    def client(self, file: str, user: str, groups: Sequence[str] = ()) -> Pair:
        """Issue a client certificate for ``user`` in ``groups`` as ``<file>.crt`` and ``.key``."""
        return self._issue(file, _name(user, groups), (), [ExtendedKeyUsageOID.CLIENT_AUTH])

    def serving(self, file: str, hosts: Sequence[str]) -> Pair:
        """Issue a serving certificate for ``hosts`` (names and addresses).

        It is good as a client's too: etcd's gateway calls etcd with it.
        """
        return self._issue(
            file, _name(hosts[0]), hosts, [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        )

    def _issue(
        self, file: str, subject: x509.Name, hosts: Sequence[str], uses: list[x509.ObjectIdentifier]
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(subject, self._cert.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_alternative(h) for h in hosts]), critical=False
            )
        cert = builder.sign(self._key, hashes.SHA256())
        pair = Pair(self._folder / f"{file}.crt", self._folder / f"{file}.key")
        write_private(pair.key, _key_pem(key))
        write_private(pair.cert, cert.public_bytes(serialization.Encoding.PEM))
        return pair


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


class Pki:
    """All keys and certificates that the servers need, in ``folder``."""

    def __init__(self, folder: Path, service_ip: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.ca = Authority(folder, "ca")
        """Signs kube-apiserver's serving certificate and its clients'."""
        self.front_proxy_ca = Authority(folder, "front-proxy-ca")
        """Of its own: whoever holds one of its certificates may speak for any user."""
        self.etcd_ca = Authority(folder, "etcd-ca")
        """Of its own: no client of kube-apiserver gets into etcd, nor does another user of the machine."""

        loopback = ["localhost", "127.0.0.1"]
        names = ["kubernetes", *(f"kubernetes.default{tail}" for tail in ("", ".svc", ".svc.cluster.local"))]
        self.apiserver = self.ca.serving("apiserver", [*names, *loopback, service_ip])
        self.controller_manager = self.ca.serving("kube-controller-manager", loopback)
        self.scheduler = self.ca.serving("kube-scheduler", loopback)
        self.front_proxy = self.front_proxy_ca.client(FRONT_PROXY_USER, FRONT_PROXY_USER)
        self.etcd = self.etcd_ca.serving("etcd", loopback)
        self.etcd_client = self.etcd_ca.client("etcd-client", "kube-apiserver")
        self.service_account_key = folder / "service-account.key"
        self.service_account_public_key = folder / "service-account.pub"
        self._service_account()

    def _service_account(self) -> None:
        """Make the pair that signs service-account tokens, unless it is there."""
        if not self.service_account_key.exists():
            write_private(self.service_account_key, _key_pem(ec.generate_private_key(ec.SECP256R1())))
        public = _load_key(self.service_account_key).public_key()
        write_private(
            self.service_account_public_key,
            public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        )
