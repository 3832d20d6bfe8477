"""What of an identity provider's answers is believed: asked of a real one on loopback, which can be told to lie."""

import re
from collections import Counter
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from router_gateway.dashboard.oidc import NotSignedIn, Oidc, Settings
from tests.dashboard.provider import CLIENT_ID, CLIENT_SECRET, rsa_key, running

URL = "https://dashboard.example.com"
NOW = datetime.now(UTC).timestamp()


@pytest.fixture(scope="module")
def provider():
    with running() as provider:
        yield provider


@pytest.fixture
async def oidc(provider):
    provider.honest("platform")
    settings = Settings(
        issuer=provider.url,
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        url=URL,
        admin_groups=("platform",),
        viewer_groups=("finance", "audit"),
    )
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        yield Oidc(settings, http, clock=Clock())


class Clock:
    def __init__(self):
        self.now_s = 1_000.0

    def __call__(self):
        return self.now_s


async def come_back(oidc, back="/", **changes):
    """Out to the provider and back with what it gave; `changes` go over it."""
    url, browser = await oidc.begin(back)
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(url)
    location = answer.headers["location"]
    assert location.startswith(f"{URL}/login/oidc/back?")
    given = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
    browser = changes.pop("browser", browser)
    return await oidc.finish({**given, **changes}, browser)


async def refused(oidc, said, **changes):
    with pytest.raises(NotSignedIn, match=said) as caught:
        await come_back(oidc, **changes)
    return caught.value


@pytest.mark.parametrize(
    ("groups", "role"),
    [(["platform"], "admin"), (["audit"], "viewer"), (["audit", "platform"], "admin"), ("finance", "viewer")],
)
async def test_groups_become_a_role(oidc, provider, groups, role):
    provider.honest(groups=groups)
    person = await come_back(oidc, back="/settings")
    assert (person.name, person.role, person.back) == ("alice@example.com", role, "/settings")


@pytest.mark.parametrize("groups", [[], ["Platform"], ["platform "], [["platform"]], None, {"platform": True}, 7])
async def test_who_is_in_no_group_stays_outside(oidc, provider, groups):
    provider.honest(groups=groups)
    trouble = await refused(oidc, "in no group that may use")
    assert trouble.status == 403


async def test_groups_may_lie_deeper_and_names_are_one_printable_line(provider):
    provider.honest(realm_access={"roles": ["platform"]}, email=None, preferred_username="zoë\n\u202e<b>" + "x" * 500)
    settings = Settings(
        issuer=provider.url,
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        url=URL,
        groups_claim="realm_access.roles",
        admin_groups=("platform",),
    )
    async with httpx.AsyncClient(trust_env=False) as http:
        person = await come_back(Oidc(settings, http))
    assert person.name.startswith("zoë<b>xxx")
    assert len(person.name) == 120
    assert person.name.isprintable()


async def test_an_address_that_is_not_verified_names_nobody(oidc, provider):
    provider.honest("platform", email="boss@example.com", email_verified=False, preferred_username="alice")
    assert (await come_back(oidc)).name == "alice"


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another sign-in's"},
        {"nonce": None},
        {"aud": "another application"},
        {"aud": ["another application"]},
        {"aud": [CLIENT_ID, "another application"]},
        {"aud": [CLIENT_ID, "another application"], "azp": "another application"},
        {"aud": None},
        {"iss": "https://evil.example"},
        {"iss": None},
        pytest.param({"exp": int(NOW) - 3_600}, id="exp=an hour ago"),  # named, as all processes of a run must name it
        {"exp": None},
        {"exp": "never"},
        pytest.param({"nbf": int(NOW) + 86_400}, id="nbf=tomorrow"),
        pytest.param({"iat": int(NOW) + 86_400}, id="iat=tomorrow"),
        {"sub": None},
    ],
    ids=lambda claims: " ".join(f"{k}={str(v)[:20]}" for k, v in claims.items()),
)
async def test_a_token_that_is_not_for_us_now_is_refused(oidc, provider, claims):
    provider.claims = claims
    trouble = await refused(oidc, "not for this sign-in")
    assert trouble.status == 403


async def test_a_token_signed_by_another_key_is_refused(oidc, provider):
    provider.signer = rsa_key("first")  # under the very name of the provider's own
    await refused(oidc, "not signed by it")


async def test_new_keys_are_fetched_when_a_token_asks_for_them(oidc, provider):
    assert (await come_back(oidc)).role == "admin"
    provider.key = rsa_key("second")
    oidc._clock.now_s += 60
    assert (await come_back(oidc)).role == "admin"


@pytest.mark.parametrize("alg", ["none", "HS256"])
async def test_tokens_without_a_signature_of_the_provider_are_refused(oidc, provider, alg, monkeypatch):
    """`HS256` with the public key as its secret is the classic."""
    import base64
    import hashlib
    import hmac
    import json

    def forged(nonce):
        def part(value):
            return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

        now = int(datetime.now(UTC).timestamp())
        claims = {"iss": provider.url, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": nonce}
        claims |= provider.person
        signed = part({"alg": alg, "kid": "first"}) + b"." + part(claims)
        pem = provider.key.as_pem(private=False)
        mark = b"" if alg == "none" else hmac.new(pem, signed, hashlib.sha256).digest()
        return (signed + b"." + base64.urlsafe_b64encode(mark).rstrip(b"=")).decode()

    monkeypatch.setattr(provider, "_id_token", forged)
    await refused(oidc, "not signed by it")


async def test_a_sign_in_belongs_to_the_browser_that_began_it_and_is_used_once(oidc, provider):
    await refused(oidc, "another browser", browser="somebody else's")
    await refused(oidc, "begun elsewhere", state="made up")
    url, browser = await oidc.begin("/")
    state = parse_qs(urlsplit(url).query)["state"][0]
    with pytest.raises(NotSignedIn):
        await oidc.finish({"state": state, "code": "wrong"}, browser)
    with pytest.raises(NotSignedIn, match="begun elsewhere"):
        await oidc.finish({"state": state, "code": "wrong"}, browser)


async def test_a_sign_in_that_took_too_long_is_over_and_there_is_a_bound_on_those_begun(oidc):
    url, browser = await oidc.begin("/")
    state = parse_qs(urlsplit(url).query)["state"][0]
    oidc._clock.now_s += 601
    with pytest.raises(NotSignedIn, match="too long"):
        await oidc.finish({"state": state, "code": "any"}, browser)
    for _ in range(1_010):
        await oidc.begin("/")
    assert len(oidc._pending) == 1_000


async def test_every_sign_in_has_secrets_of_its_own_and_proves_them(oidc, provider):
    provider.asked.clear(), provider.tokens.clear()
    for _ in range(3):
        await come_back(oidc)
    for name in ("state", "nonce", "code_challenge"):
        assert max(Counter(asked[name] for asked in provider.asked).values()) == 1
    assert {asked["code_challenge_method"] for asked in provider.asked} == {"S256"}
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43,128}", form["code_verifier"]) for form in provider.tokens)
    assert not any("client_secret" in form for form in provider.tokens), "in the header, where the provider takes it"


async def test_the_provider_says_no_in_words_of_ours(oidc, provider):
    provider.refuses = "access_denied"
    await refused(oidc, "says: access denied")
    provider.refuses = "<script>alert(1)</script>"
    await refused(oidc, "says: an error")


@pytest.mark.parametrize(
    "about",
    [
        {"issuer": "https://evil.example"},
        {"authorization_endpoint": "http://evil.example/authorize"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": None},
        {"token_endpoint": "http://evil.example/token"},
        {"jwks_uri": "file:///etc/passwd"},
    ],
    ids=str,
)
async def test_a_provider_that_points_elsewhere_is_not_followed(oidc, provider, about):
    provider.about = about
    at_once = "authorization_endpoint" in about or "issuer" in about
    with pytest.raises(NotSignedIn) as caught:
        await (oidc.begin("/") if at_once else come_back(oidc))
    assert caught.value.status == 502


async def test_a_provider_that_is_away_is_told_and_tried_again(provider):
    settings = Settings(issuer="http://127.0.0.1:9", client_id=CLIENT_ID, url=URL)
    async with httpx.AsyncClient(trust_env=False, timeout=2) as http:
        with pytest.raises(NotSignedIn, match="does not answer") as caught:
            await Oidc(settings, http).begin("/")
    assert caught.value.status == 502


def test_secrets_are_in_no_representation():
    settings = Settings(issuer="i", client_id="c", client_secret="s3cret", url=URL, admin_key="rg-a", viewer_key="rg-v")
    assert not re.search("s3cret|rg-", repr(settings))
