"""Anthropic's `POST /v1/messages`: refuses what the real service refuses, answers in its exact shape, also streamed.

Refused are tool_use blocks without their results at the head of the next user message, results without a call, empty
texts, bad ids, thinking blocks that are unknown, altered, cut from what they led to or missing in the current tool
loop, unknown fields and block types, a last message of the assistant, and what needs something else (`tool_choice`
without tools, a thinking budget over max_tokens).
"""

import re

from modelwire import (BAD_KEY, NO_SUCH_MODEL, Refused, View, canon, compact, in_turns, mark, not_base64, pieces,
                       thoughts, usage_of, web_url)

VERSIONS = ("2023-06-01", "2026-10-21")
IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
TOKENS = 128000


class Anthropic:
    name = "anthropic"
    fields = set("""model max_tokens messages system tools tool_choice thinking output_config stream temperature top_p
        top_k stop_sequences metadata service_tier speed inference_geo cache_control container""".split())
    kinds = {"max_tokens": int, "messages": list, "tools": list, "tool_choice": dict, "thinking": dict, "stream": bool,
             "output_config": dict, "stop_sequences": list, "metadata": dict, "top_k": int}
    block_fields = {
        "text": set("text citations cache_control".split()), "image": set("source cache_control".split()),
        "document": set("source title context citations cache_control".split()),
        "thinking": set("thinking signature".split()), "redacted_thinking": {"data"},
        "tool_use": set("id name input caller cache_control".split()),
        "tool_result": set("tool_use_id content is_error cache_control".split()),
    }
    roles = {"user": ("text", "image", "document", "tool_result"),
             "assistant": ("text", "thinking", "redacted_thinking", "tool_use")}
    errors = {400: "invalid_request_error", 401: "authentication_error", 402: "billing_error",
              403: "permission_error", 404: "not_found_error", 408: "timeout_error", 409: "conflict_error",
              413: "request_too_large", 429: "rate_limit_error", 500: "api_error", 504: "timeout_error",
              529: "overloaded_error"}

    def __init__(self):
        self.thought = {}   # text of a thinking block -> (type, name) of the block after it in its answer
        self.led_by = {}    # id of a tool_use -> texts of the thinking blocks before it in its answer

    def error(self, status, message=None, code=None, details=None, **_):
        body = {"type": "error", "error": {
            "type": self.errors.get(status, "api_error" if status >= 500 else "invalid_request_error"),
            "message": message or "Scripted failure with status %d." % status}, "request_id": "req_test"}
        if code or details:
            body["error"]["details"] = details or {"error_code": code}
        return body

    def refuse(self, message, status=400, code=None):
        raise Refused(status, self.error(status, message, code))

    def only(self, value, allowed, at):
        if not isinstance(value, dict):
            self.refuse("%s: Input should be a valid dictionary" % at)
        for key in value:
            if key not in allowed:
                self.refuse("%s: Extra inputs are not permitted" % (at + "." + key if at else key))

    def check_key(self, headers):
        bearer = headers.get("authorization", "")
        key = headers.get("x-api-key") or (bearer[7:].strip() if bearer.startswith("Bearer ") else "")
        if not key:
            self.refuse("x-api-key header is required", 401)
        if key == BAD_KEY:
            self.refuse("invalid x-api-key", 401)
        if headers.get("anthropic-version") not in VERSIONS:
            self.refuse("anthropic-version: header is required")

    def check(self, _model, headers, body):
        self.check_key(headers)
        self.only(body, self.fields, "")
        model = body.get("model")
        if not isinstance(model, str) or not model:
            self.refuse("model: Field required")
        if model == NO_SUCH_MODEL:
            self.refuse("model: %s" % model, 404)
        view = View(self.name, model, body)
        view.stream = bool(body.get("stream"))
        self.check_settings(body, headers["anthropic-version"])
        self.check_tools(body, view)
        self.check_system(body, view)
        self.check_messages(body.get("messages"), view)
        marks = compact(body).count('"cache_control":{')
        if marks > 4:
            self.refuse("A maximum of 4 blocks with cache_control may be provided. Found %d." % marks)
        return view

    def check_settings(self, body, version):
        for key, kind in self.kinds.items():
            value = body.get(key)
            if value is not None and (not isinstance(value, kind) or kind is int and isinstance(value, bool)):
                self.refuse("%s: Input should be a valid %s" % (key, kind.__name__))
        limit = body.get("max_tokens")
        if limit is None:
            self.refuse("max_tokens: Field required")
        if not 0 <= limit <= TOKENS:
            self.refuse("max_tokens: %d > %d, which is the maximum allowed number of output tokens for %s" % (
                limit, TOKENS, body["model"]))
        for key in ("temperature", "top_p", "top_k"):
            if key in body and version == VERSIONS[-1]:
                self.refuse("%s: this parameter is not supported in this API version" % key)
        if not 0 <= body.get("temperature", 0) <= 1:
            self.refuse("temperature: Input should be less than or equal to 1")
        self.check_thinking(body.get("thinking", {"type": "disabled"}), limit)
        config = body.get("output_config", {})
        self.only(config, ("effort", "format"), "output_config")
        if config.get("effort", "low") not in ("low", "medium", "high", "xhigh", "max"):
            self.refuse("output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'")
        if "format" in config:
            self.only(config["format"], ("type", "schema"), "output_config.format")
            if config["format"].get("type") != "json_schema":
                self.refuse("output_config.format.type: Input should be 'json_schema'")
            self.check_closed(config["format"].get("schema"), "output_config.format.schema")

    def check_thinking(self, thinking, limit):
        self.only(thinking, ("type", "budget_tokens", "display"), "thinking")
        kind, budget = thinking.get("type"), thinking.get("budget_tokens")
        if kind not in ("enabled", "adaptive", "between_tools", "disabled"):
            self.refuse("thinking.type: Input tag '%s' found using 'type' does not match any of the expected tags"
                        % kind)
        if kind == "enabled" and (not isinstance(budget, int) or budget < 1024):
            self.refuse("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
        if kind == "enabled" and budget >= limit:
            self.refuse("`max_tokens` must be greater than `thinking.budget_tokens`.")
        if kind != "enabled" and budget is not None:
            self.refuse("thinking.%s.budget_tokens: Extra inputs are not permitted" % kind)

    def check_closed(self, schema, at):
        """The schemas of answers and of strict tools: every object is closed, and some words are not known."""
        if not isinstance(schema, dict):
            self.refuse("%s: Input should be a valid dictionary" % at)
        if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
            self.refuse("%s: For 'object' type, 'additionalProperties' must be explicitly set to false" % at)
        for key in ("oneOf", "minimum", "maximum", "minLength", "maxLength", "pattern", "maxItems", "not", "if"):
            if key in schema:
                self.refuse("%s: property '%s' is not supported" % (at, key))
        below = [("properties." + k, v) for k, v in schema.get("properties", {}).items()]
        below += [("items", schema["items"])] if "items" in schema else []
        below += [("$defs." + k, v) for k, v in schema.get("$defs", {}).items()]
        below += [("%s.%d" % (word, i), v) for word in ("anyOf", "allOf") for i, v in enumerate(schema.get(word, []))]
        for name, part in below:
            self.check_closed(part, at + "." + name)

    def check_tools(self, body, view):
        for i, tool in enumerate(body.get("tools") or []):
            at = "tools.%d" % i
            self.only(tool, ("type", "name", "description", "input_schema", "cache_control", "strict",
                             "eager_input_streaming"), at)
            name, schema = tool.get("name"), tool.get("input_schema")
            if not isinstance(name, str) or not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
                self.refuse("%s.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'" % at)
            if name in view.tools:
                self.refuse("tools: Tool names must be unique.", 400, "tool_name_conflict")
            if not isinstance(schema, dict) or schema.get("type") != "object":
                self.refuse("%s.custom.input_schema.type: Field required" % at)
            if any(word in schema for word in ("anyOf", "oneOf", "allOf")):
                self.refuse("%s.custom.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top "
                            "level" % at)
            if tool.get("strict"):
                self.check_closed(schema, at + ".custom.input_schema")
            self.check_cache(tool, at)
            view.tools.append(name)
        choice = body.get("tool_choice")
        if choice is None:
            return
        if not view.tools:
            self.refuse("tool_choice may only be specified while providing tools.")
        if choice.get("type") not in ("auto", "any", "none", "tool"):
            self.refuse("tool_choice: Input tag '%s' does not match any of the expected tags" % choice.get("type"))
        more = {"none": (), "tool": ("name", "disable_parallel_tool_use")}
        self.only(choice, ("type",) + more.get(choice["type"], ("disable_parallel_tool_use",)), "tool_choice")
        if choice["type"] == "tool" and choice.get("name") not in view.tools:
            self.refuse("tool_choice.tool.name: Tool '%s' not found in provided tools" % choice.get("name"))
        if choice["type"] in ("any", "tool") and body.get("thinking", {}).get("type") in ("enabled", "adaptive"):
            self.refuse("Thinking may not be enabled when tool_choice forces tool use.")

    def check_cache(self, block, at):
        mark_ = block.get("cache_control")
        if mark_ is not None:
            self.only(mark_, ("type", "ttl"), at + ".cache_control")
            if mark_.get("type") != "ephemeral" or mark_.get("ttl", "5m") not in ("5m", "1h"):
                self.refuse("%s.cache_control: Input tag '%s' does not match" % (at, mark_.get("type")))

    def check_system(self, body, view):
        system = body.get("system", [])
        if isinstance(system, str):
            view.instructions = system
            return
        for i, block in enumerate(system):
            self.check_block(block, "system.%d" % i, ("text",))
        view.instructions = "\n".join(block["text"] for block in system)

    def check_messages(self, messages, view):
        if not isinstance(messages, list) or not messages:
            self.refuse("messages: at least one message is required")
        turns = []      # consecutive messages of one role are one
        for i, message in enumerate(messages):
            at = "messages.%d" % i
            self.only(message, ("role", "content"), at)
            role, content = message.get("role"), message.get("content")
            if role not in self.roles:
                self.refuse("%s: Input should be 'user' or 'assistant'" % (at + ".role"))
            if isinstance(content, str):
                content = [{"type": "text", "text": content}]
            if not isinstance(content, list) or not content:
                self.refuse("%s: %s messages must have non-empty content" % (at, role))
            for k, block in enumerate(content):
                self.check_block(block, "%s.content.%d" % (at, k), self.roles[role])
            if not turns or turns[-1][0] != role:
                turns.append((role, []))
            turns[-1][1].extend(content)
        if turns[0][0] != "user":
            self.refuse("messages: first message must use the \"user\" role")
        if turns[-1][0] != "user":
            self.refuse("This model does not support assistant message prefill. The conversation must end with a user "
                        "message.")
        self.check_turns(turns, view)

    def check_block(self, block, at, allowed):
        kind = block.get("type") if isinstance(block, dict) else None
        if kind not in allowed:
            self.refuse("%s: Input tag '%s' found using 'type' does not match any of the expected tags: %s" % (
                at, kind, ", ".join(allowed)))
        self.only(block, self.block_fields[kind] | {"type"}, "%s.%s" % (at, kind))
        self.check_cache(block, at)
        if kind == "text" and (not isinstance(block.get("text"), str) or not block["text"].strip()):
            self.refuse("messages: text content blocks must be non-empty (%s)" % at)
        if kind == "tool_use" or kind == "tool_result":
            given = block.get("id" if kind == "tool_use" else "tool_use_id")
            if not isinstance(given, str) or not re.fullmatch(r"[a-zA-Z0-9_-]+", given):
                self.refuse("%s.%s.id: String should match pattern '^[a-zA-Z0-9_-]+$'" % (at, kind))
        if kind == "tool_use" and not isinstance(block.get("input"), dict):
            self.refuse("%s.tool_use.input: Input should be a valid dictionary" % at)
        if kind == "tool_use" and not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", str(block.get("name"))):
            self.refuse("%s.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'" % at)
        if kind == "tool_result" and isinstance(block.get("content"), list):
            for k, part in enumerate(block["content"]):
                self.check_block(part, "%s.content.%d" % (at, k), ("text", "image", "document"))
        if kind in ("image", "document"):
            self.check_source(kind, block.get("source"), at)

    def check_source(self, kind, source, at):
        self.only(source, ("type", "media_type", "data", "url", "file_id"), at + ".source")
        how, mime = source.get("type"), source.get("media_type")
        if how == "url" and web_url(source.get("url")) or how == "file" and source.get("file_id"):
            return
        if kind == "document" and how == "text" and mime == "text/plain" and isinstance(source.get("data"), str):
            return
        if how != "base64" or mime not in (IMAGES if kind == "image" else ("application/pdf",)):
            self.refuse("%s.source.%s.media_type: Input should be %s" % (
                at, how, ", ".join(IMAGES if kind == "image" else ("application/pdf",))))
        if not_base64(source.get("data")):
            self.refuse("%s.source.base64: invalid base64 data" % at)

    def check_turns(self, turns, view):
        seen, current = set(), max([n for n, (role, blocks) in enumerate(turns) if role == "user"
                                    and not any(b["type"] == "tool_result" for b in blocks)], default=0)
        for n, (role, blocks) in enumerate(turns):
            if role == "assistant":
                view.answers += 1
                view.outputs = []
                self.check_answer(blocks, "messages.%d" % n, seen, n > current, view)
                continue
            results = [b for b in blocks if b["type"] == "tool_result"]
            if results != blocks[:len(results)]:
                self.refuse("messages.%d: tool_result blocks must come first in the content of a message" % n)
            self.check_pairs(turns[n - 1][1] if n else [], results, "messages.%d" % n)
            view.outputs += [b["content"] if isinstance(b.get("content"), str) else compact(b.get("content", []))
                             for b in results]
            text = "".join(b["text"] for b in blocks if b["type"] == "text")
            if text or not results:
                view.users.append(text)

    def check_pairs(self, before, results, at):
        calls, given = [b["id"] for b in before if b["type"] == "tool_use"], [b["tool_use_id"] for b in results]
        for one in given:
            if one not in calls:
                self.refuse("%s: unexpected `tool_use_id` found in `tool_result` blocks: %s. Each `tool_result` block "
                            "must have a corresponding `tool_use` block in the previous message." % (at, one))
            if given.count(one) > 1:
                self.refuse("%s: each tool_use must have a single result. Found multiple `tool_result` blocks with id: "
                            "%s" % (at, one))
        missing = [one for one in calls if one not in given]
        if missing:
            self.refuse("%s: `tool_use` ids were found without `tool_result` blocks immediately after: %s. Each "
                        "`tool_use` block must have a corresponding `tool_result` block in the next message." % (
                            at, ", ".join(missing)))

    def check_answer(self, blocks, at, seen, current, view):
        """One answer in the history: ids, and its thinking."""
        thinking = set()
        for k, block in enumerate(blocks):
            if block["type"] in ("thinking", "redacted_thinking"):
                text = canon(block)
                following = self.after(blocks, k)
                if text not in self.thought:
                    self.refuse("%s.content.%d: Invalid `signature` in `thinking` block" % (at, k))
                if self.thought[text] != self.bare(following):
                    self.refuse("%s.content.%d: `thinking` or `redacted_thinking` blocks in an assistant message "
                                "cannot be modified. These blocks must remain as they were in the original response."
                                % (at, k))
                thinking.add(text)
            elif block["type"] == "tool_use":
                if block["id"] in seen:
                    self.refuse("messages: `tool_use` ids must be unique")
                seen.add(block["id"])
                if not view.tools:
                    self.refuse("Requests which include `tool_use` or `tool_result` blocks must define tools")
                if current and not set(self.led_by.get(block["id"], ())) <= thinking:
                    self.refuse("%s.content.%d: Expected `thinking` or `redacted_thinking`, but found `tool_use`" % (
                        at, k))

    @staticmethod
    def after(blocks, k):
        """The block that a block led to; texts of nothing, which models give and nobody may send, are none."""
        return next((b for b in blocks[k + 1:] if b.get("type") != "text" or b["text"].strip()), {})

    @staticmethod
    def bare(block):
        """What is compared of the block behind a thinking block: texts and ids may be made new."""
        return canon(block) if "thinking" in block.get("type", "") else canon([block.get("type"), block.get("name")])

    def remember(self, answer):
        blocks = answer.get("content") if isinstance(answer, dict) else None
        thinking, ids = [], []
        for k, block in enumerate(blocks if isinstance(blocks, list) else []):
            if block.get("type") in ("thinking", "redacted_thinking"):
                self.thought[canon(block)] = self.bare(self.after(blocks, k))
                thinking.append(canon(block))
            elif block.get("type") == "tool_use":
                ids.append(block.get("id"))
                if ids.count(block.get("id")) == 1:
                    self.led_by[block.get("id")] = list(thinking)

    def remember_stream(self, values):
        blocks = {}
        for value in values:
            block, delta = blocks.get(value.get("index")), value.get("delta") or {}
            if value.get("type") == "content_block_start":
                blocks[value["index"]] = dict(value["content_block"])
            elif block and delta.get("type") == "thinking_delta":
                block["thinking"] += delta["thinking"]
            elif block and delta.get("type") == "text_delta":
                block["text"] += delta["text"]
            elif block and delta.get("type") == "signature_delta":
                block["signature"] = delta["signature"]
        self.remember({"content": [blocks[index] for index in sorted(blocks)]})

    # -- answers ----------------------------------------------------------

    def answer(self, reply, view, turn):
        if reply.get("stop") == "failed":
            return self.error(500, reply.get("text"))
        tag, stop, content = mark(view, turn), reply.get("stop", "end"), []
        thought = thoughts(reply, turn)
        if thought is not None and view.body.get("thinking", {}).get("type") != "disabled":
            content.append({"type": "thinking", "thinking": thought,
                            "signature": "EqQB%s-golden/sig+%s==" % (tag, tag)})
        if "text" in reply:
            content.append({"type": "text", "text": reply["text"], "citations": None})
        for k, call in enumerate(reply.get("calls", [])):
            item = {"type": "tool_use", "id": call.get("id", "toolu_%s%d" % (tag, k)), "name": call["name"],
                    "input": call.get("args", {}), "caller": {"type": "direct"}}
            if item["id"] is None:
                del item["id"]
            content.append(item)
        reason = {"length": "max_tokens", "filter": "refusal", "refusal": "refusal"}.get(
            stop, "tool_use" if reply.get("calls") else "end_turn")
        count = usage_of(reply, view)
        return {"id": "msg_" + tag, "type": "message", "role": "assistant", "model": view.model, "container": None,
                "content": content, "stop_reason": reason, "stop_sequence": None,
                "stop_details": {"type": "refusal", "category": "cyber", "explanation": "PROHIBITED_CONTENT"}
                if reason == "refusal" else None,
                "usage": {"input_tokens": count["input"] - count["cached"] - count["written"],
                          "cache_creation_input_tokens": count["written"], "cache_read_input_tokens": count["cached"],
                          "output_tokens": count["output"], "service_tier": "standard",
                          "output_tokens_details": {"thinking_tokens": count["reasoning"]}}}

    def events(self, value, reply, view):
        if not isinstance(value, dict) or not isinstance(value.get("content"), list):
            return [(value.get("type") if isinstance(value, dict) else None, value)]
        usage = value.get("usage", {})
        start = dict(value, content=[], stop_reason=None, stop_details=None, usage=dict(usage, output_tokens=1))
        texts = [call.get("args_text") for call in reply.get("calls", [])]
        runs = []
        for index, block in enumerate(value["content"]):
            text = texts.pop(0) if block["type"] == "tool_use" and texts else None
            runs.append(self.block_events(index, block, text, reply.get("pieces")))
        found = [("message_start", {"type": "message_start", "message": start}), self.ping(view)]
        found += in_turns(runs) if reply.get("interleave") else [event for run in runs for event in run]
        final = {key: value.get(key) for key in ("stop_reason", "stop_sequence", "stop_details")}
        found.append(("message_delta", {"type": "message_delta", "delta": final,
                                        "usage": {"output_tokens": usage.get("output_tokens", 0)}}))
        return found + [("message_stop", {"type": "message_stop"})]

    @staticmethod
    def block_events(index, block, args_text, size):
        """The events of one block: its start without what comes in pieces, the pieces, its end."""
        start, deltas, kind = dict(block), [], block["type"]
        if kind == "text":
            start["text"] = ""
            deltas = [{"type": "text_delta", "text": piece} for piece in pieces(block["text"], size)]
        elif kind == "thinking":
            start.update(thinking="", signature="")
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"], size)]
            deltas.append({"type": "signature_delta", "signature": block.get("signature", "")})
        elif kind == "tool_use":
            start["input"] = {}
            text = args_text if args_text is not None else compact(block["input"]) if block["input"] else ""
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in [""] + pieces(text, size)]
        yield "content_block_start", {"type": "content_block_start", "index": index, "content_block": start}
        for delta in deltas:
            yield "content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}
        yield "content_block_stop", {"type": "content_block_stop", "index": index}

    def ends(self, _events):
        return 1

    def ping(self, _view):
        return "ping", {"type": "ping"}

    def failure(self, error, _view):
        """error.form: "event", "bare" (a line that is no event)"""
        value = self.error(error.get("status", 500), error.get("message"), error.get("code"))
        return [compact(value)] if error.get("form") == "bare" else [("error", value)]

    def models(self, names, query):
        after, size = query.get("after_id", [None])[0], int(query.get("limit", ["20"])[0])
        if not 1 <= size <= 1000 or after is not None and after not in names:
            return 400, self.error(400, "limit or after_id: invalid value")
        at = names.index(after) + 1 if after else 0
        page = names[at:at + size]
        return 200, {"data": [{"id": name, "type": "model", "display_name": name.title(), "max_tokens": 64000,
                               "created_at": "2026-01-01T00:00:00Z", "max_input_tokens": 200000} for name in page],
                     "has_more": at + size < len(names), "first_id": page[0] if page else None,
                     "last_id": page[-1] if page else None}
