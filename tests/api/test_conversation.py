import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.api.conversation import in_tool_loop, needs, session_key
from router_gateway.core.body import Body
from router_gateway.embedding.boilerplate import BLOCKS, WRAPPERS, without_boilerplate
from router_gateway.embedding.conversation import query_text

QUESTION = "How do I sort a list in Python by two keys?"
REMINDER = "<system-reminder>\nAs of today the following tools are available: <b>Bash</b>\n</system-reminder>"

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["role", "content", "type", "text", "tool_calls", "id", "user_id"]) | st.text(max_size=3),
        inner | st.sampled_from(["user", "assistant", "tool", "text", "tool_result", "image"]),
        max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


class TestQueryText:
    def test_the_newest_turn(self):
        messages = [
            {"role": "system", "content": "Be brief."},
            user("What is the capital of Norway?"),
            assistant("Oslo."),
            user(QUESTION),
        ]
        assert query_text(messages) == QUESTION

    def test_text_parts_only(self):
        parts = [
            {"type": "text", "text": "What is on"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            {"type": "input_text", "text": "this picture?"},
        ]
        assert query_text([user(parts)]) == "What is on\nthis picture?"

    def test_what_the_user_said_in_a_row_is_one_turn(self):
        messages = [user("An older question altogether"), assistant("..."), user("def f(): ..."), user(QUESTION)]
        assert query_text(messages) == f"def f(): ...\n{QUESTION}"

    @pytest.mark.parametrize("short", ["yes", "continue", "fix it", "", "   ", "继续", REMINDER])
    def test_a_turn_too_short_has_the_one_before_in_front(self, short):
        messages = [
            user("Something much older than that"),
            assistant("!"),
            user(QUESTION),
            assistant("So?"),
            user(short),
        ]
        kept = "" if short == REMINDER else short.strip()
        assert query_text(messages) == f"{QUESTION}\n{kept}".strip()

    def test_several_short_turns_reach_back_to_a_long_one(self):
        messages = [user(QUESTION), assistant("a"), user("ok"), assistant("b"), user("go on")]
        assert query_text(messages) == f"{QUESTION}\nok\ngo on"

    def test_tool_results_are_skipped(self):
        openai = [user(QUESTION), assistant(None, tool_calls=[{}]), {"role": "tool", "content": "a long log " * 50}]
        anthropic = [
            user(QUESTION),
            assistant([{"type": "tool_use", "id": "t", "name": "ls", "input": {}}]),
            user([{"type": "tool_result", "tool_use_id": "t", "content": "a long log " * 50}]),
        ]
        assert query_text(openai) == query_text(anthropic) == QUESTION

    def test_boilerplate_goes_wherever_it_stands(self):
        said = f"<environment_details>\n# VSCode\n</environment_details>\n{QUESTION}\n{REMINDER}"
        assert query_text([user(said)]) == QUESTION

    def test_boilerplate_may_be_a_message_of_its_own(self):
        messages = [user(QUESTION), user("<environment_context>\n  <cwd>/src</cwd>\n</environment_context>")]
        assert query_text(messages) == QUESTION

    def test_a_question_that_is_all_boilerplate_is_kept(self):
        said = "<context>Explain monads to a cook</context>"
        assert query_text([user(said)]) == said

    def test_the_tail_is_kept(self):
        text = query_text([user("x" * 10_000 + QUESTION)], chars_max=100)
        assert len(text) == 100
        assert text.endswith(QUESTION)

    def test_nul_and_lone_surrogates(self):
        assert query_text([user("a\x00b\ud800c")]) == "a\ufffdb\ufffdc"

    @pytest.mark.parametrize("messages", [[], [{"role": "system", "content": "hi"}], [user(None)], [user(7)], [None]])
    def test_nothing_said(self, messages):
        assert query_text(messages) == ""

    @given(anything)
    def test_odd_shapes_never_raise(self, value):
        for messages in (value, [value], [user(value)], [user([value])]):
            text = query_text(messages, chars_max=50)
            assert len(text) <= 50
            text.encode()
            assert in_tool_loop(messages) in (True, False)


class TestBoilerplate:
    @pytest.mark.parametrize("name", sorted(BLOCKS))
    def test_each_block_goes(self, name):
        assert without_boilerplate(f"before <{name}>x\ny</{name}> after") == "before  after"
        assert without_boilerplate(f"before <{name.upper()} k='v'>x</{name}> after") == "before  after"

    @pytest.mark.parametrize("name", sorted(WRAPPERS))
    def test_a_wrapper_loses_its_tags_only(self, name):
        assert without_boilerplate(f"<{name}>{QUESTION}</{name}>\n{REMINDER}") == QUESTION

    def test_nested_blocks_go_as_one(self):
        assert without_boilerplate(f"a<context>1{REMINDER}2<context>3</context>4</context>b") == "ab"

    def test_what_is_never_closed_stays(self):
        assert without_boilerplate("Why does <context> not close? " + REMINDER) == "Why does <context> not close?"

    def test_a_closing_tag_alone_stays(self):
        assert without_boilerplate("a</context>b") == "a</context>b"

    def test_other_markup_stays(self):
        html = "<div class='context'>fix <b>this</b></div>"
        assert without_boilerplate(html) == html

    def test_fences_are_the_users(self):
        pasted = "Why does this fail?\n```xml\n<context>bean</context>\n```\nand\n```\n$ make\nError 2\n```"
        assert without_boilerplate(pasted + REMINDER) == pasted

    def test_a_fence_that_never_closes_hides_nothing(self):
        assert without_boilerplate(f"```\ncode\n{REMINDER}") == "```\ncode"

    @given(st.lists(st.sampled_from(["<context>", "</context>", "<task>", "```\n", "\n", "word ", "<", ">", "</"])))
    def test_only_removes(self, pieces):
        text = "".join(pieces)
        left = iter(text)
        assert all(character in left for character in without_boilerplate(text))  # a subsequence

    def test_hostile_nesting_is_linear(self):
        text = "<context>" * 60_000 + QUESTION + "</task>" * 60_000  # quadratic, this would take minutes
        assert QUESTION in without_boilerplate(text)


class TestNeeds:
    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ({}, set()),
            ({"messages": [user("hi")], "tools": [], "response_format": {"type": "text"}}, set()),
            ({"tools": [{"type": "function"}]}, {"tools"}),
            ({"functions": [{"name": "f"}]}, {"tools"}),
            ({"messages": [{"role": "tool", "content": "1"}]}, {"tools"}),
            ({"messages": [assistant(None, tool_calls=[{"id": "1"}])]}, {"tools"}),
            ({"messages": [user([{"type": "tool_result", "content": "1"}])]}, {"tools"}),
            ({"messages": [user([{"type": "tool_result", "content": [{"type": "image"}]}])]}, {"tools", "vision"}),
            ({"response_format": {"type": "json_object"}}, {"json"}),
            ({"response_format": {"type": "json_schema", "json_schema": {}}}, {"json"}),
            ({"messages": [user([{"type": "image_url", "image_url": {"url": "x"}}])]}, {"vision"}),
            ({"messages": [user([{"type": "image", "source": {}}])]}, {"vision"}),
            ({"messages": [user([{"type": "input_audio"}])]}, {"audio"}),
            ({"modalities": ["text", "audio"]}, {"audio"}),
        ],
    )
    def test_capabilities(self, body, expected):
        assert needs(body) == expected

    def test_reads_a_parsed_body(self):
        assert needs(Body.parse(b'{"tools": [{}], "response_format": {"type": "json_object"}}')) == {"tools", "json"}

    @given(anything, anything, anything)
    def test_odd_shapes_never_raise(self, messages, wanted, modalities):
        known = {"tools", "json", "vision", "audio"}
        assert needs({"messages": messages, "response_format": wanted, "modalities": modalities}) <= known
        assert needs({"messages": [messages, wanted]}) <= known


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (user("hi"), False),
        (assistant("hi"), False),
        ({"role": "tool", "content": "1"}, True),
        ({"role": "function", "content": "1"}, True),
        (user([{"type": "tool_result", "tool_use_id": "t"}, {"type": "text", "text": "go on"}]), True),
    ],
)
def test_in_tool_loop(last, expected):
    assert in_tool_loop([user("hi"), last]) is expected
    assert in_tool_loop([last, assistant("done")]) is False


class TestSessionKey:
    IDENTITIES = (  # in order of precedence
        ("header", "x-session-id"),
        ("header", "x-model-affinity"),
        ("body", "session_id"),
        ("header", "x-claude-code-session-id"),
        ("body", "conversation"),
        ("body", "previous_response_id"),
        ("body", "prompt_cache_key"),
        ("body", "safety_identifier"),
        ("body", "user"),
        ("body", "metadata"),
    )

    def key(self, present, *, tenant="t", **more):
        headers = {name: f"id of {name}" for place, name in present if place == "header"}
        body = {name: f"id of {name}" for place, name in present if place == "body"}
        if "metadata" in body:
            body["metadata"] = {"user_id": body["metadata"]}
        return session_key(tenant=tenant, headers=headers, body=body, **more)

    def test_the_first_identity_there_is_wins(self):
        for first in range(len(self.IDENTITIES)):
            present = self.IDENTITIES[first:]
            assert self.key(present) == self.key(present[:1])
        keys = {self.key([identity]) for identity in self.IDENTITIES}
        assert len(keys) == len(self.IDENTITIES)

    def test_an_explicit_one_is_before_all(self):
        assert self.key(self.IDENTITIES, explicit="mine") == self.key([], explicit="mine")

    def test_a_conversation_object_is_its_id(self):
        by_object = session_key(tenant="t", headers={}, body={"conversation": {"id": "conv_1"}})
        assert by_object == session_key(tenant="t", headers={}, body={"conversation": "conv_1"})

    def test_tenants_never_share(self):
        assert self.key([("body", "user")]) != self.key([("body", "user")], tenant="other")
        assert self.key([]) != self.key([], tenant="other")

    def test_the_conversation_id_narrows(self):
        body = {"user": "u"}
        one, two = (session_key(tenant="t", headers={"x-conversation-id": c}, body=body) for c in "12")
        assert len({one, two, session_key(tenant="t", headers={}, body=body)}) == 3

    def test_without_identity_the_opening_decides(self):
        opening = [{"role": "system", "content": "s"}, user("first")]
        grown = [*opening, assistant("a"), user("second")]
        start = session_key(tenant="t", headers={}, body={"messages": opening})
        assert session_key(tenant="t", headers={}, body={"messages": grown}) == start
        for other in (
            {"messages": [opening[0], user("another")]},
            {"messages": [{"role": "system", "content": "z"}, opening[1]]},
            {"messages": opening, "tools": [{"type": "function"}]},
            {"messages": opening, "system": "s"},
        ):
            assert session_key(tenant="t", headers={}, body=other) != start

    def test_it_tells_nobody_who(self):
        key = session_key(tenant="t", headers={}, body={"user": "ada@example.org"})
        assert len(key) == 32
        assert set(key) <= set(string.hexdigits)

    @given(st.dictionaries(st.sampled_from(["messages", "user", "metadata", "conversation", "tools"]), anything))
    def test_odd_shapes_never_raise(self, body):
        assert len(session_key(tenant="t", headers={}, body=body)) == 32

    def test_surrogates_and_deep_nesting(self):
        body = {"messages": [user("\ud800")], "tools": json.loads("[" * 900 + "]" * 900)}
        assert len(session_key(tenant="t", headers={}, body=body)) == 32
