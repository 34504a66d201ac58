/* fuzz_chat_template: any bytes as a chat template; it renders or says why not. */
#include "runtime/jinja.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* What a template is given in real life: a system turn, tool calls, a tool's answer, tools. */
static const char variables[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": \"user\", \"content\": \" Hi \\n\"},"
    " {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"id\": \"123456789\", \"function\":"
    " {\"name\": \"f\", \"arguments\": {\"x\": 1, \"y\": [true, 0.5, \"\\u00e9\"]}}}]},"
    " {\"role\": \"tool\", \"content\": \"<b>42</b>\", \"name\": \"f\"},"
    " {\"role\": \"assistant\", \"content\": \"<think>x</think> \\ud83e\\udd99 Done\"}, {\"role\": \"user\", \"content\": \"\"}],"
    " \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {\"type\": \"object\","
    " \"properties\": {\"x\": {\"type\": \"integer\"}}, \"required\": [\"x\"]}}}], \"documents\": null,"
    " \"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"add_generation_prompt\": true, \"n\": -3}";

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static json_t *given;
    struct error err = { 0 };
    struct text out;
    if (!given && !(given = json_read_text(variables, strlen(variables), "variables", &err)))
        abort();
    text_init(&out);
    bool ok = jinja_render((const char *)bytes, size, "fuzz", given, &out, &err);
    if (!ok && (err.kind == ERROR_NONE || !err.text[0] || out.length))
        abort();
    if (out.length > JINJA_OUTPUT_LIMIT || strlen(err.text) >= sizeof err.text - 1 || strpbrk(err.text, "\n\r\t"))
        abort();
    text_release(&out);
    return 0;
}
