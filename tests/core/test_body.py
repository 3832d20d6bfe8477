import json
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router_gateway.core.body import REMOVE, Body
from router_gateway.core.errors import RequestError

WHITESPACE = " \t\n\r"
blank = st.text(WHITESPACE, max_size=3)
numbers = st.sampled_from(
    [
        "0",
        "-0",
        "1.0",
        "1E5",
        "1e+05",
        "-1.50e-07",
        "0.1000",
        "12345678901234567890123456789",
        "1e999",
        "3.14159265358979",
    ]
)


@st.composite
def spelled_strings(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> str:
    """A string in one of the many ways JSON can spell it."""
    spelled = []
    for character in draw(texts):
        plain = json.dumps(character, ensure_ascii=False)[1:-1]
        escaped = "".join(f"\\u{ord(half):04X}" for half in _utf16(character))
        spelled.append(draw(st.sampled_from([plain, escaped])))
    return '"' + "".join(spelled) + '"'


def _utf16(character: str) -> list[str]:
    raw = character.encode("utf-16-be", "surrogatepass")
    return [chr(int.from_bytes(raw[i : i + 2], "big")) for i in range(0, len(raw), 2)]


@st.composite
def spelled_lists(draw: st.DrawFn, items: st.SearchStrategy[str]) -> str:
    inside = ",".join(draw(blank) + item + draw(blank) for item in draw(st.lists(items, max_size=3)))
    return "[" + (inside or draw(blank)) + "]"


@st.composite
def spelled_objects(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    """Nested objects may name a key twice: that is the upstream's business."""
    keys = draw(st.lists(spelled_strings(st.text("ab", max_size=1)), max_size=3))
    inside = ",".join(f"{draw(blank)}{key}{draw(blank)}:{draw(blank)}{draw(values)}{draw(blank)}" for key in keys)
    return "{" + (inside or draw(blank)) + "}"


values = st.recursive(
    st.one_of(numbers, st.sampled_from(["true", "false", "null"]), spelled_strings(st.text(max_size=6))),
    lambda inner: st.one_of(spelled_lists(inner), spelled_objects(inner)),
    max_leaves=6,
)


class Member(NamedTuple):
    key: str
    before_value: str  # the key's spelling, the colon and the blanks around it
    value: str
    lead: str
    trail: str

    @property
    def text(self) -> str:
        return self.before_value + self.value


class Document(NamedTuple):
    members: list[Member]
    before: str
    inside: str  # blanks of an object without members
    after: str

    @property
    def raw(self) -> bytes:
        return self.join([m.lead + m.text + m.trail for m in self.members])

    def join(self, members: list[str]) -> bytes:
        return (self.before + "{" + (",".join(members) or self.inside) + "}" + self.after).encode()


@st.composite
def documents(draw: st.DrawFn, size_min: int = 0) -> Document:
    members = []
    for key in draw(st.lists(st.text(max_size=4), unique=True, min_size=size_min, max_size=5)):
        before_value = draw(spelled_strings(st.just(key))) + draw(blank) + ":" + draw(blank)
        members.append(Member(key, before_value, draw(values), draw(blank), draw(blank)))
    return Document(members, draw(blank), draw(blank), draw(blank))


@given(documents())
def test_reads_what_the_standard_library_reads_and_changes_nothing_unasked(document: Document):
    body = Body.parse(document.raw)
    assert body.values == json.loads(document.raw)
    assert body.size == len(document.raw.decode())
    assert body.amended({}) == document.raw
    assert body.amended({"not there": REMOVE} if "not there" not in body else {}) == document.raw


@given(documents(size_min=1), st.data())
def test_setting_members_leaves_every_other_byte_alone(document: Document, data: st.DataObject):
    chosen = data.draw(st.sets(st.sampled_from([m.key for m in document.members])))
    amended = Body.parse(document.raw).amended({key: {"new": [1, "é"]} for key in chosen})
    new = '{"new":[1,"\\u00e9"]}'
    assert amended == document.join(
        [m.lead + m.before_value + (new if m.key in chosen else m.value) + m.trail for m in document.members]
    )


@given(documents(), st.data())
def test_removing_setting_and_adding_at_once(document: Document, data: st.DataObject):
    keys = [m.key for m in document.members]
    removed = data.draw(st.sets(st.sampled_from(keys))) if keys else set()
    replaced = data.draw(st.sets(st.sampled_from(keys))) - removed if keys else set()
    added = {f"added {i}": i for i in range(data.draw(st.integers(0, 2)))}
    changes: dict[str, Any] = {**dict.fromkeys(removed, REMOVE), **dict.fromkeys(replaced, 7), **added}

    amended = Body.parse(document.raw).amended(changes).decode()

    expected = {key: value for key, value in json.loads(document.raw).items() if key not in removed}
    expected |= {**dict.fromkeys(replaced, 7), **added}
    assert json.loads(amended) == expected
    assert list(json.loads(amended)) == list(expected), "members stay in order, new ones come last"
    kept = [m.before_value + ("7" if m.key in replaced else m.value) for m in document.members if m.key not in removed]
    _assert_only_punctuation_between([*kept, *(f'"{key}":{value}' for key, value in added.items())], amended)
    assert amended.startswith(document.before + "{")
    assert amended.endswith("}" + document.after)


def _assert_only_punctuation_between(segments: list[str], text: str) -> None:
    position, between = 0, ""
    for segment in segments:
        found = text.index(segment, position)
        between += text[position:found]
        position = found + len(segment)
    assert set(between + text[position:]) <= set(WHITESPACE + "{},")


@pytest.mark.parametrize(
    ("text", "key", "left"),
    [
        ('{"a":1, "b":2,\n"c":3}', "a", '{ "b":2,\n"c":3}'),
        ('{"a":1, "b":2,\n"c":3}', "b", '{"a":1, \n"c":3}'),
        ('{"a":1, "b":2 }\n', "b", '{"a":1 }\n'),
        ('{ "a":1 }', "a", "{ }"),
        ('{"a":"x,","b":2}', "b", '{"a":"x,"}'),
        ('{"\\u0061":1,"b":"a"}', "a", '{"b":"a"}'),
    ],
    ids=["first", "middle", "last", "only", "after a string that ends in a comma", "an escaped key"],
)
def test_removal(text: str, key: str, left: str):
    assert Body.parse(text.encode()).amended({key: REMOVE}) == left.encode()


def test_adding_to_an_empty_object_and_after_removing_everything():
    assert Body.parse(b"{}").amended({"a": 1}) == b'{"a":1}'
    assert Body.parse(b'{"a":1,"b":2}').amended({"a": REMOVE, "b": REMOVE, "c": 3}) == b'{"c":3}'


def test_amending_does_not_change_the_body_itself():
    body = Body.parse(b'{"model":"auto","n":1}')
    body.amended({"model": "small", "n": REMOVE})
    assert body.amended({}) == b'{"model":"auto","n":1}'
    assert body["model"] == "auto"
    assert "n" in body
    assert body.get("absent", 3) == 3


@given(st.binary(max_size=60))
@example(b"")
@example(b"\xff")
@example("\ufeff{}".encode())
@example(b'{"a":1,}')
@example(b'{"a":1}{}')
@example(b'{"a" 1}')
@example(b'{"a":1 "b":2}')
@example(b"{'a':1}")
@example(b'{"a":NaN}')
@example(b'{"a":[-Infinity]}')
@example(b'{"a":"\x00"}')
@example(b'{"a":01}')
def test_rubbish_is_a_request_error_and_nothing_else(raw: bytes):
    assert _parses(raw) == _is_object(raw)


@given(documents(), st.data())
def test_a_damaged_document_is_refused_or_read_as_json_reads_it(document: Document, data: st.DataObject):
    raw = document.raw
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, min(len(raw), start + 4)))
    damaged = raw[:start] + data.draw(st.binary(max_size=2) | st.sampled_from([b",", b'"', b"{", b"}"])) + raw[end:]
    if _parses(damaged):
        assert Body.parse(damaged).values == json.loads(damaged.decode())
        assert Body.parse(damaged).amended({}) == damaged
    else:
        assert not _is_object(damaged)


def _parses(raw: bytes) -> bool:
    try:
        Body.parse(raw)
    except RequestError:
        return False
    return True


def _is_object(raw: bytes) -> bool:
    """One JSON object in UTF-8 with no constant of JavaScript's and no key twice, says the standard library."""
    try:
        decoder = json.JSONDecoder(parse_constant=_refuse, object_pairs_hook=lambda pairs: pairs)
        pairs = decoder.decode(raw.decode())
        strict = isinstance(json.loads(raw.decode()), dict)
    except (ValueError, RecursionError):
        return False
    return strict and len({key for key, _ in pairs}) == len(pairs)


def _refuse(constant: str) -> None:
    raise ValueError(constant)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"[1]", "must be a JSON object"),
        (b"{", "line 1 column 2"),
        (b'{\n"a":}', "line 2 column 5"),
        (b'{"a":"\xff"}', "byte 6"),
        (b'{"a":' + b"[" * 100_000, "nested too deeply"),
        (b'{"a":' + b"9" * 5_000 + b"}", "not valid JSON"),
        (b'{"a":Infinity}', "Infinity is not a JSON value"),
    ],
)
def test_the_error_says_what_is_wrong_and_where(raw: bytes, says: str):
    with pytest.raises(RequestError, match=says):
        Body.parse(raw)


def test_errors_do_not_repeat_the_prompt():
    with pytest.raises(RequestError) as caught:
        Body.parse(b'{"messages":[{"content":"a secret"}] "model":1}')
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("spelling", ["model", "\\u006dodel"])
def test_a_key_named_twice_is_refused_by_name(spelling: str):
    with pytest.raises(RequestError, match="names 'model' twice") as caught:
        Body.parse(b'{"model":1,"' + spelling.encode() + b'":2}')
    assert caught.value.param == "model"


@pytest.mark.parametrize("key", ["x" * 100_000, "\\ud800", "\\ud83d\\ude00" * 50], ids=["long", "surrogate", "emoji"])
def test_a_strange_key_makes_an_error_that_any_response_can_carry(key: str):
    with pytest.raises(RequestError) as caught:
        Body.parse(f'{{"{key}":1,"{key}":2}}'.encode())
    assert caught.value.param is not None
    assert len(caught.value.param.encode("utf-8")) <= 256
    assert len(caught.value.message.encode("utf-8")) <= 300


def test_a_body_made_here_reads_like_one_received():
    body = Body.of({"model": "small", "n": [1, {"é": None}]})
    assert body.values == {"model": "small", "n": [1, {"é": None}]}
    assert json.loads(body.amended({"n": REMOVE})) == {"model": "small"}
