"""Signing in by an identity provider: OpenID Connect, the authorization code flow with PKCE.

Who comes back must bring the state that went out from the same browser; the ID token must be signed by the provider's
own keys, for us, now, and with the nonce of this very sign-in. Groups become a role; the pages then ask the gateway
with the dashboard's own key of that role, and name the person in every change.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

log = logging.getLogger(__name__)

_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
"""Signatures with a key that only the provider has: neither none nor a shared secret."""
_DISCOVERY = "/.well-known/openid-configuration"
_KNOWN_S = 3600.0  # how long what the provider says of itself is believed
_KEYS_AGAIN_S = 30.0  # and how soon its keys are asked for again, for a token signed by an unknown one
_PENDING_S = 600.0
_PENDING_MAX = 1_000
_ANSWER_BYTES_MAX = 1 << 20
_LEEWAY_S = 60
_NAME_CHARS_MAX = 120
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class NotSignedIn(Exception):
    """Why somebody was not let in, in words for the form; `status` is HTTP's."""

    def __init__(self, message: str, status: int = 403) -> None:
        super().__init__(message)
        self.message, self.status = message, status


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """As in the configuration's `dashboard.oidc`, with the secrets that it names.

    url : the dashboard's own address, as browsers have it; the provider sends people back there
    """

    issuer: str
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    url: str
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    groups_claim: str = "groups"
    admin_groups: tuple[str, ...] = ()
    viewer_groups: tuple[str, ...] = ()
    admin_key: str | None = field(default=None, repr=False)
    viewer_key: str | None = field(default=None, repr=False)

    @property
    def back_url(self) -> str:
        return self.url.rstrip("/") + "/login/oidc/back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who signed in: what pages and the audit trail call them, the role, and the page they wanted."""

    name: str
    role: str
    back: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pending:
    nonce: str
    verifier: str
    browser: bytes
    back: str
    began_s: float


def open_provider() -> httpx.AsyncClient:
    """The connections to the provider, by the proxy that the environment names, if any; no redirect is followed."""
    return httpx.AsyncClient(timeout=httpx.Timeout(10.0), follow_redirects=False)


class Oidc:
    """One provider. `begin` and `finish` are the two halves of a sign-in."""

    def __init__(
        self, settings: Settings, http: httpx.AsyncClient, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = settings
        self._http, self._clock = http, clock
        self._pending: OrderedDict[str, _Pending] = OrderedDict()
        self._about: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None

    async def begin(self, back: str) -> tuple[str, str]:
        """The provider's page to go to, and what the browser's cookie has to hold until it comes back.

        Raises NotSignedIn where the provider does not answer.
        """
        about = await self._discovered()
        state, nonce, verifier, browser = (secrets.token_urlsafe(32) for _ in range(4))
        now = self._clock()
        self._pending[state] = _Pending(
            nonce=nonce, verifier=verifier, browser=_digest(browser), back=back, began_s=now
        )
        while len(self._pending) > _PENDING_MAX or now - next(iter(self._pending.values())).began_s > _PENDING_S:
            self._pending.popitem(last=False)
        url = prepare_grant_uri(
            _endpoint(about, "authorization_endpoint"),
            client_id=self.settings.client_id,
            response_type="code",
            redirect_uri=self.settings.back_url,
            scope=" ".join(self.settings.scopes),
            state=state,
            nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
        )
        return str(url), browser

    async def finish(self, given: Mapping[str, str], browser: str) -> Person:
        """Who came back with these parameters, in the browser whose cookie holds `browser`. Raises NotSignedIn."""
        pending = self._pending.pop(given.get("state", ""), None)
        if pending is None or self._clock() - pending.began_s > _PENDING_S:
            raise NotSignedIn("That sign-in took too long, or was begun elsewhere: try again.", 400)
        if not hmac.compare_digest(pending.browser, _digest(browser)):
            raise NotSignedIn("That sign-in was begun in another browser: try again.", 400)
        if "error" in given:
            why = given["error"] if re.fullmatch(r"[a-z_]{1,50}", given["error"]) else "an error"
            raise NotSignedIn(f"The identity provider says: {why.replace('_', ' ')}.")
        claims = await self._claims(given.get("code", ""), pending)
        return Person(name=_name(claims), role=self._role(claims), back=pending.back)

    async def _claims(self, code: str, pending: _Pending) -> Mapping[str, Any]:
        about = await self._discovered()
        token = await self._exchanged(about, code, pending.verifier)
        signed = await self._signed(str(token.get("id_token", "")), about)
        claims = CodeIDToken(
            signed.claims,
            signed.header,
            options={
                "iss": {"essential": True, "value": self.settings.issuer},
                "aud": {"essential": True, "value": self.settings.client_id},
            },
            params={
                "nonce": pending.nonce,
                "client_id": self.settings.client_id,
                "access_token": token.get("access_token"),
            },
        )
        try:
            claims.validate(leeway=_LEEWAY_S)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            log.warning("an ID token is refused: %s (%s)", type(error).__name__, getattr(error, "claim", "?"))
            raise NotSignedIn("What the identity provider sent is not for this sign-in: try again.") from None
        return dict(claims)

    async def _exchanged(self, about: Mapping[str, Any], code: str, verifier: str) -> Mapping[str, Any]:
        settings = self.settings
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": settings.back_url,
            "code_verifier": verifier,
        }
        auth = None
        basic = "client_secret_basic" in about.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if settings.client_secret is None or not basic:
            form |= {"client_id": settings.client_id}
            form |= {} if settings.client_secret is None else {"client_secret": settings.client_secret}
        else:
            auth = httpx.BasicAuth(settings.client_id, settings.client_secret)
        return await self._ask("POST", _endpoint(about, "token_endpoint"), data=form, auth=auth)

    async def _signed(self, token: str, about: Mapping[str, Any]) -> jwt.Token:
        """The token, if the provider signed it; its keys are asked for again where the signature is by none known."""
        if len(token) > _ANSWER_BYTES_MAX:
            raise NotSignedIn("What the identity provider sent is no ID token.")
        for asked_again in (False, True):
            keys = await self._provider_keys(about, again=asked_again)
            try:
                return jwt.decode(token, keys, algorithms=_ALGORITHMS)
            except (JoseError, ValueError, TypeError, KeyError) as error:
                if asked_again:
                    log.warning("an ID token is refused: %s", type(error).__name__)
        raise NotSignedIn("What the identity provider sent is not signed by it: try again.")

    async def _discovered(self) -> dict[str, Any]:
        now = self._clock()
        if self._about is None or now - self._about[0] > _KNOWN_S:
            about = await self._ask("GET", self.settings.issuer.rstrip("/") + _DISCOVERY)
            if about.get("issuer") != self.settings.issuer:
                log.error("%s calls itself another issuer", self.settings.issuer)
                raise NotSignedIn("The identity provider calls itself by another name.", 502)
            self._about = now, about
        return self._about[1]

    async def _provider_keys(self, about: Mapping[str, Any], *, again: bool) -> KeySet:
        now, most_s = self._clock(), _KEYS_AGAIN_S if again else _KNOWN_S
        if self._keys is None or now - self._keys[0] > most_s:
            found = await self._ask("GET", _endpoint(about, "jwks_uri"))
            try:
                self._keys = now, KeySet.import_key_set({"keys": [each for each in found["keys"] if _signs(each)]})
            except (JoseError, ValueError, TypeError, KeyError):
                raise NotSignedIn("The identity provider's keys cannot be read.", 502) from None
        return self._keys[1]

    async def _ask(self, method: str, url: str, **more: Any) -> dict[str, Any]:
        """The JSON object that the provider answers. Raises NotSignedIn."""
        said = bytearray()
        try:
            async with self._http.stream(method, url, headers={"accept": "application/json"}, **more) as answer:
                async for piece in answer.aiter_bytes():
                    said += piece
                    if len(said) > _ANSWER_BYTES_MAX:
                        raise ValueError("too long")
            found = json.loads(said)
            if answer.status_code != 200 or not isinstance(found, dict):
                raise ValueError("no answer to build on")
        except (httpx.HTTPError, ValueError) as error:
            log.warning("the identity provider did not answer %s: %s", urlsplit(url).path, type(error).__name__)
            raise NotSignedIn("The identity provider does not answer as it should: try again later.", 502) from None
        return found

    def _role(self, claims: Mapping[str, Any]) -> str:
        """Raises NotSignedIn for who is in no group that may come in."""
        groups = _groups(claims, self.settings.groups_claim)
        for role, of_role in (("admin", self.settings.admin_groups), ("viewer", self.settings.viewer_groups)):
            if groups & set(of_role):
                return role
        raise NotSignedIn("Your account is in no group that may use this dashboard.")


def _groups(claims: Mapping[str, Any], name: str) -> set[str]:
    """The claim by its name, or by a path such as `realm_access.roles`."""
    found: Any = claims.get(name)
    if found is None:
        found = claims
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    listed = found if isinstance(found, list) else [found]
    return {each for each in listed if isinstance(each, str)}


def _name(claims: Mapping[str, Any]) -> str:
    """The address, else the name that the provider prefers, else its number for the person; one printable line."""
    for claim in ("email", "preferred_username", "sub"):
        said = claims.get(claim)
        if isinstance(said, str) and not (claim == "email" and claims.get("email_verified") is False):
            name = "".join(letter for letter in said if letter.isprintable()).strip()[:_NAME_CHARS_MAX]
            if name:
                return name
    raise NotSignedIn("The identity provider does not say who you are.")


def _signs(key: Any) -> bool:
    return isinstance(key, dict) and key.get("use", "sig") == "sig" and key.get("kty") in ("RSA", "EC")


def _endpoint(about: Mapping[str, Any], name: str) -> str:
    """An address of the provider's, over TLS unless it is on this machine. Raises NotSignedIn."""
    url = about.get(name)
    parts = urlsplit(url) if isinstance(url, str) else urlsplit("")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise NotSignedIn(f"The identity provider gives no safe {name.replace('_', ' ')}.", 502)
    return str(url)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
