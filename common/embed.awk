# Turn text files into one C table: awk -v table=NAME -f embed.awk FILE...
# In OpenCL sources, #include "kernels/..." is replaced by the file it names, once
# a source, between #line directives that keep the compiler's messages right.
function quoted(line) {
    gsub(/\\/, "\\\\&", line); gsub(/"/, "\\\"", line); gsub(/\t/, "\\t", line)
    return "    \"" line "\\n\","
}
function emit(line) { print quoted(line); count++ }
function embed(path, is_cl,    line, number, included) {
    if (is_cl) emit("#line 1 \"" path "\"")
    number = 0
    while ((getline line < path) > 0) {
        number++
        if (is_cl && match(line, /^#include "kernels\/[^"]+"/)) {
            included = line; sub(/^#include "/, "", included); sub(/".*/, "", included)
            if (!((name, included) in seen)) {
                seen[name, included] = 1
                embed(included, 1)
            }
            emit("#line " number + 1 " \"" path "\"")
        } else {
            emit(line)
        }
    }
    close(path)
}
BEGIN {
    print "#include \"common/embedded.h\"\n"
    for (i = 1; i < ARGC; i++) {
        name = ARGV[i]; count = 0
        print "static const char *const file_" i "[] = {"
        embed(name, name ~ /\.cl$/)
        print "};\n"
        counts[i] = count
    }
    print "const struct embedded_file " table "[] = {"
    for (i = 1; i < ARGC; i++) print "    { \"" ARGV[i] "\", file_" i ", " counts[i] " },"
    print "    { 0 },\n};"
}
