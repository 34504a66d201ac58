"""Charts of bench.py: SVG that follows the page's or the system's choice of light and dark."""
from html import escape

LIGHT = {"page": "#ffffff", "ink": "#1f2328", "faint": "#d0d7de", "series": ("#0a58a8", "#b35900", "#4d7a1f", "#6e5494")}
DARK = {"page": "#0d1117", "ink": "#e6edf3", "faint": "#3d444d", "series": ("#58a6ff", "#ffa657", "#7ee787", "#d2a8ff")}


def rules(colours):
    """No variables: not every viewer knows them."""
    series = "".join(".fill%d { fill: %s; } .line%d { stroke: %s; fill: none; }\n" % (i, colour, i, colour)
                     for i, colour in enumerate(colours["series"]))
    return ("text { fill: %(ink)s; } .page { fill: %(page)s; } .axis { stroke: %(faint)s; fill: none; }\n" % colours) + series


STYLE = ("<style>\ntext { font: 13px sans-serif; } .title { font-size: 15px; font-weight: bold; }\n" + rules(LIGHT) +
         "@media (prefers-color-scheme: dark) {\n" + rules(DARK) + "}\n</style>")


def colour(index):
    return index % 4


def number(value):
    return "%.0f" % value if value >= 100 else "%.1f" % value if value >= 10 else "%.2f" % value


def write(path, width, height, title, parts):
    head = ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">'
            '<title>%s</title>%s<rect class="page" width="%d" height="%d"/><text class="title" x="16" y="26">%s</text>'
            % (width, height, width, height, escape(title), STYLE, width, height, escape(title)))
    with open(path, "w") as file:
        file.write(head + "\n" + "\n".join(parts) + "\n</svg>\n")


def bars(path, title, groups):
    """groups: [(name, [(label, value)])]; each group has a scale of its own."""
    parts, y = [], 44
    names = []
    for _, entries in groups:
        names += [label for label, _ in entries if label not in names]
    for name, entries in groups:
        parts.append('<text x="16" y="%d">%s</text>' % (y + 14, escape(name)))
        y += 22
        most = max(value for _, value in entries) or 1
        for label, value in entries:
            parts.append('<text x="150" y="%d" text-anchor="end">%s</text>' % (y + 15, escape(label)))
            parts.append('<rect x="160" y="%d" width="%.1f" height="18" rx="2" class="fill%d"/>'
                         % (y + 1, 400 * value / most, colour(names.index(label))))
            parts.append('<text x="%.1f" y="%d">%s</text>' % (166 + 400 * value / most, y + 15, number(value)))
            y += 24
        y += 10
    write(path, 640, y + 6, title, parts)


def curves(path, title, series):
    """series: [(name, [(x, y)])] from 0 on, both axes linear."""
    left, top, width, height = 64, 48, 500, 240
    most_x = max(x for _, points in series for x, _ in points) or 1
    most_y = 1.1 * max(y for _, points in series for _, y in points) or 1
    parts = ['<path class="axis" d="M%d %d V%d H%d"/>' % (left, top, top + height, left + width)]
    for step in range(5):
        x, y = left + width * step / 4, top + height - height * step / 4
        parts.append('<text x="%.0f" y="%d" text-anchor="middle">%d</text>' % (x, top + height + 18, most_x * step / 4))
        parts.append('<text x="%d" y="%.0f" text-anchor="end">%s</text>' % (left - 6, y + 4, number(most_y * step / 4)))
        parts.append('<path class="axis" d="M%d %.1f H%d"/>' % (left, y, left + width))
    for index, (name, points) in enumerate(series):
        places = [(left + width * x / most_x, top + height - height * y / most_y) for x, y in points]
        if not places:
            continue
        parts.append('<polyline class="line%d" stroke-width="2" points="%s"/>'
                     % (colour(index), " ".join("%.1f,%.1f" % place for place in places)))
        parts += ['<circle cx="%.1f" cy="%.1f" r="3" class="fill%d"/>' % (x, y, colour(index)) for x, y in places]
        parts.append('<text x="%.1f" y="%.1f" class="fill%d">%s</text>'
                     % (places[-1][0] + 8, places[-1][1] + 4, colour(index), escape(name)))
    write(path, 640, top + height + 36, title, parts)
