"""Google's `generateContent`: refuses what the real service refuses, answers in its exact shape, also streamed.

Refused are responses that do not match the calls before them in number, id or name, text among them, turns out of
order, thought signatures that are missing, altered or moved, and unknown fields anywhere. Only camelCase fields are
taken although the service knows snake_case too: no client of ours should send it.
"""

import base64
import copy
import json
import re

from modelwire import (BAD_KEY, NO_SUCH_MODEL, Refused, View, canon, compact, mark, not_base64, pieces, thoughts,
                       usage_of)


class Gemini:
    name = "gemini"
    fields = set("""contents systemInstruction tools toolConfig generationConfig safetySettings cachedContent
        serviceTier store continuationToken labels""".split())
    data_fields = set("""text functionCall functionResponse inlineData fileData executableCode codeExecutionResult
        toolCall toolResponse""".split())
    part_fields = data_fields | set("thought thoughtSignature videoMetadata partMetadata mediaResolution".split())
    config_fields = set("""maxOutputTokens temperature topP topK candidateCount stopSequences responseMimeType
        responseSchema responseJsonSchema presencePenalty frequencyPenalty seed thinkingConfig responseLogprobs
        logprobs responseModalities mediaResolution speechConfig imageConfig""".split())
    openapi_fields = set("""type format title description nullable enum items minItems maxItems minLength maxLength
        minProperties maxProperties minimum maximum pattern properties required propertyOrdering anyOf default
        example""".split())
    dummies = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
    errors = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
              408: "CANCELLED", 409: "ABORTED", 429: "RESOURCE_EXHAUSTED",
              500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}

    def __init__(self):
        self.signed = {}    # thoughtSignature -> canonical text of the part it was sent on, without it

    def error(self, status, message=None, details=None, **_):
        body = {"code": status, "message": message or "Scripted failure with status %d." % status,
                "status": self.errors.get(status, "UNKNOWN")}
        if details:
            body["details"] = details
        return {"error": body}

    def refuse(self, message, status=400, details=None):
        raise Refused(status, self.error(status, message, details))

    def unknown(self, key, at):
        text = "Invalid JSON payload received. Unknown name \"%s\"%s: Cannot find field." % (
            key, " at '%s'" % at if at else "")
        self.refuse(text, 400, [{"@type": "type.googleapis.com/google.rpc.BadRequest",
                                 "fieldViolations": [{"field": at, "description": text}]}])

    def only(self, value, allowed, at):
        if not isinstance(value, dict):
            self.refuse("Invalid value at '%s': expected an object." % at)
        for key in value:
            if key not in allowed:
                self.unknown(key, at)

    def check_key(self, headers):
        if headers.get("x-goog-api-key", "") in ("", BAD_KEY):
            self.refuse("API key not valid. Please pass a valid API key.", 400, [
                {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID",
                 "domain": "googleapis.com", "metadata": {"service": "generativelanguage.googleapis.com"}}])

    def check(self, model, headers, body):
        self.check_key(headers)
        if model == NO_SUCH_MODEL:
            self.refuse("models/%s is not found for API version v1beta, or is not supported for generateContent. "
                        "Call ListModels to see the list of available models and their supported methods." % model,
                        404)
        self.only(body, self.fields, "")
        view = View(self.name, model, body)
        self.check_system(body, view)
        self.check_tools(body, view)
        self.check_config(body, view)
        self.check_contents(body.get("contents"), view)
        return view

    def check_system(self, body, view):
        if "systemInstruction" not in body:
            return
        self.only(body["systemInstruction"], ("parts", "role"), "system_instruction")
        if body["systemInstruction"].get("role", "user") != "user":
            self.refuse("Please use a valid role for system_instruction: user.")
        parts = body["systemInstruction"].get("parts")
        if not isinstance(parts, list) or not parts:
            self.refuse("* GenerateContentRequest.system_instruction.parts: contents.parts must not be empty.")
        for part in parts:
            self.only(part, self.part_fields, "system_instruction.parts")
        view.instructions = "\n".join(p.get("text", "") for p in parts)

    def check_tools(self, body, view):
        holders = 0
        for i, tool in enumerate(body.get("tools", [])):
            self.only(tool, ("functionDeclarations", "googleSearch", "codeExecution", "urlContext"), "tools[%d]" % i)
            holders += "functionDeclarations" in tool
            for k, decl in enumerate(tool.get("functionDeclarations", [])):
                self.check_declaration(decl, view, "tools[%d].function_declarations[%d]" % (i, k))
        if holders > 1 or len(view.tools) > 128:
            self.refuse("At most one tool with at most 128 function declarations is supported.")

    def check_declaration(self, decl, view, at):
        self.only(decl, ("name", "description", "parameters", "parametersJsonSchema", "response",
                         "responseJsonSchema", "behavior"), at)
        name = decl.get("name")
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}", name):
            self.refuse("* GenerateContentRequest.%s.name: Invalid function name. Must start with a letter or an "
                        "underscore. Must be alphanumeric (a-z, A-Z, 0-9), underscores (_), dots (.), colons (:) or "
                        "dashes (-), with a maximum length of 128." % at)
        if name in view.tools:
            self.refuse("Duplicate function declaration found: %s" % name)
        view.tools.append(name)
        if "parameters" in decl and "parametersJsonSchema" in decl:
            self.refuse("* GenerateContentRequest.%s: only one of parameters and parameters_json_schema may be "
                        "set." % at)
        if "parameters" in decl:
            self.check_openapi(decl["parameters"], at + ".parameters")
        schema = decl.get("parametersJsonSchema", decl.get("parameters", {"type": "object"}))
        if not isinstance(schema, dict) or str(schema.get("type")).lower() != "object":
            self.refuse("* GenerateContentRequest.%s.parameters: schema at the top level must be of type OBJECT."
                        % at)

    def check_openapi(self, schema, at):
        self.only(schema, self.openapi_fields, at)
        if not isinstance(schema.get("type", ""), str):
            self.refuse("Invalid value at '%s.type': Proto field is not repeating, cannot start list." % at)
        if str(schema.get("type")).upper() == "OBJECT" and schema.get("properties") == {}:
            self.refuse("* GenerateContentRequest.%s.properties: should be non-empty for OBJECT type" % at)
        for value in schema.get("enum", []):
            if not isinstance(value, str) or not value:
                self.refuse("* GenerateContentRequest.%s.enum: values must be non-empty strings" % at)
        for name, part in schema.get("properties", {}).items():
            self.check_openapi(part, "%s.properties[%s]" % (at, name))
        if "items" in schema:
            self.check_openapi(schema["items"], at + ".items")

    def check_config(self, body, view):
        self.only(body.get("toolConfig", {}), ("functionCallingConfig", "retrievalConfig"), "tool_config")
        calling = body.get("toolConfig", {}).get("functionCallingConfig", {})
        self.only(calling, ("mode", "allowedFunctionNames"), "tool_config.function_calling_config")
        mode = calling.get("mode", "AUTO")
        if mode not in ("AUTO", "ANY", "NONE", "VALIDATED"):
            self.refuse("Invalid value at 'tool_config.function_calling_config.mode', \"%s\"" % mode)
        if calling.get("allowedFunctionNames"):
            if mode not in ("ANY", "VALIDATED"):
                self.refuse("Function calling config: allowed_function_names should only be set when mode is ANY or "
                            "VALIDATED.")
            for name in calling["allowedFunctionNames"]:
                if name not in view.tools:
                    self.refuse("allowed_function_names: %s is not a declared function." % name)
        config = body.get("generationConfig", {})
        self.only(config, self.config_fields, "generation_config")
        thinking = config.get("thinkingConfig", {})
        self.only(thinking, ("includeThoughts", "thinkingLevel", "thinkingBudget"),
                  "generation_config.thinking_config")
        if "thinkingLevel" in thinking and "thinkingBudget" in thinking:
            self.refuse("You can only set only one of thinking budget and thinking level.")

    def check_contents(self, contents, view):
        if not isinstance(contents, list) or not contents:
            self.refuse("* GenerateContentRequest.contents: contents is not specified")
        for i, content in enumerate(contents):
            self.check_content(content, "contents[%d]" % i)
        if contents[0].get("role", "user") == "model":
            self.refuse("Please ensure that the first content is of role user.")
        if contents[-1].get("role", "user") == "model":
            self.refuse("Please ensure that the last content is of role user or a function response.")
        current = self.current_turn(contents)
        before = None
        for i, content in enumerate(contents):
            self.check_order(before, content, contents[i + 1] if i + 1 < len(contents) else None)
            self.check_signatures(content, "contents[%d]" % i, i >= current)
            if content.get("role", "user") == "model":
                view.answers += before is None or before.get("role", "user") != "model"
                view.outputs = []
            for part in content["parts"]:
                if "functionResponse" in part:
                    view.outputs.append(compact(part["functionResponse"]["response"]))
                elif content.get("role", "user") == "user" and "text" in part:
                    view.users.append(part["text"])
            before = content

    def check_content(self, content, at):
        self.only(content, ("role", "parts"), at)
        role, parts = content.get("role", "user"), content.get("parts")
        if role not in ("user", "model"):
            self.refuse("Please use a valid role: user, model.")
        if not isinstance(parts, list) or not parts:
            self.refuse("* GenerateContentRequest.%s.parts: contents.parts must not be empty." % at)
        for k, part in enumerate(parts):
            self.check_part(part, role, "%s.parts[%d]" % (at, k))
        if any("functionResponse" in p for p in parts) and not all("functionResponse" in p for p in parts):
            self.refuse("Function response parts cannot be mixed with other parts in one content (%s)." % at)

    def check_part(self, part, role, at):
        self.only(part, self.part_fields, at)
        kinds = [key for key in part if key in self.data_fields]
        if len(kinds) != 1:
            self.refuse("* GenerateContentRequest.%s.data: required oneof field 'data' must have one initialized "
                        "field" % at)
        kind, value = kinds[0], part[kinds[0]]
        if kind == "text" and (not isinstance(value, str) or not value and "thoughtSignature" not in part):
            self.refuse("Unable to submit request because it must have a text parameter. (%s)" % at)
        if kind in ("inlineData", "fileData"):
            self.only(value, ("mimeType", "data", "displayName") if kind == "inlineData" else
                      ("mimeType", "fileUri", "displayName"), at + "." + kind)
            if role == "model" or not re.fullmatch(r"[a-z]+/[a-zA-Z0-9.+-]+", value.get("mimeType") or ""):
                self.refuse("Unsupported MIME type: %s (%s)" % (value.get("mimeType"), at))
            if kind == "inlineData" and not_base64(value.get("data")):
                self.refuse("Invalid value at '%s.inline_data.data' (TYPE_BYTES), Base64 decoding failed" % at)
        if kind == "functionCall":
            self.only(value, ("id", "name", "args"), at + ".function_call")
            if role != "model" or not isinstance(value.get("args", {}), dict) or not value.get("name"):
                self.refuse("Invalid value at '%s.function_call'" % at)
        elif kind == "functionResponse":
            self.only(value, ("id", "name", "response", "parts", "willContinue", "scheduling"),
                      at + ".function_response")
            if role == "model" or not value.get("name"):
                self.refuse("* GenerateContentRequest.%s.function_response.name: Name cannot be empty." % at)
            if not isinstance(value.get("response"), dict):
                self.refuse("Invalid value at '%s.function_response.response' "
                            "(type.googleapis.com/google.protobuf.Struct), %s" % (at, compact(value.get("response"))))

    def current_turn(self, contents):
        """Index after the last content in which the user says something, where signatures are demanded."""
        for i in range(len(contents) - 1, -1, -1):
            if contents[i].get("role", "user") == "user" and "functionResponse" not in contents[i]["parts"][0]:
                return i + 1
        return 0

    def check_order(self, before, content, following):
        calls = [p["functionCall"] for p in content["parts"] if "functionCall" in p]
        if calls and before.get("role", "user") == "model":
            self.refuse("Please ensure that function call turn comes immediately after a user turn or after a "
                        "function response turn.")
        if calls:
            found = [p["functionResponse"] for p in (following or {"parts": []})["parts"] if "functionResponse" in p]
            self.check_responses(calls, found)
        elif following and "functionResponse" in following["parts"][0]:
            self.refuse("Please ensure that function response turn comes immediately after a function call turn.")

    def check_responses(self, calls, found):
        if len(calls) != len(found):
            self.refuse("Please ensure that the number of function response parts is equal to the number of function "
                        "call parts of the function call turn.")
        open_calls = list(calls)
        for response in found:
            if "id" in response:
                match = [c for c in open_calls if c.get("id") == response["id"]]
            else:
                match = open_calls[:1]
            if not match or match[0]["name"] != response["name"]:
                self.refuse("Please ensure that each function response part has the id and name of one function call "
                            "part (%s)." % compact({k: response.get(k) for k in ("id", "name")}))
            open_calls.remove(match[0])

    def check_signatures(self, content, at, current):
        first = True
        for k, part in enumerate(content["parts"]):
            signature = part.get("thoughtSignature")
            if "functionCall" in part and first:
                first = False
                if current and not signature:
                    self.refuse("Function call is missing a thought_signature in functionCall parts. This is required "
                                "for tools to work correctly, and missing thought_signature may lead to degraded model "
                                "performance. Additional data, function call `default_api:%s`, position %d."
                                % (part["functionCall"]["name"], k))
            if signature is None or signature in self.dummies:
                continue
            bare = {key: value for key, value in part.items() if key != "thoughtSignature"}
            if self.signed.get(signature) != self.bare_text(bare):
                self.refuse("Corrupted thought signature. (%s.parts[%d])" % (at, k))

    @staticmethod
    def bare_text(part):
        """Text of a part for comparison; no arguments are `args: {}` and no id is an empty one, as in proto."""
        part = copy.deepcopy(part)
        if "functionCall" in part:
            part["functionCall"].setdefault("args", {})
            part["functionCall"].setdefault("id", "")
        return canon(part)

    def remember(self, answer):
        for candidate in (answer.get("candidates") or []) if isinstance(answer, dict) else []:
            for part in (candidate.get("content") or {}).get("parts") or []:
                if part.get("thoughtSignature"):
                    bare = {key: value for key, value in part.items() if key != "thoughtSignature"}
                    self.signed[part["thoughtSignature"]] = self.bare_text(bare)

    def remember_stream(self, values):
        for value in values:
            self.remember(value)

    def answer(self, reply, view, turn):
        tag, stop, parts = mark(view, turn), reply.get("stop", "end"), []
        sign = base64.b64encode(("thought-" + tag).encode()).decode()
        broken = False
        thought = reply.get("reasoning") and thoughts(reply, turn)
        if thought:
            parts.append({"text": thought, "thought": True})
        if "text" in reply:
            parts.append({"text": reply["text"]})
        for k, call in enumerate(reply.get("calls", [])):
            try:
                args = json.loads(call["args_text"] or "{}") if "args_text" in call else call.get("args", {})
            except ValueError:
                broken = True
                continue
            item = {"id": call.get("id", "gem_%s%d" % (tag, k)), "name": call["name"], "args": args}
            if item["id"] is None:
                del item["id"]
            parts.append({"functionCall": item})
            if k == 0:
                parts[-1]["thoughtSignature"] = sign
        if "text" in reply and not reply.get("calls"):
            parts[-1]["thoughtSignature"] = sign
        return self.envelope(reply, view, turn, parts, "malformed" if broken else stop)

    def envelope(self, reply, view, turn, parts, stop):
        count = usage_of(reply, view)
        answer = {
            "usageMetadata": {"promptTokenCount": count["input"],
                              "candidatesTokenCount": count["output"] - count["reasoning"],
                              "totalTokenCount": count["input"] + count["output"]},
            "modelVersion": view.model, "responseId": "gemresp-" + mark(view, turn)}
        for key, name in (("cached", "cachedContentTokenCount"), ("reasoning", "thoughtsTokenCount")):
            if count[key]:
                answer["usageMetadata"][name] = count[key]
        if stop == "refusal":   # a blocked prompt is a 200 without candidates
            answer["promptFeedback"] = {"blockReason": "PROHIBITED_CONTENT"}
            return answer
        candidate = {"content": {"parts": parts, "role": "model"}, "index": 0, "finishReason": {
            "end": "STOP", "length": "MAX_TOKENS", "filter": "SAFETY", "failed": "OTHER",
            "malformed": "MALFORMED_FUNCTION_CALL"}[stop]}
        if stop == "malformed":
            candidate["finishMessage"] = "Malformed function call: %s" % reply["calls"][0]["name"]
        if stop in ("filter", "failed", "malformed"):
            del candidate["content"]
        return {"candidates": [candidate], **answer}

    # -- streams ----------------------------------------------------------

    def events(self, value, reply, _view):
        """Chunks: text in pieces, each call whole, the first with its signature; the finish reason with the last."""
        candidates = value.get("candidates") if isinstance(value, dict) else None
        if not candidates:
            return [(None, value)]
        rest = {key: item for key, item in value.items() if key not in ("candidates", "usageMetadata")}
        counts = dict(value.get("usageMetadata", {}))
        early = {"usageMetadata": {k: v for k, v in counts.items() if k == "promptTokenCount"}}
        last, chunks = dict(candidates[0]), []
        for part in last.pop("content", {}).get("parts", []):
            chunks += self.part_chunks(part, reply)
        if not chunks:
            chunks = [[]]
        elif "functionCall" in chunks[-1][0]:
            chunks.append([{"text": ""}])
        if reply.get("interleave") and len(chunks) > 1:     # several parts in one chunk
            chunks = [chunks[0] + chunks[1]] + chunks[2:]
        found = []
        for k, parts in enumerate(chunks):
            end = k == len(chunks) - 1
            candidate = dict(last if end else {"index": 0})
            if parts:
                candidate["content"] = {"parts": parts, "role": "model"}
            chunk = {"candidates": [candidate], **({"usageMetadata": counts} if end else early), **rest}
            self.remember(chunk)
            found.append((None, chunk))
        return found

    @staticmethod
    def part_chunks(part, reply):
        if "text" not in part:
            return [[part]]
        signature, part = part.get("thoughtSignature"), {k: v for k, v in part.items() if k != "thoughtSignature"}
        chunks = [[dict(part, text=piece)] for piece in pieces(part["text"], reply.get("pieces"))]
        if signature:                   # on an empty text part at the end, as the service does
            chunks.append([{"text": "", "thoughtSignature": signature}])
        return chunks

    def ends(self, _events):
        return 1

    def ping(self, view):
        return None, {"modelVersion": view.model, "responseId": "gemresp-" + mark(view, view.answers)}

    def failure(self, error, _view):
        """error.form: "event", "bare" (a line that is no event)"""
        value = self.error(error.get("status", 500), error.get("message"), error.get("details"))
        return [compact(value)] if error.get("form") == "bare" else [(None, value)]

    def models(self, names, query):
        at = int(query.get("pageToken", ["0"])[0])
        size = int(query.get("pageSize", ["50"])[0])
        value = {"models": [{"name": "models/" + name, "version": "001", "displayName": name.title(),
                             "inputTokenLimit": 1048576, "outputTokenLimit": 65536, "thinking": True,
                             "supportedGenerationMethods": ["generateContent", "countTokens"]}
                            for name in names[at:at + size]]}
        if at + size < len(names):
            value["nextPageToken"] = str(at + size)
        return 200, value
