"""OpenAI's `POST /v1/responses`: refuses what the real service refuses, answers in its exact shape, also streamed.

Refused are calls and outputs that do not pair, reasoning items that were lost, altered or cut from what they led to,
unknown fields and item types, bad names, and schemas that are no object or break `strict`.
"""

import re

from modelwire import (BAD_KEY, NO_SUCH_MODEL, Refused, View, canon, compact, data_url, in_turns, mark, pieces,
                       thoughts, usage_of, web_url)

STRICT_BANNED = set("""allOf oneOf not if then else dependentRequired dependentSchemas dependencies
    patternProperties propertyNames unevaluatedItems unevaluatedProperties additionalItems prefixItems contains
    minContains maxContains uniqueItems minProperties maxProperties""".split())


def not_strict(schema, path):
    """Why a schema is outside the strict subset, or None."""
    if not isinstance(schema, dict):
        return "%s is not an object" % path
    for key in schema:
        if key in STRICT_BANNED:
            return "In context=%s, '%s' is not permitted." % (path, key)
    if schema.get("type") == "object" or "properties" in schema:
        if schema.get("additionalProperties") is not False:
            return "In context=%s, 'additionalProperties' is required to be supplied and to be false." % path
        missing = set(schema.get("properties", {})) - set(schema.get("required", []))
        if missing:
            return "In context=%s, 'required' is required to be supplied and to be an array including every " \
                   "key in properties. Missing '%s'." % (path, sorted(missing)[0])
    below = [("properties.%s" % k, v) for k, v in schema.get("properties", {}).items()]
    below += [("items", schema["items"])] if "items" in schema else []
    below += [("anyOf[%d]" % i, v) for i, v in enumerate(schema.get("anyOf", []))]
    below += [("$defs.%s" % k, v) for k, v in schema.get("$defs", {}).items()]
    for name, part in below:
        why = not_strict(part, "%s.%s" % (path, name))
        if why:
            return why
    return None


class Responses:
    name = "openai"
    fields = set("""model input instructions tools tool_choice parallel_tool_calls max_output_tokens max_tool_calls
        reasoning text store include stream stream_options temperature top_p truncation metadata safety_identifier
        prompt_cache_key prompt_cache_options service_tier background previous_response_id conversation user
        """.split())
    item_fields = {
        "message": set("type role content id status phase".split()),
        "reasoning": set("type id summary encrypted_content content status".split()),
        "function_call": set("type id call_id name arguments status caller namespace".split()),
        "function_call_output": set("type id call_id output status caller".split()),
    }
    part_fields = {
        "input_text": ("type", "text"), "input_image": ("type", "image_url", "detail", "file_id"),
        "input_file": ("type", "filename", "file_data", "file_url", "file_id", "detail"),
        "output_text": ("type", "text", "annotations", "logprobs"), "refusal": ("type", "refusal"),
    }
    id_starts = {"message": "msg", "reasoning": "rs", "function_call": "fc", "function_call_output": "fc"}
    errors = {400: ("invalid_request_error", None), 401: ("invalid_request_error", "invalid_api_key"),
              403: ("invalid_request_error", "unsupported_country_region_territory"),
              404: ("invalid_request_error", "model_not_found"), 408: ("timeout", None), 409: ("conflict", None),
              429: ("requests", "rate_limit_exceeded"),
              500: ("server_error", None), 503: ("server_error", "slow_down")}

    def __init__(self):
        self.sent = {}      # id of a reasoning item -> (canonical text, id of the item after it)
        self.led_by = {}    # id of a function call -> id of the reasoning item before it

    def error(self, status, message=None, code=None, param=None, kind=None, **_):
        known = self.errors.get(status, ("server_error" if status >= 500 else "invalid_request_error", None))
        return {"error": {"message": message or "Scripted failure with status %d." % status,
                          "type": kind or known[0], "param": param, "code": code or known[1]}}

    def refuse(self, message, code=None, param=None, status=400):
        raise Refused(status, self.error(status, message, code, param, "invalid_request_error"))

    def check_key(self, headers):
        given = headers.get("authorization", "")
        if not given.startswith("Bearer ") or not given[7:].strip():
            raise Refused(401, {"error": {
                "message": "You didn't provide an API key. You need to provide your API key in an Authorization "
                           "header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
                "type": "invalid_request_error", "param": None, "code": None}})
        if given[7:] == BAD_KEY:
            self.refuse("Incorrect API key provided: %s. You can find your API key at "
                        "https://platform.openai.com/account/api-keys." % BAD_KEY, "invalid_api_key", None, 401)

    def check(self, _model, headers, body):
        self.check_key(headers)
        if not isinstance(body, dict):
            self.refuse("Invalid type for request body: expected an object.", "invalid_type")
        for key in body:
            if key not in self.fields:
                self.refuse("Unknown parameter: '%s'." % key, "unknown_parameter", key)
        model = body.get("model")
        if not isinstance(model, str) or not model:
            self.refuse("Missing required parameter: 'model'.", "missing_required_parameter", "model")
        if model == NO_SUCH_MODEL:
            self.refuse("The model `%s` does not exist or you do not have access to it." % model,
                        "model_not_found", None, 404)
        view = View(self.name, model, body)
        view.stream = bool(body.get("stream"))
        self.check_settings(body)
        self.check_tools(body, view)
        self.check_input(body, view)
        return view

    def check_settings(self, body):
        kinds = {"instructions": str, "parallel_tool_calls": bool, "store": bool, "include": list, "text": dict,
                 "stream": bool, "stream_options": dict,
                 "reasoning": dict, "metadata": dict, "max_output_tokens": int}
        for key, kind in kinds.items():
            value = body.get(key)
            if value is not None and (not isinstance(value, kind) or kind is int and isinstance(value, bool)):
                self.refuse("Invalid type for '%s'." % key, "invalid_type", key)
        if (body.get("max_output_tokens") or 16) < 16:
            self.refuse("Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got "
                        "%d instead." % body["max_output_tokens"], "integer_below_min_value", "max_output_tokens")
        if body.get("stream_options") is not None and not body.get("stream"):
            self.refuse("The 'stream_options' parameter is only allowed when 'stream' is enabled.", None,
                        "stream_options")
        if body.get("previous_response_id") is not None:
            self.refuse("Previous response with id '%s' not found." % body["previous_response_id"],
                        "previous_response_not_found", "previous_response_id")
        if "format" in (body.get("text") or {}):
            kind = body["text"]["format"].get("type")
            if kind not in ("text", "json_object", "json_schema"):
                self.refuse("Invalid value: '%s'." % kind, "invalid_value", "text.format.type")

    def check_tools(self, body, view):
        for i, tool in enumerate(body.get("tools") or []):
            at = "tools[%d]" % i
            if not isinstance(tool, dict) or tool.get("type") != "function":
                self.refuse("Invalid value for '%s.type'." % at, "invalid_value", at + ".type")
            for key in tool:
                if key not in ("type", "name", "description", "parameters", "strict"):
                    self.refuse("Unknown parameter: '%s.%s'." % (at, key), "unknown_parameter", at + "." + key)
            if "name" not in tool:
                self.refuse("Missing required parameter: '%s.name'." % at, "missing_required_parameter", at + ".name")
            self.check_name(tool["name"], at + ".name")
            if tool["name"] in view.tools:
                self.refuse("Duplicate tool name '%s'." % tool["name"], "invalid_value", at + ".name")
            self.check_schema(tool, at)
            view.tools.append(tool["name"])
        choice = body.get("tool_choice", "auto")
        if isinstance(choice, str) and choice not in ("auto", "none", "required"):
            self.refuse("Invalid value: '%s'." % choice, "invalid_value", "tool_choice")
        if isinstance(choice, dict) and choice.get("type") == "function" and choice.get("name") not in view.tools:
            self.refuse("Tool choice '%s' not found in 'tools' parameter." % choice.get("name"), None, "tool_choice")

    def check_name(self, name, at):
        if not isinstance(name, str) or not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
            self.refuse("Invalid '%s': string does not match pattern. Expected a string that matches the pattern "
                        "'^[a-zA-Z0-9_-]+$'." % at, "invalid_value", at)

    def check_schema(self, tool, at):
        schema = tool.get("parameters")
        if schema is None:
            return
        if not isinstance(schema, dict) or schema.get("type") != "object":
            kind = schema.get("type") if isinstance(schema, dict) else type(schema).__name__
            self.refuse("Invalid schema for function '%s': schema must be a JSON Schema of 'type: \"object\"', got "
                        "'type: \"%s\"'." % (tool["name"], kind), "invalid_function_parameters", at + ".parameters")
        why = not_strict(schema, "()") if tool.get("strict") else None
        if why:
            self.refuse("Invalid schema for function '%s': %s" % (tool["name"], why),
                        "invalid_function_parameters", at + ".parameters")

    def check_input(self, body, view):
        items = body.get("input")
        if isinstance(items, str):
            items = [{"role": "user", "content": items}]
        if not isinstance(items, list) or not items:
            self.refuse("Missing required parameter: 'input'.", "missing_required_parameter", "input")
        view.instructions = body.get("instructions") or ""
        calls, outputs, seen_ids, in_answer = {}, {}, set(), False
        for i, item in enumerate(items):
            kind = self.check_item(item, "input[%d]" % i, body.get("store") is False)
            answer = kind in ("reasoning", "function_call") or item.get("role") == "assistant"
            if answer and not in_answer:
                view.answers += 1
                view.outputs = []
            in_answer = answer
            if kind == "function_call":
                if item["call_id"] in calls:
                    self.refuse("Duplicate function call with call_id %s." % item["call_id"], None, "input")
                calls[item["call_id"]] = i
            elif kind == "function_call_output":
                self.check_pair(item, calls, outputs)
                view.outputs.append(item["output"] if isinstance(item["output"], str) else compact(item["output"]))
            elif kind == "message" and item["role"] == "user":
                view.users.append(item["content"] if isinstance(item["content"], str) else
                                  "".join(p.get("text", "") for p in item["content"]))
            if item.get("id") is not None:
                if item["id"] in seen_ids:
                    self.refuse("Duplicate item found with id %s. Remove duplicate items from your input and try "
                                "again." % item["id"], None, "input")
                seen_ids.add(item["id"])
            self.check_reasoning(kind, item, items[i + 1] if i + 1 < len(items) else {}, seen_ids)
        for call_id in calls:
            if call_id not in outputs:
                self.refuse("No tool output found for function call %s." % call_id, None, "input")

    def check_pair(self, item, calls, outputs):
        if item["call_id"] not in calls:
            self.refuse("No tool call found for function call output with call_id %s." % item["call_id"],
                        None, "input")
        if item["call_id"] in outputs:
            self.refuse("Duplicate function call output with call_id %s." % item["call_id"], None, "input")
        outputs[item["call_id"]] = True

    def check_item(self, item, at, stateless):
        if not isinstance(item, dict):
            self.refuse("Invalid type for '%s': expected an object." % at, "invalid_type", at)
        kind = item.get("type", "message" if "role" in item else None)
        if kind not in self.item_fields:
            self.refuse("Invalid value: '%s'. Supported values are: %s." % (
                kind, ", ".join("'%s'" % k for k in self.item_fields)), "invalid_value", at + ".type")
        for key in item:
            if key not in self.item_fields[kind]:
                self.refuse("Unknown parameter: '%s.%s'." % (at, key), "unknown_parameter", "%s.%s" % (at, key))
        given = item.get("id")
        if given is not None and not (isinstance(given, str) and given.startswith(self.id_starts[kind])):
            self.refuse("Invalid '%s.id': '%s'. Expected an ID that begins with '%s'." % (
                at, given, self.id_starts[kind]), "invalid_value", at + ".id")
        if kind == "message":
            self.check_message(item, at)
        elif kind == "reasoning":
            if not isinstance(item.get("summary"), list) or given is None:
                self.refuse("Missing required parameter: '%s.summary' or '%s.id'." % (at, at),
                            "missing_required_parameter", at)
            if stateless and not item.get("encrypted_content"):
                self.refuse("Item with id '%s' not found. Items are not persisted when `store` is set to false. Try "
                            "again with `store` set to true, or remove this item from your input." % given,
                            None, "input", 404)
        else:
            self.check_call(item, kind, at)
        return kind

    def check_call(self, item, kind, at):
        for key in ("call_id", "name", "arguments") if kind == "function_call" else ("call_id", "output"):
            if item.get(key) is None:
                self.refuse("Missing required parameter: '%s.%s'." % (at, key), "missing_required_parameter",
                            "%s.%s" % (at, key))
        if not isinstance(item["call_id"], str) or not 1 <= len(item["call_id"]) <= 64:
            self.refuse("Invalid '%s.call_id': expected a string of 1 to 64 characters." % at,
                        "string_above_max_length", at + ".call_id")
        if kind == "function_call":
            self.check_name(item["name"], at + ".name")
            if not isinstance(item["arguments"], str):
                self.refuse("Invalid type for '%s.arguments': expected a string." % at, "invalid_type",
                            at + ".arguments")
        elif isinstance(item["output"], list):
            for part in item["output"]:
                if part.get("type") not in ("input_text", "input_image", "input_file"):
                    self.refuse("Invalid value: '%s'." % part.get("type"), "invalid_value", at + ".output")
        elif not isinstance(item["output"], str):
            self.refuse("Invalid type for '%s.output': expected one of an array of objects or string." % at,
                        "invalid_type", at + ".output")

    def check_message(self, item, at):
        role, content = item.get("role"), item.get("content")
        if role not in ("user", "assistant", "system", "developer"):
            self.refuse("Invalid value: '%s'." % role, "invalid_value", at + ".role")
        if isinstance(content, str):
            return
        if not isinstance(content, list):
            self.refuse("Invalid type for '%s.content'." % at, "invalid_type", at + ".content")
        allowed = ("output_text", "refusal") if role == "assistant" else ("input_text", "input_image", "input_file")
        for k, part in enumerate(content):
            if part.get("type") not in allowed:
                self.refuse("Invalid value: '%s'. Supported values are: %s." % (
                    part.get("type"), " and ".join("'%s'" % a for a in allowed)), "invalid_value",
                    "%s.content[%d]" % (at, k))
            self.check_part(part, "%s.content[%d]" % (at, k))

    def check_part(self, part, at):
        kind = part["type"]
        for key in part:
            if key not in self.part_fields[kind]:
                self.refuse("Unknown parameter: '%s.%s'." % (at, key), "unknown_parameter", "%s.%s" % (at, key))
        if kind in ("input_text", "output_text") and not isinstance(part.get("text"), str):
            self.refuse("Missing required parameter: '%s.text'." % at, "missing_required_parameter", at + ".text")
        if kind == "input_image" and not part.get("file_id"):
            found = data_url(part.get("image_url"))
            if not web_url(part.get("image_url")) and not (found and found[0].startswith("image/")):
                self.refuse("Invalid '%s.image_url'. Expected a valid URL, but got a value with an invalid format."
                            % at, "invalid_value", at + ".image_url")
        if kind == "input_file" and not part.get("file_id") and not web_url(part.get("file_url")):
            if not data_url(part.get("file_data")) or not part.get("filename"):
                self.refuse("Invalid '%s.file_data'. Expected a base64-encoded data URL and a 'filename'." % at,
                            "invalid_value", at + ".file_data")

    def check_reasoning(self, kind, item, following, seen_ids):
        given = item.get("id")
        if kind == "reasoning":
            text, after = self.sent.get(given, (None, None))
            if text != canon(item):
                self.refuse("The encrypted content for item %s could not be verified. Reason: Encrypted content "
                            "could not be decrypted or parsed." % given, "invalid_encrypted_content")
            if after is not None and following.get("id") != after:
                self.refuse("Item '%s' of type 'reasoning' was provided without its required following item."
                            % given, None, "input")
        elif self.led_by.get(given) and self.led_by[given] not in seen_ids:
            self.refuse("Item '%s' of type 'function_call' was provided without its required 'reasoning' item: "
                        "'%s'." % (given, self.led_by[given]), None, "input")

    def remember(self, answer):
        """Keeps what an answer obliges the client to send back, also when the script wrote the answer itself."""
        output = answer.get("output") if isinstance(answer, dict) else None
        lead = None
        for i, item in enumerate(output if isinstance(output, list) else []):
            if item.get("type") == "reasoning":
                lead = item.get("id")
                after = output[i + 1].get("id") if i + 1 < len(output) else None
                self.sent[lead] = (canon(item), after)
            elif item.get("type") == "function_call" and lead:
                self.led_by[item.get("id")] = lead

    def remember_stream(self, values):
        values = list(values)
        self.remember({"output": [v["item"] for v in values if v.get("type") == "response.output_item.done"]})
        for value in values:
            self.remember(value.get("response"))

    def answer(self, reply, view, turn):
        tag, output, stop = mark(view, turn), [], reply.get("stop", "end")
        calls = reply.get("calls", [])
        thought = thoughts(reply, turn)
        if thought is not None:
            summary = [{"type": "summary_text", "text": thought}] if thought else []
            output.append({"id": "rs_" + tag, "type": "reasoning", "summary": summary,
                           "encrypted_content": "gAAAAAB%s-golden/blob+%s==" % (tag, tag)})
        part = self.text_part(reply, stop)
        if part:
            output.append({"id": "msg_" + tag, "type": "message", "status": "completed", "role": "assistant",
                           "phase": "commentary" if calls else "final_answer", "content": [part]})
        for k, call in enumerate(calls):
            item = {"id": "fc_%s%d" % (tag, k), "type": "function_call", "status": "completed",
                    "arguments": call["args_text"] if "args_text" in call else compact(call.get("args", {})),
                    "call_id": call.get("id", "call_%s%d" % (tag, k)), "name": call["name"]}
            if item["call_id"] is None:
                del item["call_id"]
            output.append(item)
        if stop == "length" and calls:
            output[-1]["status"] = "incomplete"
        return self.envelope(reply, view, turn, output, stop)

    def text_part(self, reply, stop):
        if stop == "refusal":
            return {"type": "refusal", "refusal": reply.get("text", "I can't help with that.")}
        if "text" in reply:
            return {"type": "output_text", "annotations": [], "logprobs": [], "text": reply["text"]}
        return None

    def envelope(self, reply, view, turn, output, stop):
        cut = {"length": "max_output_tokens", "filter": "content_filter"}.get(stop)
        count = usage_of(reply, view)
        return {
            "id": "resp_" + mark(view, turn), "object": "response", "created_at": 1760000000,
            "status": "failed" if stop == "failed" else "incomplete" if cut else "completed",
            "background": False,
            "error": {"code": "server_error", "message": reply.get("text", "The server had an error.")}
                     if stop == "failed" else None,
            "incomplete_details": {"reason": cut} if cut else None, "instructions": None,
            "max_output_tokens": None, "model": view.model, "output": [] if stop == "failed" else output,
            "parallel_tool_calls": True, "previous_response_id": None, "store": False, "temperature": 1,
            "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1,
            "truncation": "disabled",
            "usage": {"input_tokens": count["input"],
                      "input_tokens_details": {"cached_tokens": count["cached"],
                                               "cache_write_tokens": count["written"]},
                      "output_tokens": count["output"],
                      "output_tokens_details": {"reasoning_tokens": count["reasoning"]},
                      "total_tokens": count["input"] + count["output"]},
            "user": None, "metadata": {}}

    # -- streams ----------------------------------------------------------

    def events(self, value, reply, view):
        if not isinstance(value, dict) or not isinstance(value.get("output"), list):
            return [(None, value)]
        options, found = view.body.get("stream_options") or {}, []

        def tell(kind, **fields):
            if kind.endswith(".delta") and options.get("include_obfuscation") is not False:
                fields["obfuscation"] = "xyz"
            found.append((kind, {"type": kind, "sequence_number": len(found), **fields}))

        shell = dict(value, status="in_progress", output=[], usage=None, error=None, incomplete_details=None)
        tell("response.created", response=shell)
        tell("response.in_progress", response=shell)
        output = value["output"]
        calls = [i for i, item in enumerate(output) if item["type"] == "function_call"]
        together = calls if reply.get("interleave") and len(calls) > 1 else []
        for i, item in enumerate(output):
            if i not in together:
                for kind, fields in self.item_events(i, item, reply):
                    tell(kind, **fields)
        for kind, fields in in_turns([self.item_events(i, output[i], reply) for i in together]):
            tell(kind, **fields)
        tell("response." + value["status"], response=value)
        return found

    def item_events(self, index, item, reply):
        """(type, fields) of one output item, from `added` to `done`."""
        at = {"output_index": index}
        part_at = dict(at, item_id=item.get("id"))
        start = dict(item)
        if item["type"] == "function_call":
            start.update(arguments="", status="in_progress")
        elif item["type"] == "message":
            start.update(content=[], status="in_progress")
        elif item.get("encrypted_content"):     # whole in `done` only
            start.update(summary=[], encrypted_content=item["encrypted_content"][:7])
        yield "response.output_item.added", dict(at, item=start)
        if item["type"] == "function_call":
            for piece in pieces(item["arguments"], reply.get("pieces")):
                yield "response.function_call_arguments.delta", dict(part_at, delta=piece)
            yield "response.function_call_arguments.done", dict(part_at, name=item["name"],
                                                                arguments=item["arguments"])
        for k, part in enumerate(item.get("content") or [] if item["type"] == "message" else []):
            yield from self.part_events("response.content_part", dict(part_at, content_index=k), part, reply)
        for k, part in enumerate(item.get("summary", [])):
            yield from self.part_events("response.reasoning_summary_part", dict(part_at, summary_index=k), part, reply)
        yield "response.output_item.done", dict(at, item=item)

    def part_events(self, kind, at, part, reply):
        key = "refusal" if part["type"] == "refusal" else "text"
        name = {"output_text": "response.output_text", "refusal": "response.refusal",
                "summary_text": "response.reasoning_summary_text"}[part["type"]]
        yield kind + ".added", dict(at, part=dict(part, **{key: ""}))
        for piece in pieces(part[key], reply.get("pieces")):
            yield name + ".delta", dict(at, delta=piece)
        yield name + ".done", dict(at, **{key: part[key]})
        yield kind + ".done", dict(at, part=part)

    def ends(self, _events):
        return 1

    def ping(self, _view):
        return "keepalive", {"type": "keepalive", "sequence_number": 0}

    def failure(self, error, view):
        """error.form: "event", "failed" (a failed response) or "bare" (what gateways send)."""
        inner = self.error(error.get("status", 500), error.get("message"), error.get("code"))["error"]
        inner["code"] = inner["code"] or "server_error"
        form = error.get("form", "event")
        if form == "bare":
            return [(None, {"error": inner})]
        if form == "failed":
            value = self.envelope({"text": inner["message"]}, view, view.answers, [], "failed")
            value["error"]["code"] = inner["code"]
            return [("response.failed", {"type": "response.failed", "sequence_number": 99, "response": value})]
        return [("error", {"type": "error", "sequence_number": 99, "code": inner["code"],
                           "message": inner["message"], "param": None})]

    def models(self, names, _query):
        return 200, {"object": "list", "data": [
            {"id": name, "object": "model", "created": 1760000000, "owned_by": "test"} for name in names]}
