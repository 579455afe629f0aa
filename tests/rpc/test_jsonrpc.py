from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpc import jsonrpc
from rpc.jsonrpc import MAX_NAME, MAX_PROBLEMS, MEMBERS_PER_TURN, Dispatcher, Method, Text, json_string, wire_error
from rpc.schema import BodyParams, EntryParams, NoParams

SECRET = "sk-very-secret"


class Several(pydantic.BaseModel):
    """A model that is itself neither strict nor closed, with an optional parameter and one in depth."""

    count: int
    flag: bool = False
    pairs: list[tuple[str, int]] = []


async def later(params: EntryParams) -> str:
    await asyncio.sleep(0)
    return json.dumps(f"later {params.entry_id}")


async def in_pieces(params: EntryParams) -> Text:
    return pieces('"', params.session_id, params.entry_id, '"')


async def pieces(*texts: str) -> AsyncGenerator[str]:
    for text in texts:
        await asyncio.sleep(0)
        yield text


def failing(_: NoParams) -> str:
    raise OSError(f"/var/db: {SECRET}")


async def failing_later(_: NoParams) -> str:
    raise RuntimeError(SECRET)


def invalid_itself(_: NoParams) -> str:
    BodyParams.model_validate({"sessionId": SECRET})
    raise AssertionError


METHODS = (
    Method("entry", EntryParams, lambda params: json_string(f"{params.session_id}/{params.entry_id}")),
    Method("body", BodyParams, lambda params: json_string(params.encoding)),
    Method("later", EntryParams, later),
    Method("in_pieces", EntryParams, in_pieces),
    Method("several", Several, lambda params: params.model_dump_json()),
    Method("list", NoParams, lambda _: '[ {"id":1.0} ]'),
    Method("nothing", NoParams, lambda _: "null"),
    Method("failing", NoParams, failing),
    Method("failing_later", NoParams, failing_later),
    Method("invalid_itself", NoParams, invalid_itself),
    Method("no_text", NoParams, lambda _: 5),  # type: ignore[arg-type, return-value]
    Method("surrogate", NoParams, lambda _: '"\udc80"'),
    Method("accent", NoParams, lambda _: '"é漢😀"'),
)

PARSE_ERROR = '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}'
INVALID_REQUEST = '{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid Request"}}'


async def joined(text: Text | None) -> str | None:
    if text is None or isinstance(text, str):
        return text
    return "".join([piece async for piece in text])


def answer(text: str) -> str | None:
    async def answered() -> str | None:
        return await joined(await Dispatcher(METHODS).answer(text))

    return asyncio.run(answered())


def invalid_request(identity: str) -> str:
    return INVALID_REQUEST.replace("null", identity, 1)


def request(method: str, params: Any = ..., **members: Any) -> str:
    given_params = {} if params is ... else {"params": params}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, **given_params, **members})


def result(text: str) -> Any:
    parsed = json.loads(answer(text) or "")
    assert set(parsed) == {"jsonrpc", "id", "result"}, parsed
    return parsed["result"]


def problems(text: str) -> dict[str, str]:
    error = json.loads(answer(text) or "")["error"]
    assert (error["code"], error["message"]) == (-32602, "Invalid params")
    return {problem["parameter"]: problem["reason"] for problem in error["data"]}


# Results


def test_result_text_is_spliced_into_the_answer_untouched() -> None:
    assert answer(request("list")) == '{"jsonrpc":"2.0","id":1,"result":[ {"id":1.0} ]}'


def test_null_result_has_its_key() -> None:
    assert answer(request("nothing")) == '{"jsonrpc":"2.0","id":1,"result":null}'


def test_awaitable_result_is_awaited() -> None:
    assert result(request("later", {"sessionId": "S", "entryId": "E"})) == "later E"


def test_result_in_pieces_is_answered_in_pieces() -> None:
    text = request("in_pieces", {"sessionId": "S", "entryId": "E"})
    assert answer(text) == '{"jsonrpc":"2.0","id":1,"result":"SE"}'
    assert not isinstance(asyncio.run(Dispatcher(METHODS).answer(text)), str)


def test_notification_of_a_method_that_answers_in_pieces_is_not_answered() -> None:
    text = '{"jsonrpc":"2.0","method":"in_pieces","params":["S","E"]}'
    assert answer(text) is None
    assert answer(f"[{text}]") is None


def test_result_whose_pieces_are_given_up_is_closed() -> None:
    closed = []

    async def given_up(*, batch: bool) -> None:
        async def endless() -> AsyncGenerator[str]:
            try:
                while True:
                    yield "1"
            finally:
                closed.append(batch)

        async def begin(_: NoParams) -> Text:
            return endless()

        text = request("endless")
        answered = await Dispatcher([Method("endless", NoParams, begin)]).answer(f"[{text}]" if batch else text)
        assert answered is not None
        assert not isinstance(answered, str)
        while await anext(answered) != "1":
            pass
        await answered.aclose()

    asyncio.run(given_up(batch=False))
    asyncio.run(given_up(batch=True))
    assert closed == [False, True]


def test_result_beyond_ascii_stays_as_it_is() -> None:
    assert answer(request("accent")) == '{"jsonrpc":"2.0","id":1,"result":"é漢😀"}'


# Ids


@pytest.mark.parametrize(
    "identity",
    ["0", "-7", "null", '"a"', '""', str(2**64), "9" * 5000, '"é\x7f"', '"' + "x" * 5000 + '"', '"null"'],
)
def test_valid_id_is_echoed_to_the_letter(identity: str) -> None:
    text = f'{{"jsonrpc":"2.0","method":"nothing","id":{identity}}}'
    assert answer(text) == f'{{"jsonrpc":"2.0","id":{identity},"result":null}}'


def test_escapes_in_an_id_keep_their_meaning() -> None:
    parsed = json.loads(answer(r'{"jsonrpc":"2.0","method":"nothing","id":"\ud83d\ude00\"\\\n\u0000\ufffd"}') or "")
    assert parsed["id"] == '😀"\\\n\x00\ufffd'


@pytest.mark.parametrize(
    "identity", ["true", "false", "1.0", "1e3", "1E400", "{}", '{"a":1}', "[]", "[1]", r'"\ud800"', r'"a\\\udc80b"']
)
def test_id_of_another_type_makes_no_request(identity: str) -> None:
    assert answer(f'{{"jsonrpc":"2.0","method":"nothing","id":{identity}}}') == INVALID_REQUEST


def test_null_id_is_answered_and_an_absent_one_is_not() -> None:
    assert answer('{"jsonrpc":"2.0","method":"nothing","id":null}') == '{"jsonrpc":"2.0","id":null,"result":null}'
    assert answer('{"jsonrpc":"2.0","method":"nothing"}') is None


# Notifications


def test_notification_is_carried_out() -> None:
    seen: list[EntryParams] = []

    def note(params: EntryParams) -> str:
        seen.append(params)
        return "null"

    text = '{"jsonrpc":"2.0","method":"note","params":{"sessionId":"S","entryId":"E"}}'
    assert asyncio.run(Dispatcher([Method("note", EntryParams, note)]).answer(text)) is None
    assert [(params.session_id, params.entry_id) for params in seen] == [("S", "E")]


@pytest.mark.parametrize("method", ["entry", "unknown", "failing"])
def test_notification_that_fails_is_not_answered_either(method: str) -> None:
    assert answer(f'{{"jsonrpc":"2.0","method":"{method}"}}') is None


# What is no request


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\x00",
        "\ufeff{}",
        "{",
        "[",
        "[1",
        "NaN",
        '{"jsonrpc":"2.0","id":1,"method":"nothing","x":NaN}',
        '{"jsonrpc":"2.0","id":1,"method":"nothing","x":-Infinity}',
        '{"jsonrpc":"2.0","id":1,"method":"nothing",}',
        '{"jsonrpc":"2.0","id":1,"method":"nothing"} {}',
        '{"jsonrpc":"2.0","id":1,"method":7 oops',
        '{"jsonrpc":"2.0","id":01,"method":"nothing"}',
        '{"jsonrpc":"2.0","id":"\n","method":"nothing"}',
        "1 oops",
        "\ud800",
    ],
)
def test_text_that_is_no_json_is_a_parse_error(text: str) -> None:
    assert answer(text) == PARSE_ERROR


@pytest.mark.parametrize("text", ["1", "1e999", "9" * 5000, "null", '"x"', '"\ud800"', r'"\ud800"', "{}", "true"])
def test_json_that_is_no_request_object_is_an_invalid_request(text: str) -> None:
    assert answer(text) == INVALID_REQUEST


@pytest.mark.parametrize(
    "members",
    [
        {"jsonrpc": "1.0"},
        {"jsonrpc": 2.0},
        {"jsonrpc": None},
        {"method": None},
        {"method": 1},
        {"method": ["nothing"]},
        {"params": "bar"},
        {"params": 0},
        {"params": False},
    ],
)
def test_invalid_request_echoes_an_id_that_can_be_read(members: dict[str, Any]) -> None:
    object_ = {"jsonrpc": "2.0", "id": "me", "method": "nothing", **members}
    assert answer(json.dumps(object_)) == invalid_request('"me"')
    del object_["id"]
    assert answer(json.dumps(object_)) == INVALID_REQUEST


@pytest.mark.parametrize("missing", ["jsonrpc", "method"])
def test_request_needs_its_members(missing: str) -> None:
    object_ = json.loads(request("nothing"))
    del object_[missing]
    assert answer(json.dumps(object_)) == invalid_request("1")


def test_other_members_of_a_request_are_ignored() -> None:
    assert result(request("nothing", meta={"trace": [1, 2.5]})) is None


def test_of_repeated_members_the_last_one_counts() -> None:
    text = '{"jsonrpc":"2.0","id":true,"id":2,"method":"x","method":"entry","params":{"sessionId":"a","sessionId":"b",'
    text += '"entryId":"e"},"jsonrpc":"2.0"}'
    assert answer(text) == '{"jsonrpc":"2.0","id":2,"result":"b/e"}'


def test_unknown_method() -> None:
    expected = '{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"Method not found"}}'
    assert answer(request("sessions/none")) == expected
    assert answer(request("NOTHING", {"secret": SECRET})) == expected
    assert answer(r'{"jsonrpc":"2.0","id":1,"method":"\udc80"}') == expected


# Params


def test_params_by_name() -> None:
    assert result(request("entry", {"entryId": "E", "sessionId": "S"})) == "S/E"


def test_params_by_position() -> None:
    assert result(request("entry", ["S", "E"])) == "S/E"


@pytest.mark.parametrize("params", [..., None, {}, []])
def test_method_without_params_takes_none_in_any_form(params: Any) -> None:
    assert result(request("nothing", params)) is None


@pytest.mark.parametrize("params", [..., None, {}, []])
def test_missing_params_are_all_named(params: Any) -> None:
    expected = (
        '"data":[{"parameter":"sessionId","reason":"is required"},{"parameter":"entryId","reason":"is required"}]'
    )
    expected = f'{{"jsonrpc":"2.0","id":1,"error":{{"code":-32602,"message":"Invalid params",{expected}}}}}'
    assert answer(request("entry", params)) == expected


def test_too_few_params_by_position_name_the_missing() -> None:
    assert problems(request("body", ["S"])) == {"entryId": "is required", "encoding": "is required"}


def test_too_many_params_by_position_are_named_by_position() -> None:
    reason = "is not a parameter of this method"
    assert problems(request("entry", ["S", "E", SECRET, 4])) == {"params[2]": reason, "params[3]": reason}
    assert problems(request("nothing", [1])) == {"params[0]": reason}


def test_extra_param_is_refused() -> None:
    assert problems(request("nothing", {"x": 1})) == {"x": "is not a parameter of this method"}


def test_name_of_the_model_s_field_is_no_name_on_the_wire() -> None:
    found = problems(request("entry", {"session_id": "S", "entryId": "E"}))
    assert found == {"sessionId": "is required", "session_id": "is not a parameter of this method"}


@pytest.mark.parametrize("value", [None, True, 1, 1.5, [], {}, ["S"], {"S": 1}])
def test_param_of_the_wrong_type_is_refused(value: Any) -> None:
    assert problems(request("entry", {"sessionId": value, "entryId": "E"})) == {"sessionId": "must be a string"}


def test_unknown_encoding_is_refused_with_what_is_known() -> None:
    found = problems(request("body", {"sessionId": "S", "entryId": "E", "encoding": "hex"}))
    assert found == {"encoding": "must be 'text' or 'base64'"}


def test_loose_model_is_held_to_be_strict_and_closed() -> None:
    found = problems(request("several", {"count": "1", "flag": 1, "more": 0}))
    assert found == {
        "count": "must be an integer",
        "flag": "must be a boolean",
        "more": "is not a parameter of this method",
    }


def test_wrong_value_in_depth_is_named_by_its_path() -> None:
    assert problems(request("several", [1, True, [["a", None]]])) == {"pairs.0.1": "must be an integer"}


def test_other_reasons_are_named_by_their_type() -> None:
    assert problems(request("several", [1, True, [5]])) == {"pairs.0": "is not acceptable (tuple_type)"}


def test_optional_param_may_be_left_out() -> None:
    assert result(request("several", [5])) == {"count": 5, "flag": False, "pairs": []}


@pytest.mark.parametrize("value", ["9" * 5000, f"[{'9' * 5000}]"])
def test_param_that_the_validator_cannot_read_is_named(value: str) -> None:
    reason = "is nested too deeply or has a number that is too long"
    text = f'{{"jsonrpc":"2.0","id":1,"method":"entry","params":{{"sessionId":"S","entryId":{value}}}}}'
    assert problems(text) == {"entryId": reason}
    text = f'{{"jsonrpc":"2.0","id":1,"method":"entry","params":["S",{value}]}}'
    assert problems(text) == {"entryId": reason}
    text = f'{{"jsonrpc":"2.0","id":1,"method":"entry","params":{{"entryId":{value},"entryId":"E"}}}}'
    assert problems(text) == {"params": reason}


TOO_COMPLEX = {"code": -32700, "message": "Parse error", "data": "too many values, or nested too deeply"}


def error(text: str, **limits: int) -> Any:
    answered = asyncio.run(Dispatcher(METHODS, **limits).answer(text))
    assert isinstance(answered, str)
    return json.loads(answered)["error"]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 65,
        "[" * 2**20,
        '{"jsonrpc":"2.0","id":1,"method":"nothing","params":' + "[" * 2**20,
        "[" * 2**19 + "]" * 2**19,
        '{"a":' * 65 + "1" + "}" * 65,
        f"[{'{},' * 70}{'[' * 65 + ']' * 65}]",
    ],
)
def test_what_is_nested_too_deeply_is_not_read(text: str) -> None:
    assert error(text) == TOO_COMPLEX


@pytest.mark.parametrize("depth", [8, 64, 150])
def test_nesting_up_to_the_limit_is_read(depth: int) -> None:
    def text(levels: int) -> str:
        return f'{{"jsonrpc":"2.0","id":1,"method":"entry","params":[{"[" * levels}"[[[{{"{"]" * levels}]}}'

    assert error(text(depth - 2), depth=depth)["code"] == -32602
    assert error(text(depth - 1), depth=depth) == TOO_COMPLEX


@pytest.mark.parametrize("quoted", [r"[[[[", r"\"[[[[", r"\\\"[[[[", r"a,b,c"])
def test_what_is_in_strings_counts_neither_as_nesting_nor_as_values(quoted: str) -> None:
    text = f'{{"jsonrpc":"2.0","id":1,"method":"entry","params":["{quoted * 1000}","{quoted}"]}}'
    assert answer(text) == asyncio.run(Dispatcher(METHODS, depth=8, batch=1).answer(text))


@pytest.mark.parametrize("text", ["[" + "1," * 2**19 + "1]", "{" + '"a":1,' * 2**17 + '"a":1}', "[" + "{}" * 2**19])
def test_a_text_of_more_values_than_a_batch_takes_is_not_read(text: str) -> None:
    assert error(text) == TOO_COMPLEX


def test_a_batch_of_too_many_requests_is_not_carried_out() -> None:
    carried_out: list[EntryParams] = []

    def note(params: EntryParams) -> str:
        carried_out.append(params)
        return "null"

    def answered(requests: int) -> Any:
        text = f"[{','.join([request('note', ['S', 'E'])] * requests)}]"
        return json.loads(str(asyncio.run(Dispatcher([Method("note", EntryParams, note)], batch=3).answer(text))))

    assert answered(4) == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": -32600, "message": "Invalid Request", "data": "more than 3 requests"},
    }
    assert carried_out == []
    assert len(answered(3)) == len(carried_out) == 3


def test_of_many_unknown_params_as_many_are_named_as_of_few() -> None:
    many = {f"unknown{number}": number for number in range(3000)}
    found = problems(request("entry", many | {"sessionId": 7}))
    assert list(found) == ["sessionId", "entryId", *list(many)[:14]]
    assert found["sessionId"] == "must be a string"


def test_values_are_never_repeated() -> None:
    for params in (
        {"sessionId": [SECRET], "entryId": {"k": SECRET}, "encoding": SECRET},
        [[SECRET], 1, SECRET, SECRET],
    ):
        text = answer(request("body", params)) or ""
        assert "-32602" in text
        assert SECRET not in text


def test_names_that_the_sender_made_up_are_cut() -> None:
    found = problems(request("nothing", {"n" * 100_000: 1}))
    assert found == {"n" * MAX_NAME: "is not a parameter of this method"}


@pytest.mark.parametrize("params", [{f"x{number}": 1 for number in range(1000)}, [1] * 1000])
def test_number_of_problems_is_bounded(params: Any) -> None:
    assert len(problems(request("nothing", params))) == MAX_PROBLEMS


# Lone surrogates


@pytest.mark.parametrize("surrogate", [r"\ud800", r"\uDFFF", r"\udc80\ud83d", "\udc80", r"\\\ud83dx"])
def test_lone_surrogate_in_a_request_is_read_as_the_replacement_character(surrogate: str) -> None:
    text = f'{{"jsonrpc":"2.0","id":1,"method":"entry","params":["{surrogate}","E"]}}'
    assert "\ufffd" in result(text)
    text = f'{{"jsonrpc":"2.0","id":1,"method":"nothing","params":{{"{surrogate}":1}}}}'
    (name,) = problems(text)
    assert "\ufffd" in name


@pytest.mark.parametrize(
    ("escaped", "meaning"), [(r"\ud83d\ude00", "😀"), (r"\\ud83d", r"\ud83d"), (r"\\\ud83d\ude00", "\\😀"), ("é", "é")]
)
def test_what_only_looks_like_a_lone_surrogate_is_kept(escaped: str, meaning: str) -> None:
    text = f'{{"jsonrpc":"2.0","id":1,"method":"entry","params":["{escaped}","E"]}}'
    assert result(text) == f"{meaning}/E"


def test_result_with_a_surrogate_is_our_own_fault() -> None:
    assert json.loads(answer(request("surrogate")) or "")["error"]["code"] == -32603


# Our own faults


@pytest.mark.parametrize("method", ["failing", "failing_later", "invalid_itself", "no_text", "surrogate"])
def test_own_fault_is_logged_and_not_told(method: str, caplog: pytest.LogCaptureFixture) -> None:
    assert answer(request(method)) == '{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"Internal error"}}'
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("rpc.jsonrpc", logging.ERROR)
    assert record.exc_info


def test_a_client_s_fault_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    for text in ("[", "1", request("unknown"), request("entry")):
        answer(text)
    assert not caplog.records


def test_exception_becomes_an_error_object() -> None:
    assert wire_error(ValueError(SECRET)) == '{"code":-32603,"message":"Internal error"}'


def test_cancellation_passes_through() -> None:
    def cancelled(_: NoParams) -> str:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(Dispatcher([Method("c", NoParams, cancelled)]).answer(request("c")))


def test_two_methods_of_the_same_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same name"):
        Dispatcher([METHODS[0], METHODS[0]])


# Batches


def test_batch_is_answered_in_the_order_of_its_requests() -> None:
    batch = f"\n [{request('nothing')}, {request('unknown', id='b')},{request('later', ['S', 'E'], id=None)}]"
    answers = json.loads(answer(batch) or "")
    assert [member["id"] for member in answers] == [1, "b", None]
    assert [member.get("result", ...) for member in answers] == [None, ..., "later E"]


def test_batch_leaves_out_its_notifications() -> None:
    notification = '{"jsonrpc":"2.0","method":"nothing"}'
    expected = '[{"jsonrpc":"2.0","id":1,"result":null}]'
    assert answer(f"[{notification},{request('nothing')},{notification}]") == expected
    assert answer(f"[{notification},{notification}]") is None


def test_batch_with_results_in_pieces_is_answered_in_its_order() -> None:
    order = ["nothing", "in_pieces", "in_pieces", "unknown", "nothing"]
    params = {"in_pieces": ["S", "E"]}
    requests = [request(method, params.get(method, []), id=number) for number, method in enumerate(order)]
    for start in range(len(order)):
        answers = json.loads(answer(f"[{','.join(requests[start:])}]") or "")
        assert [one["id"] for one in answers] == list(range(len(order)))[start:]
        assert [one.get("result", "none") for one in answers] == [None, "SE", "SE", "none", None][start:]


def test_batch_with_long_answers_is_carried_out_as_they_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonrpc, "MAX_WHOLE", 1000)
    calls: list[int] = []

    def long(_: NoParams) -> str:
        calls.append(len(calls))
        return json.dumps("x" * 300)

    async def scenario() -> None:
        requests = ",".join([request("long"), '{"jsonrpc":"2.0","method":"long"}'] * 10)
        answered = await Dispatcher([Method("long", NoParams, long)]).answer(f"[{requests}]")
        assert answered is not None
        assert not isinstance(answered, str)
        assert len(calls) < 10
        assert len(json.loads("".join([piece async for piece in answered]))) == 10

    asyncio.run(scenario())
    assert len(calls) == 20


def test_empty_batch_is_one_invalid_request() -> None:
    assert answer("[]") == INVALID_REQUEST
    assert answer(" [ ] ") == INVALID_REQUEST


def test_each_invalid_member_of_a_batch_is_answered() -> None:
    invalid_id = '{"jsonrpc":"2.0","method":"nothing","id":true}'
    batch = f'[1, [], [{request("nothing")}], {{}}, {invalid_id}, {{"id":"x"}}, "\\ud800"]'
    expected = [*[INVALID_REQUEST] * 5, invalid_request('"x"'), INVALID_REQUEST]
    assert answer(batch) == f"[{','.join(expected)}]"


def test_batch_that_is_no_json_is_one_parse_error() -> None:
    assert answer(f'[{request("nothing")},{{"jsonrpc":"2.0","method"]') == PARSE_ERROR
    assert answer(f"[{request('nothing')},]") == PARSE_ERROR


def test_long_batch_lets_others_have_their_turn() -> None:
    async def scenario() -> list[str]:
        order = []
        other = asyncio.get_running_loop().create_task(asyncio.sleep(0))
        other.add_done_callback(lambda _: order.append("other"))
        await Dispatcher(METHODS).answer(f"[{','.join([request('nothing')] * (MEMBERS_PER_TURN * 4))}]")
        return [*order, "batch"]

    assert asyncio.run(scenario()) == ["other", "batch"]


# Strings


@pytest.mark.parametrize("text", ["", "plain", 'q"\\\n\x00\x1f\x7f', "é漢😀\u2028", "x" * 10_000])
def test_string_is_rendered_as_json(text: str) -> None:
    assert json.loads(json_string(text)) == text


def test_surrogates_of_a_string_are_replaced() -> None:
    assert json_string("a\udc80\ud83d\ude00é") == '"a\ufffd\ufffd\ufffdé"'


# Whatever comes


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def assert_response(response: Any) -> None:
    assert response["jsonrpc"] == "2.0"
    assert response["id"] is None or type(response["id"]) in (int, str)
    if "error" not in response:
        assert set(response) == {"jsonrpc", "id", "result"}
        return
    assert set(response) == {"jsonrpc", "id", "error"}
    error = response["error"]
    assert set(error) == {"code", "message", "data"} if error["code"] == -32602 else {"code", "message"}
    assert error["code"] in {-32700, -32600, -32601, -32602}
    for problem in error.get("data", ()):
        assert set(problem) == {"parameter", "reason"}


def assert_answer(text: str | None) -> None:
    if text is None:
        return
    parsed = json.loads(text, parse_constant=no_constant)
    json.dumps(parsed, ensure_ascii=False).encode()  # raises on a surrogate, which may have been escaped
    assert parsed != []
    for response in parsed if isinstance(parsed, list) else [parsed]:
        assert_response(response)


any_text = st.text(st.characters(exclude_categories=()))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(any_text, children, max_size=4),
    max_leaves=8,
)
harmless = st.sampled_from([method.name for method in METHODS[:6]])
requests = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | json_values,
        "id": json_values,
        "method": harmless | json_values,
        "params": json_values
        | st.dictionaries(st.sampled_from(["sessionId", "entryId", "encoding", "count"]), json_values)
        | st.lists(json_values, max_size=4),
    },
)
messages = st.builds(json.dumps, json_values | requests | st.lists(requests, max_size=3), ensure_ascii=st.booleans())


@st.composite
def mutated_messages(draw: st.DrawFn) -> str:
    text = draw(messages)
    start, end = sorted(draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    return text[:start] + draw(any_text | st.sampled_from(r'{}[]",:\0-eE')) + text[end:]


@settings(deadline=None)
@given(any_text)
def test_any_text_has_an_answer_of_the_right_shape(text: str) -> None:
    assert_answer(answer(text))


@settings(deadline=None)
@given(messages)
def test_any_json_has_an_answer_of_the_right_shape(text: str) -> None:
    assert_answer(answer(text))


@settings(deadline=None)
@given(mutated_messages())
def test_any_damaged_json_has_an_answer_of_the_right_shape(text: str) -> None:
    assert_answer(answer(text))


@settings(deadline=None)
@given(st.none() | st.integers() | st.text(), st.booleans(), st.text(), st.text())
def test_any_valid_request_is_answered_under_its_id(identity: object, ascii_: bool, session: str, entry: str) -> None:
    object_ = {"jsonrpc": "2.0", "id": identity, "method": "entry", "params": [session, entry]}
    expected = {"jsonrpc": "2.0", "id": identity, "result": f"{session}/{entry}"}
    assert json.loads(answer(json.dumps(object_, ensure_ascii=ascii_)) or "") == expected
