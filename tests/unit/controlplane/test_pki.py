import json
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vfio_ap_sim.controlplane.kubeconfig import write_kubeconfig
from vfio_ap_sim.controlplane.pki import Pki


@pytest.fixture
def pki(tmp_path):
    return Pki(tmp_path / "pki", "10.96.0.1")


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_every_certificate_is_signed_by_the_authority_it_should_be(pki):
    def signed(pair, authority):
        load(pair.cert).verify_directly_issued_by(load(authority.files.cert))

    signed(pki.apiserver, pki.ca)
    signed(pki.ca.client("a", "a"), pki.ca)
    signed(pki.front_proxy, pki.front_proxy_ca)
    signed(pki.etcd, pki.etcd_ca)
    signed(pki.etcd_client, pki.etcd_ca)
    with pytest.raises(ValueError, match="issuer"):
        signed(pki.front_proxy, pki.ca)


def test_the_api_server_answers_to_all_its_names(pki):
    names = load(pki.apiserver.cert).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", "kubernetes.default.svc"} <= set(names.get_values_for_type(x509.DNSName))
    assert {"127.0.0.1", "10.96.0.1"} == {str(ip) for ip in names.get_values_for_type(x509.IPAddress)}


def test_a_client_certificate_carries_user_and_groups_and_serves_nobody(pki):
    cert = load(pki.ca.client("node", "system:node:a", ["system:nodes", "more"]).cert)
    assert [n.value for n in cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["system:node:a"]
    assert {n.value for n in cert.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)} == {
        "system:nodes",
        "more",
    }
    uses = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_key_and_certificate_belong_together(pki):
    for pair in (pki.apiserver, pki.etcd, pki.front_proxy, pki.ca.client("a", "a")):
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(str(pair.cert), str(pair.key))
    private = load_pem_private_key(pki.service_account_key.read_bytes(), None)
    assert private.public_key() == load_pem_public_key(pki.service_account_public_key.read_bytes())


def test_nobody_else_reads_anything(pki, tmp_path):
    assert stat.S_IMODE((tmp_path / "pki").stat().st_mode) == 0o700
    assert {stat.S_IMODE(f.stat().st_mode) for f in (tmp_path / "pki").iterdir()} == {0o600}


def test_a_folder_used_again_keeps_what_tokens_and_clients_rest_on(tmp_path, pki):
    kept = [pki.ca.files.cert, pki.ca.files.key, pki.front_proxy_ca.files.cert, pki.etcd_ca.files.cert]
    kept.append(pki.service_account_key)
    before = [path.read_bytes() for path in kept]
    old = pki.apiserver.cert.read_bytes()
    again = Pki(tmp_path / "pki", "10.96.0.1")
    assert [path.read_bytes() for path in kept] == before
    assert again.apiserver.cert.read_bytes() != old
    load(again.apiserver.cert).verify_directly_issued_by(load(pki.ca.files.cert))


def test_a_kubeconfig_needs_no_file_beside_it(pki, tmp_path):
    client = pki.ca.client("a", "a")
    path = write_kubeconfig(tmp_path / "k", "https://127.0.0.1:1", pki.ca.files.cert, client)
    text = path.read_text()
    assert str(tmp_path) not in text
    assert json.loads(text)["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
