"""Signed statements of where the chain ended, kept outside the database, so that cutting its tail is found.

Made by the hub now and then and by every export; read by `verify.py`. Ed25519 (RFC 8032).
"""

import json
import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit.chain import Head
from audit.errors import AuditBroken, AuditUnavailable

DOMAIN = b"shadowdesk.audit.checkpoint.v1\0"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One signature over number and hash of the head at a time; the key is the raw 32 bytes of the public one."""

    head: Head
    at: datetime
    public_key: bytes
    signature: bytes

    def is_valid(self) -> bool:
        """Whether the signature is this key's over this head; whose key it is, is the reader's to know."""
        try:
            key = Ed25519PublicKey.from_public_bytes(self.public_key)
            key.verify(self.signature, _message(self.head, self.at))
        except (InvalidSignature, ValueError):
            return False
        return True

    def to_json(self) -> dict[str, object]:
        """Number, time and hexadecimal texts."""
        return {
            "seq": self.head.seq,
            "hash": self.head.hash.hex(),
            "at": _time(self.at),
            "public_key": self.public_key.hex(),
            "signature": self.signature.hex(),
        }

    @classmethod
    def from_json(cls, value: object) -> "Checkpoint":
        """The inverse of `to_json`; AuditBroken when it is anything else."""
        try:
            if not isinstance(value, dict) or type(value["seq"]) is not int:
                raise ValueError("not a checkpoint")
            if not 0 <= value["seq"] < 2**63:
                raise ValueError("not a number of the chain")
            return cls(
                head=Head(seq=value["seq"], hash=bytes.fromhex(value["hash"])),
                at=datetime.fromisoformat(value["at"]),
                public_key=bytes.fromhex(value["public_key"]),
                signature=bytes.fromhex(value["signature"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise AuditBroken(0, "a checkpoint is not readable") from error


class Checkpoints:
    """The key and the checkpoints of one directory: `checkpoint.key` (0600) and `checkpoints.jsonl`."""

    def __init__(self, directory: Path) -> None:
        """Makes the directory (0700) and the key on first use; AuditUnavailable if they cannot be used."""
        self._key_file = directory / "checkpoint.key"
        self._file = directory / "checkpoints.jsonl"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._key_file.exists():
                _write_key(self._key_file)
            if os.name == "posix" and stat.S_IMODE(self._key_file.stat().st_mode) & 0o077:
                raise PermissionError("others may read the key")
            self._key = Ed25519PrivateKey.from_private_bytes(self._key_file.read_bytes())
        except (OSError, ValueError) as error:
            raise _unusable(self._key_file, error) from error

    @property
    def public_key(self) -> bytes:
        """The raw 32 bytes that readers of an export should know from elsewhere."""
        return self._key.public_key().public_bytes_raw()

    def sign(self, head: Head) -> Checkpoint:
        """Signs this head and appends the checkpoint to the file, on disk when this returns."""
        at = datetime.now(UTC)
        signature = self._key.sign(_message(head, at))
        checkpoint = Checkpoint(head=head, at=at, public_key=self.public_key, signature=signature)
        line = json.dumps(checkpoint.to_json()).encode() + b"\n"
        try:
            descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _unusable(self._file, error) from error
        return checkpoint

    def sign_if_due(self, head: Head, *, every: int) -> Checkpoint | None:
        """Signs when at least `every` events came since the last checkpoint."""
        last = max((checkpoint.head.seq for checkpoint in self.all()), default=0)
        return self.sign(head) if head.seq - last >= every else None

    def all(self) -> list[Checkpoint]:
        """The checkpoints in the order they were made; AuditBroken when the file is not what was written."""
        try:
            lines = self._file.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _unusable(self._file, error) from error
        return [read_checkpoint(line) for line in lines]


def read_checkpoint(line: bytes) -> Checkpoint:
    """One line of the file; AuditBroken when it is not a checkpoint."""
    try:
        value = json.loads(line)
    except ValueError as error:
        raise AuditBroken(0, "a checkpoint is not readable") from error
    return Checkpoint.from_json(value)


def _message(head: Head, at: datetime) -> bytes:
    return DOMAIN + head.seq.to_bytes(8, "big") + head.hash + _time(at).encode()


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _write_key(path: Path) -> None:
    """Complete or not there: two processes may start at once, and the first one's key stays."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(Ed25519PrivateKey.generate().private_bytes_raw())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)
        except FileExistsError:
            return
    finally:
        fresh.unlink()


def _unusable(path: Path, error: Exception) -> AuditUnavailable:
    return AuditUnavailable(
        f"The checkpoint file {path.name} cannot be used ({type(error).__name__}).",
        "No checkpoint was signed.",
        "Let the server's own user, and nobody else, read and write the audit directory.",
    )
