/* Strings: by length, by format, by pattern. */
#include "runtime/json_schema_parts.h"

#include <string.h>

#define LONGEST 20000u       /* a longer maxLength is not used up */

void schema_quote(struct text *to, const char *bytes, size_t size) {
    text_append(to, " \"");
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c == '"' || c == '\\')
            text_append_format(to, "\\%c", c);
        else if (c < ' ' || c == 0x7f)
            text_append_format(to, "\\x%02x", c);
        else
            text_append_char(to, (char)c);
    }
    text_append_char(to, '"');
}

static const struct { const char *name, *expression; } formats[] = {
    { "date", " date" },
    { "time", " time" },
    { "date-time", " date \"T\" time" },
    { "uuid", " hex{8} \"-\" hex{4} \"-\" hex{4} \"-\" hex{4} \"-\" hex{12}" },
    { "ipv4", " octet (\".\" octet){3}" },
    { "email", " [a-z0-9]{1,20} ([._+-] [a-z0-9]{1,20}){0,3} \"@\""
      " [a-z0-9]{1,20} ([.-] [a-z0-9]{1,20}){0,3} \".\" [a-z]{2,10}" },
    { "uri", " \"http\" \"s\"? \"://\" [a-z0-9]{1,30} ([.-] [a-z0-9]{1,30}){1,3}"
      " (\"/\" [A-Za-z0-9._~-]{0,40}){0,8}" },
};

static bool write_format(struct schema_translator *translator, const char *format, struct text *to) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(format, formats[i].name) == 0) {
            text_append(to, formats[i].expression);
            return true;
        }
    return schema_refuse(translator, "the format '%.60s' is not supported; date, time, date-time, uuid, ipv4, email and "
                         "uri are; leave it out, or give a pattern", format);
}

bool schema_write_string(struct schema_translator *translator, const json_t *schema, struct text *to) {
    const json_t *pattern = json_object_get(schema, "pattern"), *format = json_object_get(schema, "format");
    uint32_t least = 0, most = UINT32_MAX;
    if (!schema_get_count(translator, schema, "minLength", &least)
        || !schema_get_count(translator, schema, "maxLength", &most))
        return false;
    bool has_length = least || most != UINT32_MAX;
    if ((pattern && (format || has_length)) || (format && has_length))
        return schema_refuse(translator, "'%s' cannot be combined with %s", pattern ? "pattern" : "format",
                             pattern && format ? "'format'" : "'minLength' or 'maxLength'");
    if ((pattern && !json_is_string(pattern)) || (format && !json_is_string(format)))
        return schema_refuse(translator, "'%s' is no string", pattern ? "pattern" : "format");
    if (least > most)
        return schema_refuse(translator, "'minLength' is larger than 'maxLength'");
    if (least > LONGEST)
        return schema_refuse(translator, "'minLength' is more than %u", LONGEST);
    if (!pattern && !format && !has_length) {
        text_append(to, " string");
        return true;
    }
    text_append(to, " \"\\\"\"");
    bool ok = true;
    if (pattern)
        ok = schema_write_pattern(translator, json_string_value(pattern), json_string_length(pattern), to);
    else if (format)
        ok = write_format(translator, json_string_value(format), to);
    else if (most == UINT32_MAX)
        text_append_format(to, " char{%u,}", least);
    else
        text_append_format(to, " char{%u,%u}", least, most < LONGEST ? most : LONGEST);
    text_append(to, " \"\\\"\"");
    return ok;
}
