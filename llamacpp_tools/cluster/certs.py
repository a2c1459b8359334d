"""A set of certificates for a cluster: an authority of its own, and one key each for scheduler, worker and client."""

from __future__ import annotations

import datetime
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llamacpp_tools.cluster.security import ROLES
from llamacpp_tools.errors import BadInput

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

DAYS = 365
_SKEW = datetime.timedelta(minutes=5)


@dataclass(frozen=True)
class Set:
    """What was written: the folder, its files, and when the certificates end."""

    folder: Path
    files: tuple[str, ...]
    until: datetime.datetime


def make(folder: Path, days: int = DAYS) -> Set:
    """Write a new set into `folder`: `ca.pem`, and `ROLE.pem` with `ROLE-key.pem` for each role.

    The authority's own key is thrown away: nobody can add to a set, and a new one is made as easily.

    Raises:
        BadInput: the folder is not empty, or cannot be written.
    """
    now = datetime.datetime.now(datetime.UTC)
    until = now + datetime.timedelta(days=days)
    texts = _texts(now - _SKEW, until)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if any(folder.iterdir()):
            raise BadInput(
                f"{folder} is not empty, and a set of certificates is never overwritten: name a new folder"
            )
        for name, text in texts.items():
            _write(folder / name, text, 0o600 if name.endswith("-key.pem") else 0o644)
    except OSError as error:
        raise BadInput(f"the certificates cannot be written to {folder}: {error.strerror}") from None
    return Set(folder, tuple(texts), until)


def _texts(since: datetime.datetime, until: datetime.datetime) -> dict[str, bytes]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def pem(key: EllipticCurvePrivateKey) -> bytes:
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
        return key.private_bytes(*form, serialization.NoEncryption())

    # A name of its own, so that a certificate of another set is not even tried with this authority.
    name = f"llt cluster {secrets.token_hex(4)}"
    ca_key = ec.generate_private_key(ec.SECP256R1())
    authority = _signed(name, ca_key, name, ca_key, since, until, authority=True)
    texts = {"ca.pem": authority.public_bytes(serialization.Encoding.PEM)}
    for role in ROLES:
        key = ec.generate_private_key(ec.SECP256R1())
        signed: x509.Certificate = _signed(f"llt {role}", key, name, ca_key, since, until, authority=False)
        texts[f"{role}.pem"] = signed.public_bytes(serialization.Encoding.PEM)
        texts[f"{role}-key.pem"] = pem(key)
    return texts


def _signed(
    subject: str,
    key: EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: EllipticCurvePrivateKey,
    since: datetime.datetime,
    until: datetime.datetime,
    *,
    authority: bool,
) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    usage = x509.KeyUsage(
        digital_signature=not authority, key_cert_sign=authority, crl_sign=authority, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    built = (
        x509.CertificateBuilder()
        .subject_name(named(subject))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(
            x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True
        )
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    if not authority:
        # Boxes connect to each other both ways.
        both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        built = built.add_extension(both, critical=False)
    return built.sign(issuer_key, hashes.SHA256())


def _write(path: Path, text: bytes, mode: int) -> None:
    # Never readable by others, not even for a moment.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
