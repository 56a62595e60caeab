"""The payload policy that settings describe: the same for workers, reconciler, API and commands,
since each of them writes values into the tables.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import TypeVar

from tracker.core.payloads import PayloadPolicy, Treatment
from tracker.encryption import Keyring
from tracker.errors import ConfigurationError

T = TypeVar("T")


def described_policy(
    *, default: Treatment | None = None, path: str | None = None, keys: str | None = None
) -> PayloadPolicy:
    """The policy of `FLOWTRAIL_PAYLOAD_DEFAULT`, `FLOWTRAIL_PAYLOAD_POLICY` and
    `FLOWTRAIL_ENCRYPTION_KEYS`.

    Args:
        default: Treatment of every value.
        path: `module:attribute` of a `PayloadPolicy`, instead.
        keys: Text of a `Keyring`.

    Raises:
        ConfigurationError: They contradict each other, or one is malformed.
    """
    if path is not None and default is not None:
        raise ConfigurationError(
            "FLOWTRAIL_PAYLOAD_POLICY and FLOWTRAIL_PAYLOAD_DEFAULT are both set: give the policy "
            "its default, and unset the latter"
        )
    policy = PayloadPolicy(default) if path is None else loaded(path, PayloadPolicy)
    if keys is None:
        return policy
    ring = Keyring.from_text(keys)
    if policy.sealer not in (None, ring):
        raise ConfigurationError(
            f"{path} has other encryption keys than FLOWTRAIL_ENCRYPTION_KEYS: give one of them"
        )
    return replace(policy, sealer=ring)


def loaded(path: str, kind: type[T]) -> T:
    """Import an object by `module:attribute`.

    Raises:
        ConfigurationError: It names nothing, or something else than a `kind`.
    """
    module_name, colon, attribute = path.partition(":")
    if not colon:
        raise ConfigurationError(f"expected a {kind.__name__} as module:attribute, got {path!r}")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"cannot load the {kind.__name__} {path!r}: {error}") from error
    if not isinstance(found, kind):
        raise ConfigurationError(
            f"expected {path!r} to be a {kind.__name__}, got {type(found).__name__}"
        )
    return found
