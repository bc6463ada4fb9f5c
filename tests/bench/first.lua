-- One request, as soon as the program can make it. The server knows when its first byte came in (Q1).
local lash = require "lash"

lash.agent { name = "bench", model = "openai/bench", instructions = "Answer." }:run("Say something.")
