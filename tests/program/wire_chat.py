"""OpenAI's `POST /v1/chat/completions` and what compatible servers make of it: refuses what they refuse, answers in
their exact shape, also streamed.

Refused are calls without their tool messages right behind them, tool messages without a call, other messages between,
arguments that are no JSON text, unknown fields, and options that need others (`tool_choice` without tools,
`stream_options` without a stream). Unknown fields of an answer must come back as they were sent, or not at all;
`extra_content` of a call must come back.
"""

import json
import re

from modelwire import (BAD_KEY, NO_SUCH_MODEL, Refused, View, canon, compact, data_url, in_turns, mark, pieces,
                       thoughts, usage_of, web_url)
from wire_responses import Responses, not_strict

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


class Chat:
    name = "openai-chat"
    fields = set("""model messages tools tool_choice parallel_tool_calls max_tokens max_completion_tokens
        reasoning_effort verbosity response_format temperature top_p presence_penalty frequency_penalty logprobs
        top_logprobs logit_bias stop seed n stream stream_options user metadata store service_tier safety_identifier
        prompt_cache_key prompt_cache_options prediction modalities audio""".split())
    kinds = {"messages": list, "tools": list, "parallel_tool_calls": bool, "max_tokens": int, "seed": int, "n": int,
             "max_completion_tokens": int, "stream": bool, "stream_options": dict, "response_format": dict,
             "metadata": dict, "reasoning_effort": str, "verbosity": str}
    message_fields = {
        "system": set("role content name".split()), "developer": set("role content name".split()),
        "user": set("role content name".split()), "tool": set("role content tool_call_id".split()),
        "assistant": set("role content name refusal audio annotations tool_calls".split()),
    }
    errors = Responses.errors

    def __init__(self):
        self.given = set()  # ids of calls that were made here: those of others must be short
        self.extras = set() # (unknown field of a message, its value) that were sent
        self.of_calls = {}  # id of a call -> its unknown fields; None where several calls had that id

    def error(self, status, message=None, code=None, param=None, kind=None, **_):
        known = self.errors.get(status, ("server_error" if status >= 500 else "invalid_request_error", None))
        return {"error": {"message": message or "Scripted failure with status %d." % status,
                          "type": kind or known[0], "param": param, "code": code or known[1]}}

    def refuse(self, message, code=None, param=None, status=400):
        raise Refused(status, self.error(status, message, code, param, "invalid_request_error"))

    def check_key(self, headers):
        given = headers.get("authorization", "")
        key = given[7:].strip() if given.startswith("Bearer ") else headers.get("api-key", "")
        if not key:
            raise Refused(401, {"error": {"message": "You didn't provide an API key.", "param": None, "code": None,
                                          "type": "invalid_request_error"}})
        if key == BAD_KEY:
            self.refuse("Incorrect API key provided: %s." % BAD_KEY, "invalid_api_key", None, 401)

    def check(self, _model, headers, body):
        self.check_key(headers)
        if not isinstance(body, dict):
            self.refuse("Invalid type for request body: expected an object.", "invalid_type")
        self.only(body, self.fields, "")
        model = body.get("model")
        if not isinstance(model, str) or not model:
            self.refuse("you must provide a model parameter", "missing_required_parameter", "model")
        if model == NO_SUCH_MODEL:
            self.refuse("The model `%s` does not exist or you do not have access to it." % model, "model_not_found",
                        None, 404)
        view = View(self.name, model, body)
        view.stream = bool(body.get("stream"))
        self.check_settings(body)
        self.check_tools(body, view)
        self.check_messages(body.get("messages"), view)
        return view

    def only(self, value, allowed, at):
        if not isinstance(value, dict):
            self.refuse("Invalid type for '%s': expected an object." % at, "invalid_type", at)
        for key in value:
            if key not in allowed:
                path = "%s.%s" % (at, key) if at else key
                self.refuse("Unknown parameter: '%s'." % path, "unknown_parameter", path)

    def check_settings(self, body):
        for key, kind in self.kinds.items():
            value = body.get(key)
            if value is not None and (not isinstance(value, kind) or kind is int and isinstance(value, bool)):
                self.refuse("Invalid type for '%s'." % key, "invalid_type", key)
        if body.get("stream_options") is not None:
            if not body.get("stream"):
                self.refuse("The 'stream_options' parameter is only allowed when 'stream' is enabled.", None,
                            "stream_options")
            self.only(body["stream_options"], ("include_usage", "include_obfuscation"), "stream_options")
        if "max_tokens" in body and "max_completion_tokens" in body:
            self.refuse("Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
                        "invalid_parameter_combination", "max_tokens")
        for key, allowed in (("reasoning_effort", EFFORTS), ("verbosity", ("low", "medium", "high"))):
            if body.get(key) is not None and body[key] not in allowed:
                self.refuse("Invalid value: '%s'." % body[key], "invalid_value", key)
        if isinstance(body.get("stop"), list) and len(body["stop"]) > 4:
            self.refuse("Invalid 'stop': array too long.", "array_above_max_length", "stop")
        self.check_format(body.get("response_format") or {"type": "text"})

    def check_format(self, form):
        if form.get("type") not in ("text", "json_object", "json_schema"):
            self.refuse("Invalid value: '%s'." % form.get("type"), "invalid_value", "response_format.type")
        self.only(form, ("type", "json_schema"), "response_format")
        if form["type"] == "json_schema":
            inner = form.get("json_schema")
            self.only(inner, ("name", "description", "schema", "strict"), "response_format.json_schema")
            self.check_name(inner.get("name"), "response_format.json_schema.name")
            why = not_strict(inner.get("schema"), "()") if inner.get("strict") else None
            if why:
                self.refuse("Invalid schema for response_format '%s': %s" % (inner["name"], why), None,
                            "response_format")

    def check_tools(self, body, view):
        if body.get("tools") == [] or "tools" in body and body["tools"] is None:
            self.refuse("Invalid 'tools': empty array. Expected an array with minimum length 1.",
                        "empty_array", "tools")
        for key in ("tool_choice", "parallel_tool_calls"):
            if key in body and "tools" not in body:
                self.refuse("Invalid value for '%s': '%s' is only allowed when 'tools' are specified." % (key, key),
                            None, key)
        for i, tool in enumerate(body.get("tools", [])):
            at = "tools[%d]" % i
            self.only(tool, ("type", "function"), at)
            if tool.get("type") != "function":
                self.refuse("Invalid value for '%s.type'." % at, "invalid_value", at + ".type")
            inner = tool.get("function")
            self.only(inner, ("name", "description", "parameters", "strict"), at + ".function")
            self.check_name(inner.get("name"), at + ".function.name")
            if inner["name"] in view.tools:
                self.refuse("Duplicate tool name '%s'." % inner["name"], "invalid_value", at + ".function.name")
            schema = inner.get("parameters", {})
            if not isinstance(schema, dict) or schema.get("type") != "object":
                self.refuse("Invalid schema for function '%s': schema must be a JSON Schema of 'type: \"object\"'."
                            % inner["name"], "invalid_function_parameters", at + ".function.parameters")
            why = not_strict(schema, "()") if inner.get("strict") else None
            if why:
                self.refuse("Invalid schema for function '%s': %s" % (inner["name"], why),
                            "invalid_function_parameters", at + ".function.parameters")
            view.tools.append(inner["name"])
        if len(view.tools) > 128:
            self.refuse("Invalid 'tools': array too long.", "array_above_max_length", "tools")
        choice = body.get("tool_choice", "auto")
        if isinstance(choice, str) and choice not in ("auto", "none", "required"):
            self.refuse("Invalid value: '%s'." % choice, "invalid_value", "tool_choice")
        if isinstance(choice, dict) and choice.get("type") == "function":
            if (choice.get("function") or {}).get("name") not in view.tools:
                self.refuse("Tool choice '%s' not found in 'tools' parameter." % choice, None, "tool_choice")

    def check_name(self, name, at):
        if not isinstance(name, str) or not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
            self.refuse("Invalid '%s': string does not match pattern. Expected a string that matches the pattern "
                        "'^[a-zA-Z0-9_-]+$'." % at, "invalid_value", at)

    def check_messages(self, messages, view):
        if not isinstance(messages, list) or not messages:
            self.refuse("Invalid 'messages': empty array.", "empty_array", "messages")
        waiting, before = [], None      # ids of calls that have no tool message yet; the role before
        for i, message in enumerate(messages):
            at = "messages[%d]" % i
            role = message.get("role") if isinstance(message, dict) else None
            if role not in self.message_fields:
                self.refuse("Invalid value: '%s'." % role, "invalid_value", at + ".role")
            if waiting and role != "tool":
                self.unanswered(waiting)
            if role == "tool":
                self.check_tool(message, at, waiting)
                view.outputs.append(self.text(message["content"], ("text",), at))
            elif role == "assistant":
                waiting = self.check_assistant(message, at)
                view.answers += before != "assistant"
                view.outputs = []
            else:
                self.only(message, self.message_fields[role], at)
                text = self.text(message.get("content"), ("text", "image_url", "input_audio", "file")
                                 if role == "user" else ("text",), at)
                if role == "user":
                    view.users.append(text)
                else:
                    view.instructions += text
            before = role
        if waiting:
            self.unanswered(waiting)

    def unanswered(self, ids):
        self.refuse("An assistant message with 'tool_calls' must be followed by tool messages responding to each "
                    "'tool_call_id'. The following tool_call_ids did not have response messages: %s" % ", ".join(ids),
                    None, "messages")

    def check_tool(self, message, at, waiting):
        self.only(message, self.message_fields["tool"], at)
        if message.get("tool_call_id") not in waiting:
            self.refuse("Invalid parameter: messages with role 'tool' must be a response to a preceding message with "
                        "'tool_calls'. (%s)" % message.get("tool_call_id"), None, at + ".role")
        waiting.remove(message["tool_call_id"])

    def text(self, content, allowed, at):
        """The text of a message's content, which is checked."""
        if isinstance(content, str):
            return content
        if not isinstance(content, list) or not content:
            self.refuse("Invalid value for 'content': expected a string, got null.", "invalid_type", at + ".content")
        texts = []
        for k, part in enumerate(content):
            here = "%s.content[%d]" % (at, k)
            kind = part.get("type")
            if kind not in allowed:
                self.refuse("Invalid value: '%s'. Supported values are: %s." % (kind, ", ".join(allowed)),
                            "invalid_value", here)
            self.only(part, ("type", kind), here)
            if kind == "text":
                if not isinstance(part.get("text"), str):
                    self.refuse("Missing required parameter: '%s.text'." % here, "missing_required_parameter", here)
                texts.append(part["text"])
            else:
                self.check_media(kind, part.get(kind), here)
        return "".join(texts)

    def check_media(self, kind, value, at):
        if kind == "image_url":
            self.only(value, ("url", "detail"), at)
            found = data_url(value.get("url"))
            if not web_url(value.get("url")) and not (found and found[0].startswith("image/")):
                self.refuse("Invalid MIME type or URL at '%s.url'. Only image types are supported." % at,
                            "invalid_image_format", at)
        elif kind == "file":
            self.only(value, ("filename", "file_data", "file_id"), at)
            if not value.get("file_id") and not (data_url(value.get("file_data")) and value.get("filename")):
                self.refuse("Invalid '%s.file_data': expected a base64-encoded data URL and a 'filename'." % at,
                            "invalid_value", at)

    def check_assistant(self, message, at):
        """The ids of its calls, in order."""
        calls = message.get("tool_calls")
        if calls is not None and (not isinstance(calls, list) or not calls):
            self.refuse("Invalid '%s.tool_calls': empty array." % at, "empty_array", at + ".tool_calls")
        if message.get("content") is not None:
            self.text(message["content"], ("text", "refusal"), at)
        elif not calls and not message.get("refusal"):
            self.refuse("Invalid value for 'content': expected a string, got null.", "invalid_type", at + ".content")
        ids = []
        for k, call in enumerate(calls or []):
            here = "%s.tool_calls[%d]" % (at, k)
            inner = call.get("function")
            if call.get("type") != "function" or not isinstance(inner, dict):
                self.refuse("Invalid value for '%s.type'." % here, "invalid_value", here)
            self.only(inner, ("name", "arguments"), here + ".function")
            self.check_name(inner.get("name"), here + ".function.name")
            length = len(call["id"]) if isinstance(call.get("id"), str) and call["id"] not in ids else 0
            if not 1 <= length or length > 64 and call["id"] not in self.given:
                self.refuse("Invalid '%s.id': expected a unique string of 1 to 64 characters." % here,
                            "invalid_value", here + ".id")
            try:
                good = isinstance(json.loads(inner.get("arguments")), dict)
            except (ValueError, TypeError):
                good = False
            if not good:
                self.refuse("invalid tool call arguments (%s)" % here, "invalid_value", here + ".function.arguments")
            ids.append(call["id"])
        self.check_extras(message, calls or [], at)
        return ids

    def check_extras(self, message, calls, at):
        """Unknown fields of a message are those of an answer, if any; those of a call come back always."""
        for key, value in message.items():
            if key not in self.message_fields["assistant"] and (key, canon(value)) not in self.extras:
                self.refuse("Unknown parameter: '%s.%s'." % (at, key), "unknown_parameter", at)
        for call in calls:
            sent = self.of_calls.get(call["id"], {})
            got = {key: value for key, value in call.items() if key not in ("id", "type", "function")}
            if sent is not None and canon(got) != canon(sent):
                self.refuse("Function call is missing a thought_signature, or has unknown fields: %s" % at, None, at)

    def remember(self, answer):
        for choice in (answer.get("choices") or []) if isinstance(answer, dict) else []:
            message = choice.get("message") or {}
            calls = message.get("tool_calls") or []
            self.extras.update((k, canon(v)) for k, v in message.items()
                               if k not in self.message_fields["assistant"])
            for call in calls:
                given = call.get("id")
                extra = {k: v for k, v in call.items() if k not in ("id", "type", "function", "index")}
                self.of_calls[given] = None if given in self.given else extra
                self.given.add(given)

    def remember_stream(self, values):
        message, calls = {}, []
        for value in values:
            for choice in value.get("choices") or []:
                delta = choice.get("delta") or {}
                for key, item in delta.items():
                    if key not in self.message_fields["assistant"]:
                        message[key] = message[key] + item if isinstance(message.get(key), str) else item
                calls += [call for call in delta.get("tool_calls") or [] if call.get("id")]
        self.remember({"choices": [{"message": {**message, "tool_calls": calls}}]})

    # -- answers ----------------------------------------------------------

    def answer(self, reply, view, turn):
        if reply.get("stop") == "failed":
            return self.error(502, reply.get("text", "The upstream server had an error."))
        tag, stop, calls = mark(view, turn), reply.get("stop", "end"), []
        for k, call in enumerate(reply.get("calls", [])):
            item = {"id": call.get("id", "call_%s%d" % (tag, k)), "type": "function", "function": {
                "name": call["name"],
                "arguments": call["args_text"] if "args_text" in call else compact(call.get("args", {}))}}
            if item["id"] is None:
                del item["id"]
            if "extra" in call:
                item["extra_content"] = call["extra"]
            calls.append(item)
        message = {"role": "assistant", "content": reply.get("text"), "refusal": None, "annotations": []}
        if stop == "refusal":
            message.update(content=None, refusal=reply.get("text", "I can't help with that."))
        if isinstance(reply.get("reasoning"), str):
            message["reasoning_content"] = thoughts(reply, turn)
        if calls:
            message["tool_calls"] = calls
        reason = {"length": "length", "filter": "content_filter"}.get(stop, "tool_calls" if calls else "stop")
        count = usage_of(reply, view)
        return {"id": "chatcmpl-" + tag, "object": "chat.completion", "created": 1760000000, "model": view.model,
                "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
                "usage": {"prompt_tokens": count["input"], "completion_tokens": count["output"],
                          "total_tokens": count["input"] + count["output"],
                          "prompt_tokens_details": {"cached_tokens": count["cached"]},
                          "completion_tokens_details": {"reasoning_tokens": count["reasoning"]}}}

    def events(self, value, reply, view):
        if not isinstance(value, dict) or not value.get("choices"):
            return [(None, value), (None, "[DONE]")]
        choice, usage = value["choices"][0], (view.body.get("stream_options") or {}).get("include_usage")
        head = {key: value[key] for key in ("id", "created", "model") if key in value}
        head = {**head, "object": "chat.completion.chunk"}
        if usage:
            head["usage"] = None

        def chunk(delta, reason=None):
            return None, {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None,
                                               "finish_reason": reason}]}

        found = [chunk(delta) for delta in self.deltas(choice["message"], reply)]
        found.append(chunk({}, choice.get("finish_reason")))
        if usage:
            found.append((None, {**head, "choices": [], "usage": value.get("usage")}))
        return found + [(None, "[DONE]")]

    def deltas(self, message, reply):
        size = reply.get("pieces")
        yield {"role": "assistant", "content": ""}
        for key, value in message.items():
            if key in ("reasoning_content", "reasoning", "content", "refusal") and isinstance(value, str):
                for piece in pieces(value, size):
                    yield {key: piece}
            elif key not in self.message_fields["assistant"]:
                yield {key: value}
        runs = []
        for k, call in enumerate(message.get("tool_calls") or []):
            inner = call["function"]
            first = {"index": k, **call, "function": {"name": inner["name"], "arguments": ""}}
            runs.append([first] + [{"index": k, "function": {"arguments": piece}}
                                   for piece in pieces(inner["arguments"], size)])
        for entry in in_turns(runs) if reply.get("interleave") else [entry for run in runs for entry in run]:
            yield {"tool_calls": [entry]}

    def ends(self, events):
        """The finish reason, usage and the end line: without all of them the end is no end."""
        for n, (_, value) in enumerate(events):
            if isinstance(value, dict) and any(c.get("finish_reason") for c in value.get("choices", [])):
                return len(events) - n
        return 1

    def ping(self, view):
        return None, {"id": "chatcmpl-" + mark(view, view.answers), "object": "chat.completion.chunk",
                      "created": 1760000000, "model": view.model, "choices": []}

    def failure(self, error, _view):
        """error.form: "event", "choice" (OpenRouter) or "bare" (Ollama: a line that is no event)."""
        value = self.error(error.get("status", 500), error.get("message"), error.get("code"))
        form = error.get("form", "event")
        if form == "bare":
            return [compact({"error": value["error"]["message"]})]
        if form == "choice":
            value["error"]["code"] = error.get("status", 500)
            value["choices"] = [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]
        return [(None, value)]

    def models(self, names, query):
        return Responses().models(names, query)
