"""Draws the growth of costs with work as an SVG: both axes logarithmic, so that what grows with its work is a straight
line beside the dashed one."""
import math

WIDTH, HEIGHT, LEFT, TOP, SIZE = 760, 560, 70, 50, 420
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")     # told apart by colour-blind eyes too


def number(value):
    return "%.0f" % value if value >= 100 else "%.3g" % value


def text(x, y, words, anchor="start", size=12, more=""):
    words = words.replace("&", "&amp;").replace("<", "&lt;")
    return '<text x="%.1f" y="%.1f" font-size="%d" text-anchor="%s"%s>%s</text>' % (x, y, size, anchor, more, words)


def plot(factors, series):
    """series: list of (name, unit, cost at each factor). Costs are drawn beside the cost at the first factor."""
    shares = [value / max(values[0], 1e-9) for _, _, values in series for value in values]
    top = max(2, math.ceil(math.log10(max(max(shares), factors[-1]))))
    low = min(0, math.floor(math.log10(max(min(shares), 1e-3))))
    right = math.log10(factors[-1])

    def at(factor, share):
        share = math.log10(max(share, 10 ** low))
        return LEFT + SIZE * math.log10(factor) / right, TOP + SIZE * (top - share) / (top - low)

    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif">' % (
        WIDTH, HEIGHT + 18 * len(series)), '<rect width="100%" height="100%" fill="white"/>',
           text(LEFT, 28, "Cost as work grows, each beside its cost at 1x", size=16)]
    for power in range(low, top + 1):
        y = at(1, 10 ** power)[1]
        out += ['<path d="M%d %.1fH%d" stroke="#ddd"/>' % (LEFT, y, LEFT + SIZE),
                text(LEFT - 8, y + 4, "%gx" % 10 ** power, "end")]
    for factor in factors:
        x = at(factor, 1)[0]
        out += ['<path d="M%.1f %dV%d" stroke="#ddd"/>' % (x, TOP, TOP + SIZE),
                text(x, TOP + SIZE + 20, "%dx" % factor, "middle")]
    ends = at(1, 1) + at(factors[-1], factors[-1])
    out.append('<path d="M%.1f %.1fL%.1f %.1f" stroke="#888" stroke-dasharray="5 5"/>' % ends)
    out.append(text(LEFT + SIZE / 2, TOP + SIZE + 42, "work; dashed: cost grows as work does", "middle"))
    for n, (name, unit, values) in enumerate(series):
        colour = COLOURS[n % len(COLOURS)]
        points = [at(factor, value / max(values[0], 1e-9)) for factor, value in zip(factors, values)]
        out.append('<path d="M%s" fill="none" stroke="%s" stroke-width="2"/>' % (
            "L".join("%.1f %.1f" % point for point in points), colour))
        out += ['<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/>' % (*point, colour) for point in points]
        told = ", ".join(number(value) for value in values)
        y = TOP + SIZE + 70 + 18 * n
        out += ['<rect x="%d" y="%d" width="14" height="10" fill="%s"/>' % (LEFT, y - 9, colour),
                text(LEFT + 22, y, "%s: %s %s" % (name, told, unit))]
    return "\n".join(out + ["</svg>"]) + "\n"
