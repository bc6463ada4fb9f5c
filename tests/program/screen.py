"""A terminal's screen as text: what a person would see of the bytes that a program writes. Knows what readline
and lash use of xterm; anything else is an error, so that nothing is overlooked."""
import re
import unicodedata

SEQUENCE = re.compile(r"\x1b(?:\[([?>=]?)([0-9;]*)([@-~])|\]([^\x07\x1b]*)(?:\x07|\x1b\\)|([()])(.)|([78=>DMEc]))")
UNFINISHED = re.compile(r"\x1b(?:\[[?>=]?[0-9;]*|\][^\x07]*|[()])?$")


def width(char):
    """Cells that a character takes."""
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def fold(text, columns):
    """The lines of a text as a terminal breaks them."""
    lines = []
    for line in text.split("\n"):
        used, start = 0, 0
        for at, char in enumerate(line):
            if used + width(char) > columns:
                lines.append(line[start:at])
                used, start = 0, at
            used += width(char)
        lines.append(line[start:])
    return [line.rstrip() for line in lines]


class Screen:
    """rows x columns cells; lines that leave at the top are kept in `gone`. `modes` are the private ones that are
    on (2004: bracketed paste). y and x are where the cursor is; `wrap`: behind the last column."""

    def __init__(self, columns=80, rows=24):
        self.columns, self.rows = columns, rows
        self.cells = [self.blank() for _ in range(rows)]
        self.gone, self.rest, self.modes = [], "", set()
        self.x = self.y = 0
        self.wrap = False
        self.bells = 0

    def blank(self):
        return [" "] * self.columns

    # ---- what is seen ----

    def row(self, y):
        return "".join(self.cells[y]).rstrip()

    def text(self):
        """The screen; no blanks at the end of lines, no empty lines at its end."""
        return "\n".join(self.row(y) for y in range(self.rows)).rstrip("\n")

    def lines(self):
        """All lines since the start: those that have left the screen, too."""
        return self.gone + [self.row(y) for y in range(self.rows)]

    def at(self):
        """Which of lines() the cursor is in."""
        return len(self.gone) + self.y

    # ---- what comes ----

    def feed(self, text):
        text, self.rest = self.rest + text, ""
        at = 0
        while at < len(text):
            if text[at] == "\x1b":
                if UNFINISHED.match(text, at):
                    self.rest = text[at:]
                    return
                found = SEQUENCE.match(text, at)
                assert found, "a sequence that this terminal does not know: %r" % text[at:at + 20]
                self.sequence(found)
                at = found.end()
            else:
                self.char(text[at])
                at += 1

    def char(self, char):
        if char == "\n":
            self.down()
        elif char == "\r":
            self.go(self.y, 0)
        elif char == "\b":
            self.go(self.y, self.x - 1)
        elif char == "\t":
            self.go(self.y, self.x // 8 * 8 + 8)
        elif char == "\a":
            self.bells += 1
        elif char == "\0":
            pass  # readline's first character of an empty row behind a full one: terminals do not mind
        else:
            assert char >= " " and char != "\x7f", "a control character on the screen: %r" % char
            self.put(char, width(char))

    def put(self, char, cells):
        if cells == 0:  # belongs to the character before
            at = self.x if self.wrap else self.x - 1
            while at > 0 and self.cells[self.y][at] == "":
                at -= 1
            self.cells[self.y][at] += char
            return
        if self.wrap or self.x + cells > self.columns:
            self.down()
            self.x = 0
        self.wrap = False
        row = self.cells[self.y]
        self.split(row, self.x)
        self.split(row, self.x + cells)
        row[self.x] = char
        if cells == 2:
            row[self.x + 1] = ""
        self.x += cells
        if self.x >= self.columns:
            self.x, self.wrap = self.columns - 1, True

    def split(self, row, x):
        """Half of a wide character is none."""
        if 0 < x < self.columns and row[x] == "":
            row[x - 1] = row[x] = " "

    def down(self):
        self.wrap = False
        if self.y < self.rows - 1:
            self.y += 1
        else:
            self.gone.append(self.row(0))
            del self.cells[0]
            self.cells.append(self.blank())

    def go(self, y, x):
        self.y, self.x, self.wrap = min(max(y, 0), self.rows - 1), min(max(x, 0), self.columns - 1), False

    def sequence(self, found):
        private, numbers, final, title, charset, _, single = found.groups()
        if title is not None or charset or single in ("=", ">"):
            return
        assert not single, "a sequence that this terminal does not know: %r" % found.group()
        if private:
            assert private == "?" and final in "hl", found.group()
            for mode in numbers.split(";"):
                (self.modes.add if final == "h" else self.modes.discard)(int(mode))
            return
        args = [int(n or 0) for n in numbers.split(";")]
        n = max(args[0], 1)
        if final in "ABCD":
            self.go(self.y + n * {"A": -1, "B": 1}.get(final, 0), self.x + n * {"C": 1, "D": -1}.get(final, 0))
        elif final == "G":
            self.go(self.y, n - 1)
        elif final == "d":
            self.go(n - 1, self.x)
        elif final in "Hf":
            self.go(n - 1, max(args[1] if len(args) > 1 else 1, 1) - 1)
        elif final in "JK":
            self.erase(final, args[0])
        elif final in "P@X":
            self.shift(final, n)
        else:
            assert final == "m", "a sequence that this terminal does not know: %r" % found.group()

    def erase(self, what, how):
        from_x, to_x = (self.x, self.columns) if how == 0 else (0, self.x + 1) if how == 1 else (0, self.columns)
        if what == "J" and how == 2:  # what stood there can still be scrolled to, as on many terminals
            self.gone += self.text().split("\n")
        self.cells[self.y][from_x:to_x] = [" "] * (to_x - from_x)
        if what == "J":
            for y in range(self.rows):
                if (how == 0 and y > self.y) or (how == 1 and y < self.y) or how >= 2:
                    self.cells[y] = self.blank()
        self.wrap = False

    def shift(self, what, n):
        row, x = self.cells[self.y], self.x
        if what == "P":
            row = row[:x] + row[x + n:] + [" "] * n
        elif what == "@":
            row = row[:x] + [" "] * n + row[x:]
        else:
            row = row[:x] + [" "] * n + row[x + n:]
        self.cells[self.y] = row[:self.columns]

    def narrow(self, columns):
        """Fewer columns as most terminals do it: lines are broken anew, and the cursor stays at its text."""
        made, y = [], 0
        for at, row in enumerate(self.cells):
            used = len(self.row(at)) if at != self.y else max(len(self.row(at)), self.x + 1)
            parts = [row[i:min(i + columns, used)] for i in range(0, max(used, 1), columns)]
            if at == self.y:
                y = len(made) + self.x // columns
            made += [(part + [" "] * columns)[:columns] for part in parts]
        while len(made) > self.rows and len(made) - 1 > y and not "".join(made[-1]).strip():
            del made[-1]
        self.columns, self.cells, self.y, self.x = columns, made, y, self.x % columns
        while len(self.cells) > self.rows:
            self.gone.append(self.row(0))
            del self.cells[0]
            self.y -= 1

    def resize(self, columns, rows):
        """As xterm does it: lines are cut, not broken anew; the cursor stays on the screen."""
        while rows < self.rows:
            if self.y == self.rows - 1:
                self.gone.append(self.row(0))
                del self.cells[0]
                self.y -= 1
            else:
                del self.cells[-1]
            self.rows -= 1
        self.columns = columns
        self.cells = [(row + [" "] * columns)[:columns] for row in self.cells]
        self.cells += [self.blank() for _ in range(rows - self.rows)]
        self.rows = rows
        self.go(self.y, self.x)
