-- Services and servers that speak a protocol of another file: no code, only what differs. config.lua of a
-- user says the same about others, in the same words (see lash.config and `lash help providers`).
--
--   protocol   whose file speaks to it
--   keys       variables that may hold the key, the first that is set counts; `keyless`: it wants none
--   base_var   variable that holds its address, and from_var(value): what that means as a base URL
--   base       its address when nobody says otherwise; none: it has to be told
--   example    an address to show to those who have to tell one
--   quirks     see lash.provider.quirks

-- As the programs of Ollama read it: host, host:port, :port or a URL; what a server listens on is an
-- address to call, too.
local function ollama(value)
    local scheme, rest = value:match("^(%a[%w+.-]*)://(.*)$")
    local port = scheme == "http" and "80" or scheme == "https" and "443" or "11434"
    local host, path = (rest or value):match("^([^/]*)(.*)$")
    if host:find("^[^%[]*:[^:]*:") then -- an IPv6 address without its brackets
        host = "[" .. host .. "]"
    end
    local name, given = host:match("^(.-):(%d*)$")
    if name and not name:find("%[[^%]]*$") then
        host, port = name, given ~= "" and given or port
    end
    if host == "" or host == "0.0.0.0" then
        host = "127.0.0.1"
    elseif host == "[::]" then
        host = "[::1]"
    end
    path = path:gsub("/+$", ""):gsub("/v1$", "")
    return ("%s://%s:%s%s/v1"):format(scheme or "http", host, port, path)
end

-- A resource's address has no path; the protocol is under one.
local function azure(value)
    local root = value:match("^(%a+://[^/?#]+)/*$")
    return root and root .. "/openai/v1" or value
end

return {
    ollama = {
        protocol = "openai-chat", keys = { "OLLAMA_API_KEY" }, keyless = true,
        base_var = "OLLAMA_HOST", from_var = ollama, base = "http://localhost:11434/v1",
        example = "localhost:11434", start = "ollama serve",
    },
    llamacpp = {
        protocol = "openai-chat", keys = { "LLAMACPP_API_KEY" }, keyless = true,
        base_var = "LLAMACPP_BASE_URL", base = "http://localhost:8080/v1", start = "llama-server --jinja -m FILE",
    },
    lmstudio = {
        protocol = "openai-chat", keys = { "LMSTUDIO_API_KEY" }, keyless = true,
        base_var = "LMSTUDIO_BASE_URL", base = "http://localhost:1234/v1", start = "lms server start",
    },
    vllm = {
        protocol = "openai-chat", keys = { "VLLM_API_KEY" }, keyless = true,
        base_var = "VLLM_BASE_URL", base = "http://localhost:8000/v1", start = "vllm serve MODEL",
    },
    openrouter = {
        protocol = "openai-chat", keys = { "OPENROUTER_API_KEY" },
        base_var = "OPENROUTER_BASE_URL", base = "https://openrouter.ai/api/v1",
    },
    azure = {
        protocol = "openai-chat", keys = { "AZURE_OPENAI_API_KEY" },
        base_var = "AZURE_OPENAI_ENDPOINT", from_var = azure, example = "https://RESOURCE.openai.azure.com",
        quirks = { api_key_header = "api-key", max_tokens = "max_completion_tokens" },
    },
    groq = {
        protocol = "openai-chat", keys = { "GROQ_API_KEY" },
        base_var = "GROQ_BASE_URL", base = "https://api.groq.com/openai/v1",
    },
    mistral = {
        protocol = "openai-chat", keys = { "MISTRAL_API_KEY" },
        base_var = "MISTRAL_BASE_URL", base = "https://api.mistral.ai/v1",
        quirks = { ids = 9 },
    },
    deepseek = {
        protocol = "openai-chat", keys = { "DEEPSEEK_API_KEY" },
        base_var = "DEEPSEEK_BASE_URL", base = "https://api.deepseek.com/v1",
    },
}
