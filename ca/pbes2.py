"""Private keys encrypted at rest: PKCS#8 EncryptedPrivateKeyInfo with PBES2, scrypt and AES-256-CBC.

``cryptography`` reads this form but writes PKCS#8 with PBKDF2 only, at a fixed count that suits no human passphrase.
So the outer ASN.1 is written here, from RFC 8018 (PBES2), RFC 7914 section 7 (scrypt's parameters) and RFC 3565
(AES-CBC); the result opens with ``openssl pkey`` too, so that no key is ever locked inside this program.

A ciphertext that was tampered with is not found out here (CBC has no tag) but by the caller, which compares the key
with its certificate.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from ca.errors import PassphraseError

# About 0.3 s and 16 MB a guess. More memory a guess would be better still, but OpenSSL's command line refuses to read
# keys that need more than 32 MB; so the work goes into p.
SCRYPT_N: Final = 1 << 14
SCRYPT_R: Final = 8
SCRYPT_P: Final = 8

_PEM_HEAD: Final = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
_PEM_FOOT: Final = b"-----END ENCRYPTED PRIVATE KEY-----\n"
_OID_PBES2: Final = bytes.fromhex("06092a864886f70d01050d")
_OID_SCRYPT: Final = bytes.fromhex("06092b06010401da47040b")
_OID_AES256_CBC: Final = bytes.fromhex("060960864801650304012a")
_INTEGER: Final = 0x02
_OCTET_STRING: Final = 0x04
_SEQUENCE: Final = 0x30


def _tlv(tag: int, *contents: bytes) -> bytes:
    """One DER element of definite length."""
    body = b"".join(contents)
    size = len(body)
    if size < 0x80:
        return bytes([tag, size]) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + body


def _integer(value: int) -> bytes:
    return _tlv(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def encrypt_private_key(
    key: ec.EllipticCurvePrivateKey, passphrase: bytes, random_bytes: Callable[[int], bytes]
) -> bytes:
    """PEM of the encrypted key; ``random_bytes`` gives salt and IV."""
    if not passphrase:
        raise PassphraseError("empty passphrase (private keys are never stored in the clear)")
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    salt, iv = random_bytes(16), random_bytes(16)
    secret = Scrypt(salt=salt, length=32, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P).derive(passphrase)
    padder = padding.PKCS7(algorithms.AES.block_size).padder()
    encryptor = Cipher(algorithms.AES(secret), modes.CBC(iv)).encryptor()
    sealed = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    scrypt_parameters = _tlv(
        _SEQUENCE, _tlv(_OCTET_STRING, salt), _integer(SCRYPT_N), _integer(SCRYPT_R), _integer(SCRYPT_P)
    )
    key_derivation = _tlv(_SEQUENCE, _OID_SCRYPT, scrypt_parameters)
    encryption_scheme = _tlv(_SEQUENCE, _OID_AES256_CBC, _tlv(_OCTET_STRING, iv))
    algorithm = _tlv(_SEQUENCE, _OID_PBES2, _tlv(_SEQUENCE, key_derivation, encryption_scheme))
    body = base64.b64encode(_tlv(_SEQUENCE, algorithm, _tlv(_OCTET_STRING, sealed)))
    lines = [body[start : start + 64] + b"\n" for start in range(0, len(body), 64)]
    return _PEM_HEAD + b"".join(lines) + _PEM_FOOT


def decrypt_private_key(pem: bytes, passphrase: bytes) -> ec.EllipticCurvePrivateKey:
    """The key again; PassphraseError if the passphrase is wrong, or the bytes are damaged or were never encrypted."""
    if not pem.startswith(_PEM_HEAD):
        raise PassphraseError("not an encrypted PEM private key")
    try:
        key = load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError) as problem:
        raise PassphraseError("the passphrase does not open the key, or the key is damaged") from problem
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PassphraseError(f"key is {type(key).__name__}, not an elliptic curve key")
    return key
