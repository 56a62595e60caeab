"""The public keys of an identity provider (JWKS, RFC 7517), fetched and kept.

They rotate: a token signed with a key that is not known yet makes us look again, seldom enough that
made-up key ids do not turn us against the provider. While it is away, the keys we have stay good.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt

from tracker.errors import NotAuthenticated, TransientError

logger = logging.getLogger(__name__)

FRESH_SECONDS = 300.0
"""After which the set is fetched again with the next token."""
REFETCH_SECONDS = 10.0
"""Between two fetches at least, whatever they gave."""
FETCH_WITHIN = 5.0
BYTES_MAX = 1024 * 1024


class KeySet:
    """The keys at an address.

    Args:
        url: Of the set.
        transport: In place of the network.
    """

    def __init__(
        self,
        url: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._transport = transport
        self._clock = clock
        self._lock = asyncio.Lock()
        self._keys: list[jwt.PyJWK] = []
        self._fetched_at = -FRESH_SECONDS
        self._tried_at = -FRESH_SECONDS

    async def key_for(self, key_id: str | None) -> jwt.PyJWK:
        """The key of that id; without an id, the only one.

        Raises:
            NotAuthenticated: The provider has no such key.
            TransientError: No key is known, and the provider does not answer.
        """
        if self._clock() - self._fetched_at >= FRESH_SECONDS or self._find(key_id) is None:
            await self._refresh(key_id)
        found = self._find(key_id)
        if found is not None:
            return found
        if not self._keys:
            raise TransientError("the keys that sign tokens cannot be fetched now")
        raise NotAuthenticated("the token is signed with a key that its issuer does not publish")

    def _find(self, key_id: str | None) -> jwt.PyJWK | None:
        if key_id is None:
            return self._keys[0] if len(self._keys) == 1 else None
        return next((key for key in self._keys if key.key_id == key_id), None)

    async def _refresh(self, key_id: str | None) -> None:
        async with self._lock:
            now = self._clock()
            fresh = now - self._fetched_at < FRESH_SECONDS and self._find(key_id) is not None
            if fresh or now - self._tried_at < REFETCH_SECONDS:
                return
            self._tried_at = now
            try:
                self._keys = _signing_keys(await self._fetch())
            except (httpx.HTTPError, TimeoutError, ValueError, jwt.PyJWTError) as error:
                logger.warning(
                    "cannot fetch the key set %s: %s",
                    self._url,
                    error or type(error).__name__,
                    extra={"event": "key_set.unavailable"},
                )
                return
            self._fetched_at = now

    async def _fetch(self) -> Any:
        async with (
            asyncio.timeout(FETCH_WITHIN),
            httpx.AsyncClient(transport=self._transport, timeout=FETCH_WITHIN) as client,
            client.stream("GET", self._url, headers={"Accept": "application/json"}) as response,
        ):
            response.raise_for_status()
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > BYTES_MAX:
                    raise ValueError(f"it has more than {BYTES_MAX} bytes")
        return httpx.Response(200, content=bytes(body)).json()


def _signing_keys(document: Any) -> list[jwt.PyJWK]:
    """Those that sign; a key set may hold keys for encryption, and of kinds that we do not know."""
    if not isinstance(document, dict):
        raise ValueError("it is no JSON object")
    keys = jwt.PyJWKSet.from_dict(document).keys  # pyright: ignore[reportUnknownArgumentType]
    return [key for key in keys if key.public_key_use in (None, "sig") and key.key_type != "oct"]
